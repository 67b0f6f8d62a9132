/**
 * The writer for stdout. It is synchronous, so that nothing is lost at exit, nothing piles up in memory, and a full
 * disk is an error. Writes whole lines in batches.
 */
import { write, writeSync } from "node:fs";
import { Writable } from "node:stream";
import { cannot, MtFailure, mtError } from "../errors.ts";
import { isStandard, nameOf, openAnew, RETRY_MS_MAX, wasClosed } from "./descriptors.ts";

const BATCH_CHARACTERS = 64 * 1024;
const LARGE_BYTES = 16 * 1024;

/** Thrown when the reader of stdout has gone (EPIPE). */
export class StdoutClosed extends Error {}

export class LineWriter {
  readonly #fd: number;
  #batch: string[] = [];
  /** Whole lines as bytes, to be written before the batch. */
  #bytes: Uint8Array[] = [];
  #size = 0;

  constructor(fd = 1) {
    this.#fd = fd;
  }

  /** Queues one line, given without its newline. */
  line(text: string): void {
    this.#batch.push(text);
    this.#size += text.length + 1;
    if (this.#size >= BATCH_CHARACTERS) this.flush();
  }

  /** Queues whole lines with their newlines. The bytes must not change until `flush`. */
  lines(bytes: Uint8Array): void {
    if (this.#batch.length > 0) this.#settle();
    this.#bytes.push(bytes);
    this.#size += bytes.length;
    if (this.#size >= BATCH_CHARACTERS) this.flush();
  }

  #settle(): void {
    this.#bytes.push(Buffer.from(`${this.#batch.join("\n")}\n`));
    this.#batch = [];
  }

  /** Writes what is queued. Throws StdoutClosed if the reader has gone, MtFailure (`io`) if it cannot be written. */
  flush(): void {
    if (this.#batch.length > 0) this.#settle();
    const pieces = this.#bytes;
    if (pieces.length === 0) return;
    this.#bytes = [];
    this.#size = 0;
    // Join small pieces into one write; write large ones without a copy.
    let small: Uint8Array[] = [];
    const write = () => {
      if (small.length > 0) writeAll(this.#fd, small.length === 1 ? small[0]! : Buffer.concat(small));
      small = [];
    };
    for (const piece of pieces)
      if (piece.length < LARGE_BYTES) small.push(piece);
      else {
        write();
        writeAll(this.#fd, piece);
      }
    write();
  }
}

const pause = new Int32Array(new SharedArrayBuffer(4));

/** Writes every byte, waiting for room if the descriptor is non-blocking. Throws StdoutClosed or MtFailure (`io`). */
export function writeAll(fd: number, bytes: Uint8Array): void {
  let to = fd;
  let pause_ms = 1;
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(to, bytes, at);
      pause_ms = 1;
    } catch (thrown) {
      const code = (thrown as NodeJS.ErrnoException).code ?? "";
      if (code === "EINTR") continue;
      if (code !== "EAGAIN") throw cannotWrite(fd, code, thrown);
      // Another process made it non-blocking: wait for the reader.
      const own = to === fd && isStandard(fd) ? openAnew(fd) : undefined;
      if (own !== undefined) to = own;
      else Atomics.wait(pause, 0, 0, pause_ms);
      pause_ms = Math.min(2 * pause_ms, RETRY_MS_MAX);
    }
  }
  // `>&-`: Bun has put /dev/null there, which takes everything.
  if (fd === 1 && bytes.length > 0 && wasClosed(1)) throw cannotWrite(1, "EBADF", undefined);
}

/** stdout as a stream, for whoever must not block: writes run in the background, and `drain` says that there is room. */
export function stdoutStream(): Writable {
  const put = (bytes: Uint8Array, at: number, pause_ms: number, done: (error?: Error | null) => void): void =>
    write(1, bytes, at, bytes.length - at, null, (thrown, n) => {
      if (!thrown && at + n < bytes.length) return put(bytes, at + n, 1, done);
      if (thrown?.code !== "EAGAIN" && thrown?.code !== "EINTR")
        return done(thrown && cannotWrite(1, thrown.code ?? "", thrown));
      setTimeout(put, pause_ms, bytes, at, Math.min(2 * pause_ms, RETRY_MS_MAX), done);
    });
  return new Writable({ write: (chunk: Buffer, _, done) => put(chunk, 0, 1, done) });
}

function cannotWrite(fd: number, code: string, thrown: unknown): Error {
  if (code === "EPIPE") return new StdoutClosed();
  if (code === "EBADF")
    return new MtFailure(
      mtError(
        "io",
        `Cannot write to ${nameOf(fd)}: it is ${isStandard(fd) && wasClosed(fd) ? "closed" : "not open for writing"}`,
      ),
    );
  return new MtFailure(cannot("write to", nameOf(fd), thrown));
}
