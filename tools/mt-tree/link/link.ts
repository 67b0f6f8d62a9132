/**
 * One connection between two nodes, or between a client and the head: frames both ways, and a heartbeat, without which
 * a peer that is frozen or cut off would not be noticed. The parent's end pings, the child's answers, so that an idle
 * agent wakes as seldom as possible.
 */

import { encodeFrame, encodeHeader, type FrameHandler, FrameReader } from "./frames.ts";
import { collectAfter } from "./garbage.ts";
import type { Message } from "./messages.ts";
import type { Wire } from "./wire.ts";

/** A peer that has sent nothing for this long is given up, where the tree's configuration does not say otherwise. */
export const SILENCE_MS = 2_000;

/** Frames up to this size are joined, so that many small ones are one write. */
const SMALL_BYTES = 16 * 1024;
const WRITE_BYTES = 64 * 1024;

export interface LinkEvents {
  /** `frame` is the whole frame, as it can be forwarded. */
  message(message: Message, payload: Buffer, frame: Buffer): void;
  /** Once, whatever ended the link; not where we closed it ourselves. */
  close(why: string): void;
}

/** This end's part in the heartbeat: a parent asks, a child watches that it is asked, the head does nothing for a client. */
export type Heartbeat = "asks" | "watches" | "none";

/** Pings on all links of a process with the same limit of silence: one timer, so that many links wake it no more often. */
class Pinger {
  readonly #silence_ms: number;
  readonly #links = new Set<Link>();
  #timer: NodeJS.Timeout | undefined;
  #last = 0;

  constructor(silence_ms: number) {
    this.#silence_ms = silence_ms;
  }

  get every_ms(): number {
    return this.#silence_ms / 2.2;
  }

  add(link: Link): void {
    this.#links.add(link);
    if (this.#timer) return;
    this.#last = Date.now();
    this.#timer = setInterval(() => this.#ping(), this.every_ms);
  }

  #ping(): void {
    const now = Date.now();
    // A process that was itself stopped for a while has heard nothing, through no fault of its peers.
    const slept = now - this.#last > this.every_ms + this.#silence_ms / 4;
    this.#last = now;
    for (const link of this.#links) link.ping(now, slept);
  }

  remove(link: Link): void {
    this.#links.delete(link);
    if (this.#links.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

const pingers = new Map<number, Pinger>();
function pingerFor(silence_ms: number): Pinger {
  let pinger = pingers.get(silence_ms);
  if (!pinger) pingers.set(silence_ms, (pinger = new Pinger(silence_ms)));
  return pinger;
}

export class Link {
  readonly #wire: Wire;
  readonly #events: LinkEvents;
  readonly #heartbeat: Heartbeat;
  readonly #silence_ms: number;
  readonly #pinger: Pinger | undefined;
  #heard = Date.now();
  #closed = false;
  #deadline: NodeJS.Timeout | undefined;
  #queue: Uint8Array[] = [];
  #queued = 0;
  #scheduled = false;
  /** Last round trip, in ms; known where this end asks. */
  rtt_ms: number | undefined;

  /** @param silence_ms how long the peer may send nothing before the link ends */
  constructor(wire: Wire, events: LinkEvents, heartbeat: Heartbeat, silence_ms = SILENCE_MS) {
    this.#wire = wire;
    this.#events = events;
    this.#heartbeat = heartbeat;
    this.#silence_ms = silence_ms;
    this.#pinger = heartbeat === "asks" ? pingerFor(silence_ms) : undefined;
    const handle: FrameHandler = (header, payload, frame) => {
      if (this.#closed) return;
      const message = header as unknown as Message;
      if (message.type === "ping") this.send({ type: "pong", at: message.at });
      else if (message.type === "pong") this.rtt_ms = performance.now() - message.at;
      else events.message(message, payload, frame);
    };
    const reader = new FrameReader(handle);
    wire.listen(
      (chunk) => {
        this.#heard = Date.now();
        try {
          reader.push(chunk);
        } catch (thrown) {
          this.#end(`it sent what is no frame: ${(thrown as Error).message}`);
        }
        collectAfter(chunk.length);
      },
      (why) => this.#end(why),
    );
    // An end that only watches wakes when time may be up, not at every ping: most agents have no children.
    if (heartbeat === "watches") this.#watch(silence_ms);
    this.#pinger?.add(this);
  }

  /** Called by the pinger; `slept`: this process was itself stopped for a while. */
  ping(now: number, slept: boolean): void {
    const left = this.#check(now, slept);
    if (left <= 0) return;
    this.send({ type: "ping", at: performance.now() });
    // The peer is given up when its time is over, not at the ping after that.
    if (left < this.#pinger!.every_ms && !this.#deadline) this.#watch(left);
  }

  /** Checks again after this time; goes on doing so where no pinger does. */
  #watch(in_ms: number): void {
    const due = Date.now() + in_ms;
    this.#deadline = setTimeout(() => {
      this.#deadline = undefined;
      const now = Date.now();
      const left = this.#closed ? 0 : this.#check(now, now - due > this.#silence_ms / 4);
      if (left > 0 && this.#heartbeat === "watches") this.#watch(left);
    }, in_ms);
  }

  /** How long the peer may still say nothing, in ms; ends the link where that time is over. */
  #check(now: number, slept: boolean): number {
    if (slept) this.#heard = now;
    const silent = now - this.#heard;
    if (silent >= this.#silence_ms) this.#end(`it was silent for ${(silent / 1000).toFixed(1)} s`);
    return this.#silence_ms - silent;
  }

  /** Queues a frame. How much is queued is bounded by the windows of the sessions, not here. */
  send(message: Message, payload?: Uint8Array): void {
    if (payload && payload.length > SMALL_BYTES) {
      this.#put(encodeHeader(message, payload.length));
      this.#put(payload);
    } else this.#put(encodeFrame(message, payload));
  }

  /** Queues a frame that came from another link, as it is. */
  forward(frame: Buffer): void {
    this.#put(frame);
  }

  #put(frame: Uint8Array): void {
    if (this.#closed) return;
    this.#queue.push(frame);
    this.#queued += frame.length;
    if (this.#queued >= WRITE_BYTES) this.#flush();
    else if (!this.#scheduled) {
      this.#scheduled = true;
      setImmediate(() => {
        this.#scheduled = false;
        this.#flush();
      });
    }
  }

  #flush(): void {
    if (this.#queue.length === 0 || this.#closed) return;
    const frames = this.#queue;
    this.#queue = [];
    this.#queued = 0;
    let small: Uint8Array[] = [];
    const write = () => {
      if (small.length > 0) this.#wire.write(small.length === 1 ? small[0]! : Buffer.concat(small));
      small = [];
    };
    for (const frame of frames)
      if (frame.length <= SMALL_BYTES) small.push(frame);
      else {
        write();
        this.#wire.write(frame);
      }
    write();
  }

  /** Ends the link and says why, as where the peer has ended it. */
  #end(why: string): void {
    if (this.#closed) return;
    this.close();
    this.#events.close(why);
  }

  /** Sends what is queued, then ends the link; `close` of the events is not called. */
  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    this.#pinger?.remove(this);
    clearTimeout(this.#deadline);
    this.#wire.close();
  }
}
