/**
 * The one writer on stdout: synchronous, so that nothing is lost at exit, nothing piles up in memory and
 * a full disk is an error. Writes whole lines in batches.
 */
import { write, writeSync } from "node:fs";
import { Writable } from "node:stream";
import { cannot, MtFailure, mtError } from "../errors.ts";
import { isStandard, nameOf, openAnew, RETRY_MS_MAX, wasClosed } from "./descriptors.ts";

const BATCH_CHARACTERS = 64 * 1024;
const LARGE_BYTES = 16 * 1024;

/** Nobody reads stdout any more. */
export class StdoutClosed extends Error {}

export class LineWriter {
  readonly #fd: number;
  #batch: string[] = [];
  /** Whole lines as bytes that come before what is in the batch. */
  #bytes: Uint8Array[] = [];
  #size = 0;

  constructor(fd = 1) {
    this.#fd = fd;
  }

  /** Queues one line; its newline is added here. */
  line(text: string): void {
    this.#batch.push(text);
    this.#size += text.length + 1;
    if (this.#size >= BATCH_CHARACTERS) this.flush();
  }

  /** Queues lines as they are, newlines and all. The bytes must not change before they are written. */
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

  /** Writes what is queued. Throws StdoutClosed where the reader has gone, MtFailure where the disk is full. */
  flush(): void {
    if (this.#batch.length > 0) this.#settle();
    const pieces = this.#bytes;
    if (pieces.length === 0) return;
    this.#bytes = [];
    this.#size = 0;
    // Small pieces are put together; a large one is not worth a copy.
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

/** Writes every byte, or says why not; to a descriptor that is non-blocking and full, once there is room. */
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
      // Somebody made it non-blocking: wait for its reader.
      const own = to === fd && isStandard(fd) ? openAnew(fd) : undefined;
      if (own !== undefined) to = own;
      else Atomics.wait(pause, 0, 0, pause_ms);
      pause_ms = Math.min(2 * pause_ms, RETRY_MS_MAX);
    }
  }
  // What a shell closed takes every byte, and they are gone.
  if (fd === 1 && bytes.length > 0 && wasClosed(1)) throw cannotWrite(1, "EBADF", undefined);
}

/** stdout for who must not wait for its reader: bytes are written while others work, and `drain` tells of room. */
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
