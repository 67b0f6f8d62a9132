/**
 * A numbered byte stream between a client and a host, both ends of it. A command has two: stdin, which the client
 * sends, and output (stdout and stderr in the order that they came in), which the host sends. Bytes are numbered from
 * the start of the stream, so nodes between the ends may die: after a link was lost the receiver says how far it has
 * come, the sender sends the rest again, and what comes twice is dropped.
 *
 * Nothing here has a clock, a socket or a process. The owner of an end carries its pieces and acknowledgements, decides
 * when to send, and says when a link was lost.
 */
import { CHUNK_BYTES } from "../link/frames.ts";

/** What a piece belongs to: stdin, stdout or stderr. */
export type Fd = 0 | 1 | 2;

export interface Piece {
  /** Of the first byte, counted from the start of the stream. */
  offset: number;
  fd: Fd;
  bytes: Buffer;
}

/** What a sender has sent. */
export interface SenderEvents {
  piece(piece: Piece): void;
  /** The stream ends at this offset. */
  end(offset: number): void;
}

/**
 * The sending end. It promises:
 * - pieces go out in order, without gaps, of CHUNK_BYTES at most;
 * - no new piece goes out while a whole window is unacknowledged;
 * - what is not acknowledged is kept, and `resend` sends it again;
 * - the end goes out after the last byte, and once more with every `resend`.
 */
export class StreamSender {
  readonly #window: number;
  readonly #events: SenderEvents;
  #waiting: { fd: Fd; bytes: Buffer }[] = [];
  #waitingBytes = 0;
  #unacknowledged: Piece[] = [];
  #sent = 0;
  #acknowledged = 0;
  #end: "open" | "closed" | "sent" = "open";

  /** @param window bytes that may be sent and not acknowledged */
  constructor(window: number, events: SenderEvents) {
    this.#window = window;
    this.#events = events;
  }

  /** Bytes that are written and not sent yet. */
  get waiting(): number {
    return this.#waitingBytes;
  }

  /** Whether a whole window is written and not acknowledged: who writes should stop until it is not so any more. */
  get full(): boolean {
    return this.#sent + this.#waitingBytes - this.#acknowledged >= this.#window;
  }

  /** Adds bytes to the stream; `flush` sends them. */
  write(fd: Fd, bytes: Buffer): void {
    if (bytes.length === 0 || this.#end !== "open") return;
    this.#waiting.push({ fd, bytes });
    this.#waitingBytes += bytes.length;
  }

  /** Nothing more will be written; `flush` sends the end when everything before it has been sent. */
  close(): void {
    if (this.#end === "open") this.#end = "closed";
  }

  /** Sends what the window has room for. */
  flush(): void {
    while (this.#waiting.length > 0 && this.#sent - this.#acknowledged < this.#window) {
      const piece = { offset: this.#sent, ...this.#next() };
      this.#sent += piece.bytes.length;
      this.#unacknowledged.push(piece);
      this.#events.piece(piece);
    }
    if (this.#end !== "closed" || this.#waiting.length > 0) return;
    this.#end = "sent";
    this.#events.end(this.#sent);
  }

  /** The receiver has everything before this offset. Gives whether that is news; then `flush` may send more. */
  acknowledge(offset: number): boolean {
    if (offset <= this.#acknowledged) return false;
    this.#acknowledged = offset;
    const pieces = this.#unacknowledged;
    let done = 0;
    while (done < pieces.length && pieces[done]!.offset + pieces[done]!.bytes.length <= offset) done++;
    if (done > 0) pieces.splice(0, done);
    return true;
  }

  /** A link was lost, and the receiver has everything before this offset: sends the rest again, the end as well. */
  resend(offset: number): void {
    this.acknowledge(offset);
    for (const piece of this.#unacknowledged) this.#events.piece(piece);
    if (this.#end === "sent") this.#events.end(this.#sent);
    this.flush();
  }

  /** The receiver wants nothing more: forgets what is kept for it. */
  discard(): void {
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#unacknowledged = [];
  }

  /** The next piece: small writes of one fd are joined, large ones cut. Large ones are not copied. */
  #next(): { fd: Fd; bytes: Buffer } {
    const { fd, bytes: first } = this.#waiting[0]!;
    let count = 1;
    let size = first.length;
    if (size < CHUNK_BYTES / 2)
      for (; count < this.#waiting.length; count++) {
        const more = this.#waiting[count]!;
        if (more.fd !== fd || size + more.bytes.length > CHUNK_BYTES) break;
        size += more.bytes.length;
      }
    if (count > 1) {
      const bytes = Buffer.concat(
        this.#waiting.splice(0, count).map((w) => w.bytes),
        size,
      );
      this.#waitingBytes -= size;
      return { fd, bytes };
    }
    const bytes = first.subarray(0, CHUNK_BYTES);
    if (bytes.length === first.length) this.#waiting.shift();
    else this.#waiting[0] = { fd, bytes: first.subarray(bytes.length) };
    this.#waitingBytes -= bytes.length;
    return { fd, bytes };
  }
}

/**
 * The receiving end. It promises:
 * - every byte is given out once, in order;
 * - what comes twice is dropped, and so is what comes after a gap: the sender sends that again after `sync`;
 * - bytes are acknowledged once they are consumed, a step at a time.
 */
export class StreamReceiver {
  readonly #step: number;
  #received = 0;
  #consumed = 0;
  #acknowledged = 0;
  #end: number | undefined;

  /** @param step bytes that may be consumed before an acknowledgement is due: less than the window, or both ends wait */
  constructor(step: number) {
    this.#step = step;
  }

  /** How many bytes have come, without gaps. */
  get received(): number {
    return this.#received;
  }

  /** Whether all bytes and the end have come. */
  get complete(): boolean {
    return this.#end !== undefined && this.#received >= this.#end;
  }

  /** Takes a piece; gives what is new of it, nothing where there is nothing new or bytes before it are missing. */
  receive(offset: number, bytes: Buffer): Buffer | undefined {
    const known = this.#received - offset;
    if (this.complete || known < 0 || known >= bytes.length) return undefined;
    const fresh = known === 0 ? bytes : bytes.subarray(known);
    this.#received += fresh.length;
    return fresh;
  }

  /** The stream ends at this offset; what is before it may still be missing. */
  end(offset: number): void {
    this.#end = offset;
  }

  /** Everything before this offset has been used. Gives whether an acknowledgement is due. */
  consume(offset: number): boolean {
    this.#consumed = Math.max(this.#consumed, offset);
    return this.#consumed - this.#acknowledged >= this.#step;
  }

  /** What to acknowledge now; nothing where the sender knows it already. */
  acknowledge(): number | undefined {
    if (this.#consumed <= this.#acknowledged) return undefined;
    this.#acknowledged = this.#consumed;
    return this.#acknowledged;
  }

  /** A link was lost: from which offset on the sender has to send again. This acknowledges what is before it. */
  sync(): number {
    this.#acknowledged = this.#received;
    return this.#received;
  }
}
