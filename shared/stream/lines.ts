/** Bytes in, lines out: as blocks of whole lines, or as text without newlines. Lines that are not UTF-8 or too long are marked. */
import buffer from "node:buffer";

/** A longer line is no record: it is cut, and the error says how long it was. */
export const LINE_BYTES_MAX = 64 * 1024 * 1024;

/** How much of an overlong line is kept. */
const HEAD_BYTES = 4096;

/** A line as text. `bad` says why it cannot be read: not UTF-8, or too long (then it is cut). */
export interface RawLine {
  text: string;
  bad?: string;
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Whether bytes are UTF-8. Deno's node:buffer has no isUtf8. */
export const isUtf8: (bytes: Uint8Array) => boolean = buffer.isUtf8 ?? decodes;

function decodes(bytes: Uint8Array): boolean {
  try {
    strict.decode(bytes);
    return true;
  } catch {
    return false;
  }
}

/** The bytes of whole lines with their newlines (the last of a stream may lack one); or one overlong line, cut. */
export type Block = Buffer | RawLine;

const EMPTY = Buffer.alloc(0);
/** A byte order mark, which some editors write before the first line: it is dropped. */
const MARK = Buffer.of(0xef, 0xbb, 0xbf);

/** Cuts a stream's chunks into blocks of whole lines. */
export class BlockSplitter {
  /** The first bytes of the stream, while they may still be a byte order mark. */
  #mark: Buffer | undefined = EMPTY;
  /** Pieces of the line that has not ended yet. */
  #tail: Buffer[] = [];
  #tailBytes = 0;
  #overlong = 0;

  /** The lines that end in this chunk. They may be views of it. */
  push(bytes: Buffer): Block[] {
    const chunk = this.#mark === undefined ? bytes : this.#withoutMark(this.#mark, bytes);
    const last = chunk.lastIndexOf(10);
    if (last < 0) {
      this.#keep(chunk);
      return [];
    }
    const whole = this.#join(chunk.subarray(0, last + 1));
    if (last + 1 < chunk.length) this.#keep(chunk.subarray(last + 1));
    return whole;
  }

  /** The last line where the stream ended without a newline. */
  end(): Block[] {
    if (this.#mark !== undefined) this.#keep(this.#mark);
    this.#mark = undefined;
    return this.#tailBytes === 0 && this.#overlong === 0 ? [] : this.#join(Buffer.alloc(0));
  }

  #withoutMark(before: Buffer, bytes: Buffer): Buffer {
    const all = before.length === 0 ? bytes : Buffer.concat([before, bytes]);
    const n = Math.min(all.length, MARK.length);
    const begins = all.compare(MARK, 0, n, 0, n) === 0;
    this.#mark = begins && n < MARK.length ? Buffer.from(all) : undefined;
    if (this.#mark !== undefined) return EMPTY;
    return begins ? all.subarray(MARK.length) : all;
  }

  #keep(piece: Buffer): void {
    if (this.#overlong > 0) {
      this.#overlong += piece.length;
      return;
    }
    if (this.#tailBytes + piece.length > LINE_BYTES_MAX) {
      // Keep only its beginning.
      this.#overlong = this.#tailBytes + piece.length;
      this.#tail = [headOf([...this.#tail, piece])];
      this.#tailBytes = 0;
      return;
    }
    // A copy: the chunk's buffer may be refilled.
    this.#tail.push(Buffer.from(piece));
    this.#tailBytes += piece.length;
  }

  #join(rest: Buffer): Block[] {
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
      return newline < 0 || newline + 1 === rest.length ? [head] : [head, rest.subarray(newline + 1)];
    }
    if (tailBytes === 0) return [rest];
    // Copy only the line that spans chunks.
    const newline = rest.indexOf(10) + 1;
    const cut = newline === 0 ? rest : rest.subarray(0, newline);
    const joined = Buffer.concat([...tail, cut], tailBytes + cut.length);
    return cut.length === rest.length ? [joined] : [joined, rest.subarray(newline)];
  }
}

/** Cuts a stream's chunks into lines of text. */
export class LineSplitter {
  readonly #blocks = new BlockSplitter();

  /** The lines that end in this chunk. */
  push(chunk: Buffer): RawLine[] {
    return this.#blocks.push(chunk).flatMap(linesOf);
  }

  /** The last line where the stream ended without a newline. */
  end(): RawLine[] {
    return this.#blocks.end().flatMap(linesOf);
  }
}

/** The lines of a block. */
export function linesOf(block: Block): RawLine[] {
  if (!Buffer.isBuffer(block)) return [block];
  return decode(block.at(-1) === 10 ? block.subarray(0, -1) : block);
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

/** The lines of a stream of bytes, in order. */
export async function* linesFrom(chunks: AsyncIterable<Buffer>): AsyncGenerator<RawLine> {
  const splitter = new LineSplitter();
  for await (const chunk of chunks) yield* splitter.push(chunk);
  yield* splitter.end();
}
