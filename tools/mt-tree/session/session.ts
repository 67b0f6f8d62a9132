/**
 * A client's side of one command on many hosts. What is under way is kept until it has arrived, so a node between that
 * dies delays it and loses nothing.
 */
import { type MtError, mtError } from "../../../shared/errors.ts";
import type { Link } from "../link/link.ts";
import type { Command, DownMessage, Message, UpMessage } from "../link/messages.ts";
import type { CommandEnd } from "../node/command.ts";
import { Broadcast } from "./broadcast.ts";
import type { KnownHosts } from "./known-hosts.ts";
import { StreamReceiver, StreamSender } from "./stream.ts";

export interface SessionEvents {
  output(host: string, fd: 1 | 2, bytes: Buffer): void;
  exit(host: string, how: CommandEnd): void;
  /** There is room for more stdin. */
  drain?(): void;
  /** A part of what the reducer on a host put out. */
  reduced?(message: Extract<UpMessage, { type: "reduced" }>, payload: Buffer): void;
  /** A host joined again, perhaps under another parent, or is gone: also one whose command has ended. */
  moved?(host: string, gone: boolean): void;
  /** The head is gone: every host that has not ended, and every host that is run later, ends at once. */
  headLost?(why: string): void;
}

/** A command on hosts as `map` drives it: on those of a tree, or on this one alone (map/here.ts). */
export interface CommandSession {
  /** Runs it on these hosts; on a host that is known not to be there it ends at once. */
  run(hosts: string[]): void;
  /** Queues stdin for one host. */
  write(host: string, bytes: Buffer): void;
  /** No more stdin. */
  end(): void;
  kill(signal: NodeJS.Signals): void;
  /** Gives up on hosts that have not ended. */
  giveUp(error: MtError): void;
  /** Hosts where it has not ended yet. */
  readonly running: string[];
  /** Bytes queued for the host that is furthest behind, and for all of them. */
  readonly backlog: { most: number; all: number };
}

/** One host's part of the session. */
interface Channel {
  host: string;
  /** Of its agent: one that was started later knows nothing of this session. */
  epoch: string | undefined;
  stdin: StreamSender;
  output: StreamReceiver;
  exit: CommandEnd | undefined;
  done: boolean;
}

/** stdin is written a host at a time, or once to all of them (`broadcast`). */
export class Session implements CommandSession {
  readonly id: string;
  readonly #link: Link;
  readonly #known: KnownHosts;
  readonly #command: Command;
  /** Bytes that may be sent to a host and not acknowledged. */
  readonly #window: number;
  readonly #events: SessionEvents;
  readonly #channels = new Map<string, Channel>();
  #broadcast: Broadcast | undefined;
  /** Whether all hosts have been told the end of what was broadcast. */
  #broadcastEnded = false;
  /** The last signal: sent again to a host that joins again. */
  #signal: NodeJS.Signals | undefined;
  #running: string[] | undefined;

  constructor(
    id: string,
    link: Link,
    known: KnownHosts,
    command: Command,
    events: SessionEvents,
    window: number,
  ) {
    this.id = id;
    this.#window = window;
    this.#link = link;
    this.#known = known;
    this.#command = command;
    this.#events = events;
  }

  get running(): string[] {
    this.#running ??= [...this.#channels.values()].filter((c) => !c.done).map((c) => c.host);
    return this.#running;
  }

  run(hosts: string[]): void {
    this.#running = undefined;
    for (const host of hosts) this.#channels.set(host, this.#channel(host));
    // Errors are told once all hosts are known here: an event may ask who runs.
    const living: string[] = [];
    for (const host of hosts) {
      const error = this.#known.absent(host);
      if (error) this.#finish(this.#channels.get(host)!, { error }, false);
      else living.push(host);
    }
    if (living.length > 0) this.#sendRun(living);
  }

