/**
 * stdin that goes to many hosts at once: the same bytes at the same offsets for all of them. Kept once, until the
 * slowest host has acknowledged it; the receiving end on each host is a StreamReceiver like any other.
 */
import { CHUNK_BYTES } from "../link/frames.ts";
import type { Piece } from "./stream.ts";

export class Broadcast {
  readonly #window: number;
  /** By host, what it has acknowledged; hosts that have ended are not in it. */
  readonly #acknowledged: Map<string, number>;
  #pieces: Piece[] = [];
  #sent = 0;
  /** The offset that the slowest hosts have acknowledged, and how many they are. */
  #least = 0;
  #slowest = 0;

  constructor(window: number, hosts: readonly string[]) {
    this.#window = window;
    this.#acknowledged = new Map(hosts.map((host) => [host, 0]));
  }

  /** How many bytes have been sent. */
  get sent(): number {
    return this.#sent;
  }

  /** Adds bytes to the stream; gives the pieces to send. */
  write(bytes: Buffer): Piece[] {
    const pieces: Piece[] = [];
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
      const piece: Piece = { offset: this.#sent, fd: 0, bytes: bytes.subarray(at, at + CHUNK_BYTES) };
      this.#sent += piece.bytes.length;
      pieces.push(piece);
    }
    this.#pieces.push(...pieces);
    return pieces;
  }

  /** A host has everything before this offset. Gives whether that is news. */
  acknowledge(host: string, offset: number): boolean {
    const before = this.#acknowledged.get(host);
    if (before === undefined || offset <= before) return false;
    this.#acknowledged.set(host, offset);
    if (before === this.#least) this.#slowest--;
    return true;
  }

  /** A host has ended: nobody waits for it any more. */
  drop(host: string): void {
    if (this.#acknowledged.get(host) === this.#least) this.#slowest--;
    this.#acknowledged.delete(host);
  }

  /** Whether the slowest host is less than a window behind; forgets what every host has. */
  hasRoom(): boolean {
    // All hosts are looked at only when the last of the slowest has moved on.
    if (this.#slowest <= 0) this.#findSlowest();
    let done = 0;
    while (done < this.#pieces.length && this.#isBefore(this.#pieces[done]!, this.#least)) done++;
    if (done > 0) this.#pieces.splice(0, done);
    return this.#sent - this.#least < this.#window;
  }

  #findSlowest(): void {
    this.#least = this.#sent;
    this.#slowest = 0;
    for (const offset of this.#acknowledged.values()) {
      if (offset > this.#least) continue;
      if (offset < this.#least) this.#slowest = 0;
      this.#least = offset;
      this.#slowest++;
    }
  }

  #isBefore(piece: Piece, offset: number): boolean {
    return piece.offset + piece.bytes.length <= offset;
  }

  /** What a host that has everything before this offset has to be sent again. */
  after(offset: number): Piece[] {
    return this.#pieces.filter((piece) => !this.#isBefore(piece, offset));
  }
}
