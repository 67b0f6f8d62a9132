/** stdin as chunks of bytes, read only as fast as they are used. A non-blocking stdin with nothing to read is waited for, not taken for its end. */
import { fstatSync, read, readSync } from "node:fs";
import { type MtError, MtFailure, mtError } from "../errors.ts";
import { noStdin, openAnew, RETRY_MS_MAX, wasClosed } from "./descriptors.ts";

const CHUNK_BYTES = 64 * 1024;

/** Chunks of up to 64 KiB, each in its own buffer; the next is read meanwhile. Throws MtFailure if stdin cannot be read or the signal comes. */
export async function* stdinChunks(signal?: AbortSignal): AsyncGenerator<Buffer> {
  const readInto = reader();
  const next = async () => {
    const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    const n = await readInto(buffer);
    // Copied, so that keeping a few bytes does not keep the whole buffer.
    return n < CHUNK_BYTES / 4 ? Buffer.from(buffer.subarray(0, n)) : buffer.subarray(0, n);
  };
  for (let coming = next(); ; ) {
    const chunk = await (signal ? unlessAborted(coming, signal) : coming);
    if (!chunk) throw cannotRead("interrupted");
    if (chunk.length === 0) return;
    coming = next();
    // The error is thrown when this chunk is awaited, which may never happen.
    coming.catch(() => {});
    yield chunk;
  }
}

const REFILLED_BYTES = 256 * 1024;

/**
 * Chunks of up to 256 KiB in one buffer that is refilled: copy what you keep beyond the next chunk. For long streams
 * that mostly pass through: allocating a buffer per chunk would take most of the time and memory.
 */
export async function* stdinRefilled(): AsyncGenerator<Buffer> {
  const readInto = reader();
  const buffer = Buffer.allocUnsafeSlow(REFILLED_BYTES);
  const isFile = fstatSync(0).isFile();
  for (;;) {
    // A file never blocks for long; a read in a thread costs as much as the scan of what it reads.
    const n = isFile ? readFile(buffer) : await readInto(buffer);
    if (n === 0) return;
    yield buffer.subarray(0, n);
    // Let signals, timers and other I/O be handled.
    if (isFile) await new Promise((resolve) => setImmediate(resolve));
  }
}

function readFile(buffer: Buffer): number {
  try {
    return readSync(0, buffer, 0, buffer.length, null);
  } catch (thrown) {
    throw cannotRead((thrown as Error).message);
  }
}

/** A function that reads what is available into a buffer and waits if there is nothing: bytes read, 0 at the end. Throws MtFailure if stdin cannot be read. */
function reader(): (buffer: Buffer) => Promise<number> {
  if (wasClosed(0)) throw cannotRead("it is closed");
  let fd = 0;
  return async (buffer) => {
    for (let pause_ms = 1; ; ) {
      try {
        return await readOnce(fd, buffer);
      } catch (thrown) {
        const code = (thrown as NodeJS.ErrnoException).code ?? "";
        if (code === "EINTR") continue;
        if (code === "EISDIR") throw cannotRead("it is a directory");
        if (code === "EBADF") throw cannotRead("it is not open for reading");
        if (code !== "EAGAIN") throw cannotRead((thrown as Error).message);
      }
      // Another process made it non-blocking, and nothing is there yet.
      const own = fd === 0 ? openAnew(0) : undefined;
      if (own !== undefined) fd = own;
      else await new Promise((resolve) => setTimeout(resolve, pause_ms));
      pause_ms = Math.min(2 * pause_ms, RETRY_MS_MAX);
    }
  };
}

function readOnce(fd: number, buffer: Buffer): Promise<number> {
  return new Promise((resolve, reject) =>
    read(fd, buffer, 0, buffer.length, null, (error, bytes) => (error ? reject(error) : resolve(bytes))),
  );
}

/** The usage error for a stdin that gives nothing: a terminal, or closed. Undefined otherwise. */
export function noRecords(hint: string, what = "read records"): MtError | undefined {
  const why = noStdin();
  return why && mtError("usage", `Cannot ${what}: stdin is ${why}`, hint);
}

const cannotRead = (why: string) =>
  new MtFailure(mtError(why === "interrupted" ? "failed" : "io", `Cannot read stdin: ${why}`));

/** All of stdin, for commands that need the whole before they begin. */
export async function readStdin(signal: AbortSignal): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stdinChunks(signal)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/**
 * The next chunk, or undefined if aborted. (Promise.race with one promise for the abort would keep every chunk in
 * memory until the stream ends.)
 */
export function nextUnlessAborted<T>(
  iterator: AsyncIterator<T>,
  signal: AbortSignal,
): Promise<IteratorResult<T> | undefined> {
  return signal.aborted ? Promise.resolve(undefined) : unlessAborted(iterator.next(), signal);
}

function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  if (signal.aborted) return Promise.resolve(undefined);
  return new Promise((resolve, reject) => {
    const interrupted = () => resolve(undefined);
    signal.addEventListener("abort", interrupted, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", interrupted));
  });
}