  #channel(host: string): Channel {
    const to = { session: this.id, hosts: [host] };
    return {
      host,
      epoch: this.#known.epochOf(host),
      stdin: new StreamSender(this.#window, {
        piece: ({ offset, bytes }) => this.#send({ type: "stdin", ...to, offset }, bytes),
        end: (offset) => this.#send({ type: "stdin_end", ...to, offset }),
      }),
      output: new StreamReceiver(this.#window / 2),
      exit: undefined,
      done: false,
    };
  }

  #sendRun(hosts: string[]): void {
    this.#send({ type: "run", session: this.id, hosts, window: this.#window, ...this.#command });
  }

  write(host: string, bytes: Buffer): void {
    const c = this.#channels.get(host);
    if (!c || c.done) return;
    c.stdin.write(0, bytes);
    c.stdin.flush();
  }

  get backlog(): { most: number; all: number } {
    let most = 0;
    let all = 0;
    for (const { stdin } of this.#channels.values()) {
      most = Math.max(most, stdin.waiting);
      all += stdin.waiting;
    }
    return { most, all };
  }

  /** Sends stdin to all hosts at once, down the tree; false where it is time to wait for `drain`. */
  broadcast(bytes: Buffer): boolean {
    const hosts = this.running;
    this.#broadcast ??= new Broadcast(this.#window, hosts);
    for (const piece of this.#broadcast.write(bytes))
      if (hosts.length > 0)
        this.#send({ type: "stdin", session: this.id, hosts, offset: piece.offset }, piece.bytes);
    return this.#broadcast.hasRoom();
  }

  end(): void {
    if (this.#broadcast) {
      const hosts = this.running;
      if (hosts.length > 0 && !this.#broadcastEnded)
        this.#send({ type: "stdin_end", session: this.id, hosts, offset: this.#broadcast.sent });
      this.#broadcastEnded = true;
      return;
    }
    for (const { stdin, done } of this.#channels.values()) {
      if (done) continue;
      stdin.close();
      stdin.flush();
    }
  }

  /** Signals the command's process group on every host where it has not ended. */
  kill(signal: NodeJS.Signals): void {
    this.#signal = signal;
    const hosts = this.running;
    if (hosts.length > 0) this.#send({ type: "kill", session: this.id, hosts, signal });
  }

  giveUp(error: MtError): void {
    for (const host of this.running) this.#finish(this.#channels.get(host)!, { error });
  }

  headLost(why: string): void {
    this.#events.headLost?.(why);
    for (const c of this.#channels.values()) {
      this.#events.moved?.(c.host, true);
      if (!c.done) this.#lose(c, why, "mt-tree up mends it; then run it again");
    }
  }

  /** Whether what a host has of this session is lost, though its command may have ended well. */
  isLost(host: string): boolean {
    const epoch = this.#channels.get(host)?.epoch;
    return (
      this.#known.absent(host) !== undefined || (epoch !== undefined && this.#known.epochOf(host) !== epoch)
    );
  }

  /** The head announces that a host has joined again, or is gone for good. */
  hostChanged(message: Extract<Message, { type: "joined" | "lost" }>): void {
    const c = this.#channels.get(message.host);
    const gone = message.type === "lost" || (c !== undefined && c.epoch !== message.epoch);
    this.#events.moved?.(message.host, gone);
    if (!c || c.done) return;
    if (message.type === "lost")
      return this.#lose(
        c,
        `it is gone since ${message.since}`,
        "mt-tree up brings it back; then run it again",
      );
    if (c.epoch !== undefined && c.epoch !== message.epoch)
      return this.#lose(c, "its agent was started anew", "run it again");
    this.#send({ type: "sync", session: this.id, hosts: [c.host], offset: c.output.sync() });
  }

  #lose(c: Channel, why: string, hint: string): void {
    this.#finish(c, { error: mtError("lost", `Cannot hear from ${c.host}: ${why}`, hint) });
  }

  /** A message of this session from a host. */
  receive(message: Message, payload: Buffer): void {
    if (message.type === "reduced") return this.#events.reduced?.(message, payload);
    const c = "host" in message ? this.#channels.get(message.host) : undefined;
    if (!c || c.done) return;
    switch (message.type) {
      case "stdin_ack":
        this.#acknowledged(c, message.offset);
        return;
      case "output":
        this.#output(c, message, payload);
        break;
      case "exit":
        c.exit = { code: message.code, signal: message.signal, error: message.error };
        c.output.end(message.offset);
        break;
      case "synced":
        this.#synced(c, message);
        return;
      default:
        return;
    }
    if (c.exit && c.output.complete) this.#finish(c, c.exit);
  }

  #output(c: Channel, { offset, fd }: Extract<UpMessage, { type: "output" }>, payload: Buffer): void {
    const bytes = c.output.receive(offset, payload);
    if (!bytes) return;
    this.#events.output(c.host, fd, bytes);
    if (!c.output.consume(c.output.received)) return;
    const upTo = c.output.acknowledge();
    if (upTo !== undefined)
      this.#send({ type: "output_ack", session: this.id, hosts: [c.host], offset: upTo });
  }

  #acknowledged(c: Channel, offset: number): void {
    if (this.#broadcast) {
      if (this.#broadcast.acknowledge(c.host, offset) && this.#broadcast.hasRoom()) this.#events.drain?.();
      return;
    }
    if (!c.stdin.acknowledge(offset)) return;
    c.stdin.flush();
    this.#events.drain?.();
  }

  /** The host has told how much stdin it has: sends it the rest, and whatever else it may have missed. */
  #synced(c: Channel, { known, offset }: Extract<UpMessage, { type: "synced" }>): void {
    const to = { session: this.id, hosts: [c.host] };
    if (!known) this.#sendRun([c.host]);
    if (this.#broadcast) {
      this.#broadcast.acknowledge(c.host, offset);
      for (const piece of this.#broadcast.after(offset))
        this.#send({ type: "stdin", ...to, offset: piece.offset }, piece.bytes);
      if (this.#broadcastEnded) this.#send({ type: "stdin_end", ...to, offset: this.#broadcast.sent });
    } else c.stdin.resend(offset);
    if (this.#signal) this.#send({ type: "kill", ...to, signal: this.#signal });
    if (!this.#broadcast || this.#broadcast.hasRoom()) this.#events.drain?.();
  }

  /** @param reached whether its host may know of the session */
  #finish(c: Channel, how: CommandEnd, reached = true): void {
    if (c.done) return;
    c.done = true;
    this.#running = undefined;
    c.stdin.discard();
    this.#broadcast?.drop(c.host);
    if (reached) {
      const to = { session: this.id, hosts: [c.host] };
      if (how.error && !c.exit) this.#send({ type: "close", ...to });
      // Output that the host keeps is still wanted: it is reduced later.
      else if (!this.#command.keep_output || how.code !== 0) this.#link.send({ type: "done", ...to });
    }
    this.#events.exit(c.host, how);
    this.#events.drain?.();
  }

  /** Nothing of it is wanted any more from these hosts. */
  close(hosts: string[]): void {
    this.#send({ type: "close", session: this.id, hosts });
  }

  /** Sends what a reduction needs (map/reduce-coordinator.ts). */
  send(message: Extract<DownMessage, { type: "reduce" | "pull_reduced" }>): void {
    this.#send(message);
  }

  #send(message: DownMessage, payload?: Buffer): void {
    this.#link.send(message, payload);
  }
}
