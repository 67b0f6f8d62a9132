/**
 * One connection between two nodes, or between a client and the head: frames both ways, and a heartbeat
 * on a silent link, which alone finds a peer that is frozen or cut off.
 */
import type { Socket } from "node:net";
import { encodeFrame, FrameReader } from "./frames.ts";
import type { Message } from "./messages.ts";

/** A silent link is asked after this long, and given up after three times as long. */
export const HEARTBEAT_MS = Number(process.env.MT_HEARTBEAT_MS) || 1000;

export interface LinkEvents {
  message(message: Message, payload: Buffer): void;
  /** Once, whatever ended it. */
  close(why: string): void;
}

export class Link {
  readonly #socket: Socket;
  #heard = Date.now();
  #closed = false;
  #timer: NodeJS.Timeout;
  /** Last round trip, in ms. */
  rtt_ms: number | undefined;

  constructor(socket: Socket, events: LinkEvents, heartbeat = true) {
    this.#socket = socket;
    socket.setNoDelay?.(true);
    const reader = new FrameReader((header, payload) => {
      const message = header as unknown as Message;
      if (message.t === "ping") this.send({ t: "pong", at: message.at });
      else if (message.t === "pong") this.rtt_ms = performance.now() - message.at;
      else events.message(message, payload);
    });
    const end = (why: string) => {
      if (this.#closed) return;
      this.#closed = true;
      clearInterval(this.#timer);
      socket.destroy();
      events.close(why);
    };
    socket.on("data", (chunk: Buffer) => {
      this.#heard = Date.now();
      try {
        reader.push(chunk);
      } catch (thrown) {
        end(`it sent what is no frame: ${(thrown as Error).message}`);
      }
    });
    socket.on("error", (e) => end(e.message));
    socket.on("end", () => end("it closed the connection"));
    socket.on("close", () => end("the connection closed"));
    let asked = Date.now();
    this.#timer = setInterval(() => {
      const now = Date.now();
      // A node that was itself stopped for a while has heard nothing, and it is not the peer's fault.
      const slept = now - asked > 2 * HEARTBEAT_MS;
      asked = now;
      if (slept) this.#heard = now;
      const silent = now - this.#heard;
      if (silent >= 3 * HEARTBEAT_MS) end(`it was silent for ${(silent / 1000).toFixed(1)} s`);
      else if (silent >= 0.9 * HEARTBEAT_MS) this.send({ t: "ping", at: performance.now() });
    }, HEARTBEAT_MS);
    if (!heartbeat) clearInterval(this.#timer);
  }

  /** Queues a frame. What is under way is bounded by the windows of the sessions, not here. */
  send(message: Message, payload?: Uint8Array): void {
    if (!this.#closed) this.#socket.write(encodeFrame(message, payload));
  }

  close(): void {
    this.#socket.destroy();
  }
}
