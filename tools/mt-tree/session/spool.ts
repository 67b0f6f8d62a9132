/** Bytes that can be read from any offset, any number of times: kept in memory at first, then in an unnamed file. */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** As much stays in memory; the rest goes to disk. */
const MEMORY_BYTES = 4 * 2 ** 20;

export class Spool {
  #pieces: Buffer[] = [];
  #inMemory = 0;
  #fd: number | undefined;
  #onDisk = 0;

  get size(): number {
    return this.#onDisk + this.#inMemory;
  }

  /** Throws where the disk is full. */
  append(bytes: Buffer): void {
    // Copied: streams hand out views of a buffer that they use again.
    this.#pieces.push(Buffer.from(bytes));
    this.#inMemory += bytes.length;
    if (this.#inMemory > MEMORY_BYTES) this.#toDisk();
  }

  #toDisk(): void {
    if (this.#fd === undefined) {
      const dir = mkdtempSync(join(tmpdir(), "mt-spool-"));
      const path = join(dir, "spool");
      this.#fd = openSync(path, "w+", 0o600);
      rmSync(dir, { recursive: true });
    }
    for (const piece of this.#pieces) {
      for (let at = 0; at < piece.length; ) at += writeSync(this.#fd, piece, at);
      this.#onDisk += piece.length;
      this.#inMemory -= piece.length;
    }
    this.#pieces = [];
  }

  /** At most `n` bytes from this offset on; none where there are no more. */
  read(offset: number, n: number): Buffer {
    if (offset < this.#onDisk) {
      const bytes = Buffer.allocUnsafe(Math.min(n, this.#onDisk - offset));
      return bytes.subarray(0, readSync(this.#fd!, bytes, 0, bytes.length, offset));
    }
    const out: Buffer[] = [];
    let at = this.#onDisk;
    let need = n;
    for (const piece of this.#pieces) {
      const skip = Math.max(0, offset - at);
      if (skip < piece.length && need > 0) {
        const part = piece.subarray(skip, skip + need);
        out.push(part);
        need -= part.length;
      }
      at += piece.length;
    }
    return out.length === 1 ? out[0]! : Buffer.concat(out);
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    this.#pieces = [];
    this.#inMemory = 0;
    this.#onDisk = 0;
  }
}
