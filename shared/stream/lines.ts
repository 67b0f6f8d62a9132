/**
 * Bytes in, lines out. A line is text with its newline taken off; one that is no UTF-8 is told apart.
 * Decodes whole chunks at once, which is what makes passing records on fast.
 */

/** A line longer than this is no record: it is cut, and its length told. */
export const LINE_BYTES_MAX = 64 * 1024 * 1024;

/** What an overlong line keeps of its beginning. */
const HEAD_BYTES = 4096;

/** What comes out: lines as text; `bad` where the bytes were no UTF-8 or too long (then cut). */
export interface RawLine {
  text: string;
  bad?: string;
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Cuts chunks into lines. One a stream. */
export class LineSplitter {
  /** Pieces of a line that has not ended yet. */
  #tail: Buffer[] = [];
  #tailBytes = 0;
  #overlong = 0;

  /** The lines that this chunk ends. */
  push(chunk: Buffer): RawLine[] {
    const last = chunk.lastIndexOf(10);
    if (last < 0) {
      this.#keep(chunk);
      return [];
    }
    const whole = this.#join(chunk.subarray(0, last));
    if (last + 1 < chunk.length) this.#keep(chunk.subarray(last + 1));
    return whole;
  }

  /** The last line where the stream ended without a newline. */
  end(): RawLine[] {
    return this.#tailBytes === 0 && this.#overlong === 0 ? [] : this.#join(Buffer.alloc(0));
  }

  #keep(piece: Buffer): void {
    if (this.#overlong > 0) {
      this.#overlong += piece.length;
      return;
    }
    if (this.#tailBytes + piece.length > LINE_BYTES_MAX) {
      // All but its beginning is let go at once.
      this.#overlong = this.#tailBytes + piece.length;
      this.#tail = [headOf([...this.#tail, piece])];
      this.#tailBytes = 0;
      return;
    }
    // A copy: streams hand out views of a buffer that they fill again.
    this.#tail.push(Buffer.from(piece));
    this.#tailBytes += piece.length;
  }

  #join(rest: Buffer): RawLine[] {
    const overlong = this.#overlong;
    const tail = this.#tail;
    const tailBytes = this.#tailBytes;
    this.#tail = [];
    this.#tailBytes = 0;
    this.#overlong = 0;
    if (overlong > 0) {
      const newline = rest.indexOf(10);
      const length = overlong + (newline < 0 ? rest.length : newline);
      const head = {
        text: headOf(tail).toString(),
        bad: `${length} bytes, more than ${LINE_BYTES_MAX}`,
      };
      return newline < 0 ? [head] : [head, ...decode(rest.subarray(newline + 1))];
    }
    return decode(tailBytes === 0 ? rest : Buffer.concat([...tail, rest], tailBytes + rest.length));
  }
}

function headOf(pieces: readonly Buffer[]): Buffer {
  const head: Buffer[] = [];
  let bytes = 0;
  for (const piece of pieces) {
    if (bytes >= HEAD_BYTES) break;
    head.push(piece.subarray(0, HEAD_BYTES - bytes));
    bytes += piece.length;
  }
  return Buffer.concat(head);
}

function decode(bytes: Buffer): RawLine[] {
  try {
    return strict
      .decode(bytes)
      .split("\n")
      .map((text) => ({ text }));
  } catch {
    const lines: RawLine[] = [];
    for (let from = 0; from <= bytes.length; ) {
      const newline = bytes.indexOf(10, from);
      const to = newline < 0 ? bytes.length : newline;
      const line = bytes.subarray(from, to);
      try {
        lines.push({ text: strict.decode(line) });
      } catch {
        lines.push({ text: line.toString("utf8"), bad: "it is no UTF-8" });
      }
      from = to + 1;
    }
    return lines;
  }
}
