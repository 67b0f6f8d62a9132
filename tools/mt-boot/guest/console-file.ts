/**
 * The file that a guest's console is logged to: its last lines, and following it. QEMU appends to it; the
 * supervisor cuts a large one down to its end; a guest that is started anew gets a new file.
 */
import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";

const READ_BYTES = 256 * 1024;
/** How much of what was read last is remembered, to find the place again in a file that was cut. */
const LAST_BYTES = 4096;

/** The last lines; the very last may be incomplete. @param lines absent: the whole file */
export function lastLines(file: string, lines?: number): Buffer {
  const reader = new ConsoleFile(file);
  const parts: Buffer[] = [];
  for (let part = reader.read(); part !== undefined && part.length > 0; part = reader.read())
    parts.push(part);
  reader.close();
  const all = Buffer.concat(parts);
  return lines === undefined ? all : all.subarray(startOfLast(all, lines));
}

/** Offset of the last `lines` lines; a newline at the very end does not begin another. */
function startOfLast(bytes: Buffer, lines: number): number {
  if (lines === 0) return bytes.length;
  let at = bytes.length - 1;
  for (let n = 0; n < lines && at >= 0; n++) at = at === 0 ? -1 : bytes.lastIndexOf(10, at - 1);
  return at + 1;
}

/** Reads on from where it stopped, also where the file was cut or replaced meanwhile. */
export class ConsoleFile {
  readonly #path: string;
  #fd: number | undefined;
  #inode: number | undefined;
  #at = 0;
  #last = Buffer.alloc(0);

  /** @param at where to begin, in bytes; Infinity: at its end as it is now */
  constructor(path: string, at = 0) {
    this.#path = path;
    if (at > 0) {
      this.#open();
      this.#at = this.#fd === undefined ? 0 : Math.min(at, fstatSync(this.#fd).size);
    }
  }

  /** The next bytes, READ_BYTES at most; empty: nothing new. Undefined where there is no such file. */
  read(): Buffer | undefined {
    if (this.#replaced()) this.close();
    if (this.#fd === undefined) this.#open();
    if (this.#fd === undefined) return undefined;
    const size = fstatSync(this.#fd).size;
    if (size < this.#at) this.#at = this.#afterLast(size);
    const bytes = Buffer.alloc(Math.min(READ_BYTES, size - this.#at));
    const n = bytes.length === 0 ? 0 : readSync(this.#fd, bytes, 0, bytes.length, this.#at);
    this.#at += n;
    this.#last = Buffer.concat([this.#last, bytes.subarray(0, n)]).subarray(-LAST_BYTES);
    return bytes.subarray(0, n);
  }

  /** The file was cut: where in it what we read last ends. Where that is not in it, all of it is new. */
  #afterLast(size: number): number {
    const all = Buffer.alloc(size);
    const there = all.subarray(0, readSync(this.#fd!, all, 0, size, 0));
    const at = this.#last.length === 0 ? -1 : there.lastIndexOf(this.#last);
    return at < 0 ? 0 : at + this.#last.length;
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    this.#at = 0;
    this.#last = Buffer.alloc(0);
  }

  #open(): void {
    try {
      this.#fd = openSync(this.#path, "r");
      this.#inode = fstatSync(this.#fd).ino;
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== "ENOENT") throw thrown;
    }
  }

  #replaced(): boolean {
    if (this.#fd === undefined) return false;
    return statSync(this.#path, { throwIfNoEntry: false })?.ino !== this.#inode;
  }
}
