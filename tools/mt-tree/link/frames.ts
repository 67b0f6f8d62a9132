/**
 * Frames on a link: four bytes with the length of what follows, four with the length of the header, the header as
 * JSON, then the payload. A frame longer than FRAME_BYTES_MAX is refused.
 */

/** Longest frame, header and payload. */
const FRAME_BYTES_MAX = 2 * 1024 * 1024;
/** Longest payload that is sent in one frame, so that one host's bytes do not delay another's for long. */
export const CHUNK_BYTES = 128 * 1024;

/** A frame's header; its other fields depend on `type` (messages.ts). */
export interface Header {
  type: string;
}

export function encodeFrame(header: Header, payload?: Uint8Array): Buffer {
  const head = encodeHeader(header, payload?.length ?? 0);
  return payload === undefined || payload.length === 0 ? head : Buffer.concat([head, payload]);
}

/** All of a frame but its payload, which has to follow. */
export function encodeHeader(header: Header, payloadLength: number): Buffer {
  const head = JSON.stringify(header);
  const length = Buffer.byteLength(head);
  const frame = Buffer.allocUnsafe(8 + length);
  frame.writeUInt32BE(4 + length + payloadLength, 0);
  frame.writeUInt32BE(length, 4);
  frame.write(head, 8);
  return frame;
}

/** `frame` is the whole of it, length and all: what can be sent on as it is. */
export type FrameHandler = (header: Header & Record<string, unknown>, payload: Buffer, frame: Buffer) => void;

/** Cuts what comes from a socket into frames. Throws on a length or a header that is not valid. */
export class FrameReader {
  /** Bytes that have come and are not read yet; those of the first chunk before #at have been read. */
  #chunks: Buffer[] = [];
  #at = 0;
  #bytes = 0;
  /** Length of the next frame, with its four bytes of length; 0 while that is not known. */
  #need = 0;
  readonly #handle: FrameHandler;

  constructor(handle: FrameHandler) {
    this.#handle = handle;
  }

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    for (;;) {
      if (this.#need === 0) {
        if (this.#bytes < 4) return;
        const length = this.#length();
        if (length < 4 || length > FRAME_BYTES_MAX) throw new RangeError(`a frame of ${length} bytes`);
        this.#need = 4 + length;
      }
      if (this.#bytes < this.#need) return;
      const frame = this.#take(this.#need);
      this.#need = 0;
      const headLength = frame.readUInt32BE(4);
      if (headLength > frame.length - 8)
        throw new RangeError(`a header of ${headLength} bytes in a frame of ${frame.length - 4}`);
      const header = JSON.parse(frame.toString("utf8", 8, 8 + headLength));
      if (typeof header !== "object" || header === null || typeof header.type !== "string")
        throw new RangeError("a header without a type");
      this.#handle(header, frame.subarray(8 + headLength), frame);
    }
  }

  /** The next four bytes as a number; they are not consumed. */
  #length(): number {
    const first = this.#chunks[0]!;
    if (first.length - this.#at >= 4) return first.readUInt32BE(this.#at);
    let length = 0;
    let at = this.#at;
    let k = 0;
    for (let i = 0; i < 4; i++) {
      while (at >= this.#chunks[k]!.length) {
        at = 0;
        k++;
      }
      length = length * 256 + this.#chunks[k]![at++]!;
    }
    return length;
  }

  /** Takes the next `n` bytes as one buffer: a view of their chunk, or a copy where they are in several. */
  #take(n: number): Buffer {
    this.#bytes -= n;
    const first = this.#chunks[0]!;
    if (first.length - this.#at >= n) {
      const view = first.subarray(this.#at, this.#at + n);
      this.#at += n;
      if (this.#at === first.length) {
        this.#chunks.shift();
        this.#at = 0;
      }
      return view;
    }
    const out = Buffer.allocUnsafe(n);
    for (let filled = 0; filled < n; ) {
      const chunk = this.#chunks[0]!;
      const copied = chunk.copy(out, filled, this.#at, this.#at + n - filled);
      filled += copied;
      this.#at += copied;
      if (this.#at === chunk.length) {
        this.#chunks.shift();
        this.#at = 0;
      }
    }
    return out;
  }
}
