/**
 * Frames on a link: four bytes of length, two of the header's length, the header as JSON, then bytes.
 * Nothing longer than FRAME_BYTES_MAX is read, whatever a length says.
 */

/** Longest frame, header and payload. */
export const FRAME_BYTES_MAX = 2 * 1024 * 1024;
/** Payload of one frame, so that no host's bytes hold up another's for long. */
export const CHUNK_BYTES = 64 * 1024;

/** A frame's header; `t` says what it is (see messages.ts). */
export interface Header {
  t: string;
}

export function encodeFrame(header: Header, payload?: Uint8Array): Buffer {
  const head = Buffer.from(JSON.stringify(header));
  const body = payload?.length ?? 0;
  const frame = Buffer.allocUnsafe(8 + head.length + body);
  frame.writeUInt32BE(4 + head.length + body, 0);
  frame.writeUInt32BE(head.length, 4);
  head.copy(frame, 8);
  if (payload) frame.set(payload, 8 + head.length);
  return frame;
}

/** `frame` is the whole of it, length and all: what can be sent on as it is. */
export type FrameHandler = (header: Header & Record<string, unknown>, payload: Buffer, frame: Buffer) => void;

/** Cuts what comes from a socket into frames. Throws on a length or a header that cannot be. */
export class FrameReader {
  #pieces: Buffer[] = [];
  #bytes = 0;
  readonly #handle: FrameHandler;

  constructor(handle: FrameHandler) {
    this.#handle = handle;
  }

  push(chunk: Buffer): void {
    this.#pieces.push(chunk);
    this.#bytes += chunk.length;
    while (this.#bytes >= 8) {
      const length = this.#peek(8).readUInt32BE(0);
      if (length < 4 || length > FRAME_BYTES_MAX) throw new RangeError(`a frame of ${length} bytes`);
      if (this.#bytes < 4 + length) return;
      const frame = this.#take(4 + length);
      const headLength = frame.readUInt32BE(4);
      if (headLength > length - 4)
        throw new RangeError(`a header of ${headLength} bytes in a frame of ${length}`);
      const header = JSON.parse(frame.toString("utf8", 8, 8 + headLength));
      if (typeof header !== "object" || header === null || typeof header.t !== "string")
        throw new RangeError("a header without a type");
      this.#handle(header, frame.subarray(8 + headLength), frame);
    }
  }

  /** The first `n` bytes in one piece, left where they are. */
  #peek(n: number): Buffer {
    if (this.#pieces[0]!.length < n) this.#pieces = [Buffer.concat(this.#pieces)];
    return this.#pieces[0]!;
  }

  #take(n: number): Buffer {
    if (this.#pieces[0]!.length < n) this.#pieces = [Buffer.concat(this.#pieces)];
    const first = this.#pieces[0]!;
    const taken = first.subarray(0, n);
    if (first.length === n) this.#pieces.shift();
    else this.#pieces[0] = first.subarray(n);
    this.#bytes -= n;
    return taken;
  }
}
