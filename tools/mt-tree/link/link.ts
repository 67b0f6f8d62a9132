/**
 * One connection between two nodes, or between a client and the head: frames both ways, and a heartbeat,
 * which alone finds a peer that is frozen or cut off. The parent's end asks, the child's answers, so that
 * an idle agent wakes as seldom as can be.
 */
import { collectAfter } from "../../../shared/host/garbage.ts";
import { encodeFrame, encodeHeader, type FrameHandler, FrameReader } from "./frames.ts";
import type { Message } from "./messages.ts";
import type { Wire } from "./wire.ts";

/** A peer that has said nothing for this long is given up. */
let silence_ms = 2_000;
export const silence = () => silence_ms;
/** For all links of this process; to be called before the first. */
export function setSilence(ms: number): void {
  silence_ms = ms;
}
/** How often a parent asks its children; one ticker for all links of a process. */
const tickMs = () => silence_ms / 2.2;

/** Frames up to this size are put together, so that many small ones are one write. */
const SMALL_BYTES = 16 * 1024;
const WRITE_BYTES = 64 * 1024;

export interface LinkEvents {
  /** `frame` is the whole of it, as it can be sent on. */
  message(message: Message, payload: Buffer, frame: Buffer): void;
  /** Once, whatever ended it; not where we closed it ourselves. */
  close(why: string): void;
}

/** Whose task the heartbeat is: the parent asks, the child watches, between a client and the head nobody does. */
export type Heartbeat = "asks" | "watches" | "none";

const ticking = new Set<Link>();
let ticker: NodeJS.Timeout | undefined;
let lastTick = 0;

function tick(): void {
  const now = Date.now();
  // A process that was itself stopped for a while has heard nothing, and it is not the peers' fault.
  const slept = now - lastTick > tickMs() + silence_ms / 4;
  lastTick = now;
  for (const link of ticking) link.tick(now, slept);
}

export class Link {
  readonly #wire: Wire;
  readonly #events: LinkEvents;
  readonly #heartbeat: Heartbeat;
  #heard = Date.now();
  #closed = false;
  #deadline: NodeJS.Timeout | undefined;
  #queue: Uint8Array[] = [];
  #queued = 0;
  #scheduled = false;
  /** Last round trip, in ms; known where this end asks. */
  rtt_ms: number | undefined;

  constructor(wire: Wire, events: LinkEvents, heartbeat: Heartbeat) {
    this.#wire = wire;
    this.#events = events;
    this.#heartbeat = heartbeat;
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
    if (heartbeat === "none") return;
    // Who only watches wakes when time may be up, not at every tick: most agents have no children.
    if (heartbeat === "watches") this.#watch(silence_ms);
    else {
      ticking.add(this);
      lastTick = ticker ? lastTick : Date.now();
      ticker ??= setInterval(tick, tickMs());
    }
  }

  /** Called by the ticker; `slept`: this process was itself stopped for a while. */
  tick(now: number, slept: boolean): void {
    const left = this.#check(now, slept);
    if (left <= 0) return;
    this.send({ type: "ping", at: performance.now() });
    // Given up when its time is over, not at the tick after that.
    if (left < tickMs() && !this.#deadline) this.#watch(left);
  }

  /** Looks again in a while; goes on doing so where there is no ticker for it. */
  #watch(in_ms: number): void {
    const due = Date.now() + in_ms;
    this.#deadline = setTimeout(() => {
      this.#deadline = undefined;
      const now = Date.now();
      const left = this.#closed ? 0 : this.#check(now, now - due > silence_ms / 4);
      if (left > 0 && this.#heartbeat === "watches") this.#watch(left);
    }, in_ms);
  }

  /** How long the peer may still say nothing, in ms; ends the link where that time is over. */
  #check(now: number, slept: boolean): number {
    if (slept) this.#heard = now;
    const silent = now - this.#heard;
    if (silent >= silence_ms) this.#end(`it was silent for ${(silent / 1000).toFixed(1)} s`);
    return silence_ms - silent;
  }

  /** Queues a frame. What is under way is bounded by the windows of the sessions, not here. */
  send(message: Message, payload?: Uint8Array): void {
    if (payload && payload.length > SMALL_BYTES) {
      this.#put(encodeHeader(message, payload.length));
      this.#put(payload);
    } else this.#put(encodeFrame(message, payload));
  }

  /** Queues a frame as it came from another link. */
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

  /** Ends it, as though the peer had. */
  #end(why: string): void {
    if (this.#closed) return;
    this.close();
    this.#events.close(why);
  }

  /** Sends what is queued, then ends it; `close` of the events is not called. */
  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    ticking.delete(this);
    clearTimeout(this.#deadline);
    if (ticking.size === 0) {
      clearInterval(ticker);
      ticker = undefined;
    }
    this.#wire.close();
  }
}
