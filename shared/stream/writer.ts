/**
 * The one writer on stdout: synchronous, so that nothing is lost at exit, nothing piles up in memory and
 * a full disk is an error. Writes whole lines in batches.
 */
import { writeSync } from "node:fs";
import { MtFailure, mtError } from "../errors.ts";

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

/** Writes every byte, or says why not. */
export function writeAll(fd: number, bytes: Uint8Array): void {
  let at = 0;
  while (at < bytes.length) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (thrown) {
      const code = (thrown as NodeJS.ErrnoException).code;
      if (code === "EAGAIN") {
        // Somebody made our pipe non-blocking: wait for its reader, a millisecond at a time.
        Atomics.wait(pause, 0, 0, 1);
        continue;
      }
      if (code === "EINTR") continue;
      if (code === "EPIPE" || code === "EBADF") throw new StdoutClosed();
      const why = code === "ENOSPC" || code === "EDQUOT" ? "the disk is full" : String(code ?? thrown);
      throw new MtFailure(
        mtError("io", `Cannot write to stdout: ${why}`, "free some space, then run it again"),
      );
    }
  }
}
