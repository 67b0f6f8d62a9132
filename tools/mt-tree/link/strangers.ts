/**
 * Connections whose peer has not yet proved who it is. Each has a short time for its handshake, and when there are too
 * many the oldest is closed, so that no number of them keeps out a peer with a certificate.
 */
import type { Socket } from "node:net";

/** A handshake takes milliseconds; hundreds at once on a busy host take a second or two. */
const HANDSHAKE_MS = 5_000;
const STRANGERS_MAX = 512;

export class Strangers {
  /** By the peer's address, because a socket may be another object after its handshake; the oldest first. */
  readonly #waiting = new Map<string, { socket: Socket; late: NodeJS.Timeout }>();

  came(socket: Socket): void {
    const peer = peerOf(socket);
    const late = setTimeout(() => socket.destroy(), HANDSHAKE_MS);
    this.#waiting.set(peer, { socket, late });
    socket.on("error", () => {});
    socket.once("close", () => this.#forget(peer));
    if (this.#waiting.size <= STRANGERS_MAX) return;
    const [oldest, its] = this.#waiting.entries().next().value!;
    this.#forget(oldest);
    its.socket.destroy();
  }

  /** The peer has a certificate of the authority. */
  known(socket: Socket): void {
    this.#forget(peerOf(socket));
  }

  #forget(peer: string): void {
    clearTimeout(this.#waiting.get(peer)?.late);
    this.#waiting.delete(peer);
  }
}

const peerOf = (socket: Socket) => `${socket.remoteAddress} ${socket.remotePort}`;
