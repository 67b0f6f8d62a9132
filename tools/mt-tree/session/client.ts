/**
 * The client of a tree: talks to the head, runs one command on many hosts, and keeps what is under way
 * until it has arrived, so that a node between that dies costs nothing but the way.
 */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { ok, type Result } from "neverthrow";
import { fail, type MtError, mtError } from "../../../shared/errors.ts";
import { treeFile, treeSocket } from "../../../shared/host/names.ts";
import { connectOwn } from "../../../shared/own-place.ts";
import { CHUNK_BYTES } from "../link/frames.ts";
import { Link, setSilence } from "../link/link.ts";
import {
  type Command,
  type DownMessage,
  type HostStatus,
  type Message,
  type UpMessage,
  type Vitals,
  windowFor,
} from "../link/messages.ts";
import type { Place } from "../link/wire.ts";
import { socketWire, type Wire } from "../link/wire.ts";
import type { CommandEnd } from "../node/command.ts";
import { readTree } from "../node/tree-file.ts";

/** How a command ended on one host. */
export type HostExit = CommandEnd;

export interface SessionEvents {
  output(host: string, fd: 1 | 2, bytes: Buffer): void;
  exit(host: string, how: HostExit): void;
  /** There is room for more stdin. */
  drain?(): void;
  /** A part of what a reduction at a host put out. */
  piece?(message: Extract<UpMessage, { type: "reduced" }>, payload: Buffer): void;
  /** A host came by another way, or is gone: also one whose command has ended. */
  moved?(host: string, gone: boolean): void;
  /** The head is gone: every host that has not ended, and every host started later, ends at once. */
  headLost?(why: string): void;
}

/** A command on hosts as `map` drives it: on those of a tree, or on this one alone (here.ts). */
export interface HostSession {
  /** Starts it; on a host that is known not to be there it ends at once. */
  start(hosts: string[]): void;
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

/** A host as the head last told of it. `moving`: its way is gone, and it is not yet known to be lost. */
interface Seen {
  state: "there" | "moving" | "gone";
  /** Since when it is there, or missing. */
  since: string;
  /** Of its agent: another one knows nothing of us. */
  epoch: string | undefined;
}

export interface Probed {
  vitals: Vitals;
  /** Round trips of the links to its children, in ms. */
  links: Record<string, number>;
}

interface Piece {
  o: number;
  bytes: Buffer;
}

/** One host's pair of streams. Offsets count bytes from the start of each stream. */
interface Channel {
  host: string;
  /** Of its agent: another one knows nothing of us. */
  epoch: string | undefined;
  queue: Buffer[];
  queued: number;
  unacked: Piece[];
  sent: number;
  acked: number;
  eof: "no" | "wanted" | "sent";
  heard: number;
  heardAcked: number;
  exit: { o: number; how: HostExit } | undefined;
  done: boolean;
}

/** What of our environment holds on the hosts too: how much is said, and in which form. */
export function environmentForHosts(): Record<string, string> {
  const names = ["MT_PROGRESS", "MT_LOG", "NO_COLOR"];
  return Object.fromEntries(names.flatMap((n) => (process.env[n] ? [[n, process.env[n]!]] : [])));
}

export class TreeClient {
  readonly #link: Link;
  readonly #sessions = new Map<string, Session>();
  readonly #known = new KnownHosts();
  #listed: ((hosts: HostStatus[]) => void)[] = [];
  #closed: ((why: string) => void)[] = [];

  /** @param wire to the head */
  constructor(wire: Wire) {
    this.#link = new Link(
      wire,
      {
        message: (message, payload) => this.#message(message, payload),
        close: (why) => {
          const lost = `the head of the tree is gone: ${why}`;
          this.#known.headLost = lost;
          for (const session of this.#sessions.values()) session.headLost(lost);
          for (const closed of this.#closed.splice(0)) closed(lost);
        },
      },
      // A head that is frozen closes nothing.
      "asks",
    );
  }

  /** Why there is no head any more. */
  get headLost(): string | undefined {
    return this.#known.headLost;
  }

  /** Connects to the head of the tree that is up here; `unavailable` where none is. */
  static connect(path = treeSocket()): Promise<Result<TreeClient, MtError>> {
    return new Promise((resolve) => {
      const socket = connectOwn(path);
      socket.once("error", (e: NodeJS.ErrnoException) => {
        if (e.code === "EACCES")
          return resolve(
            fail(
              "permission",
              `Cannot reach the tree: ${path} is another user's`,
              "be that user, or have a tree of your own with another MT_RUN",
            ),
          );
        const nobody = e.code === "ENOENT" || e.code === "ECONNREFUSED";
        const recorded = existsSync(treeFile());
        const why = !nobody ? e.message : recorded ? "its head is gone" : "none is up here";
        resolve(
          fail(
            "unavailable",
            `Cannot reach the tree: ${why}`,
            recorded ? "mt-tree up mends it" : "mt-tree up HOSTS --via local",
          ),
        );
      });
      socket.once("connect", () => {
        socket.removeAllListeners("error");
        setSilence(Math.max(HEAD_SILENCE_MS, readTree()?.silence_ms ?? 0));
        resolve(ok(new TreeClient(socketWire(socket))));
      });
    });
  }

  /** Stands for a tree whose head cannot be reached, and why: nothing can be started on any host. */
  static unreachable(error: MtError): TreeClient {
    const client = new TreeClient({ write() {}, listen() {}, close() {} });
    client.#known.headLost = `the tree cannot be reached: ${error.message.replace(/^Cannot [^:]*: /, "")}`;
    client.close();
    return client;
  }

  /** Who is there, who is missing since when. Waits 5 s at most. */
  list(): Promise<Result<HostStatus[], MtError>> {
    const gone = (why: string) => fail("lost", `Cannot list the hosts: ${why}`);
    if (this.headLost !== undefined) return Promise.resolve(gone(this.headLost));
    return new Promise((resolve) => {
      const late = setTimeout(
        () =>
          resolve(
            fail(
              "timeout",
              "Cannot list the hosts: the head of the tree did not answer in 5 s",
              "mt-tree up starts it anew where it is frozen",
            ),
          ),
        5_000,
      );
      this.#closed.push((why) => {
        clearTimeout(late);
        resolve(gone(why));
      });
      this.#listed.push((hosts) => {
        clearTimeout(late);
        resolve(ok(hosts));
      });
      this.#link.send({ type: "list" });
    });
  }

  /** Asks hosts how they are; gives those that have answered when all have, or the time is up. */
  probe(hosts: string[], timeout_ms: number): Promise<Map<string, Probed>> {
    return new Promise((resolve) => {
      const probed = new Map<string, Probed>();
      const s = newSession();
      const done = () => {
        clearTimeout(late);
        this.#probes.delete(s);
        resolve(probed);
      };
      const late = setTimeout(done, timeout_ms);
      this.#probes.set(s, (host, answer) => {
        probed.set(host, answer);
        if (probed.size === hosts.length) done();
      });
      if (hosts.length === 0) return done();
      this.#link.send({ type: "probe", session: s, hosts });
    });
  }
  readonly #probes = new Map<string, (host: string, probed: Probed) => void>();

  /** Tells the head of the hosts that it shall expect, and which of them to reach where that is its part. */
  expect(hosts: Place[], reach: string[] = []): void {
    this.#link.send({ type: "expect", hosts, reach });
  }

  /** @param hosts how many hosts it will be for: what may be under way to all together is bounded */
  session(command: Command, events: SessionEvents, hosts: number): Session {
    const session = new Session(newSession(), this.#link, this.#known, command, events, windowFor(hosts));
    this.#sessions.set(session.s, session);
    return session;
  }

  close(): void {
    this.#link.close();
  }

  #message(message: Message, payload: Buffer): void {
    if (message.type === "listed") {
      this.#known.list(message.hosts);
      for (const listed of this.#listed.splice(0)) listed(message.hosts);
    } else if (message.type === "joined" || message.type === "lost") {
      this.#known.change(message);
      for (const session of this.#sessions.values()) session.route(message);
    } else if (message.type === "vitals") {
      const { host, vitals, links } = message;
      this.#probes.get(message.session)?.(host, { vitals, links });
    } else if ("session" in message) this.#sessions.get(message.session)?.take(message, payload);
  }
}

/** Which hosts are there: the head's list, and every change since that it has told. */
class KnownHosts {
  readonly #hosts = new Map<string, Seen>();
  /** Why there is no head any more. */
  headLost: string | undefined;

  list(hosts: readonly HostStatus[]): void {
    this.#hosts.clear();
    for (const { host, present, moving, since, epoch } of hosts)
      this.#hosts.set(host, { state: present ? "there" : moving ? "moving" : "gone", since, epoch });
  }

  change(message: Extract<Message, { type: "joined" | "lost" }>): void {
    const epoch = message.type === "joined" ? message.epoch : this.#hosts.get(message.host)?.epoch;
    if (message.type === "lost")
      this.#hosts.set(message.host, { state: "gone", since: message.since, epoch });
    else this.#hosts.set(message.host, { state: "there", since: new Date().toISOString(), epoch });
  }

  epochOf(host: string): string | undefined {
    return this.#hosts.get(host)?.epoch;
  }

  /** Why nothing can be started on a host; undefined where it is there, or may come by another way. */
  absent(host: string): MtError | undefined {
    if (this.headLost !== undefined)
      return mtError(
        "lost",
        `Cannot reach host ${host}: ${this.headLost}`,
        "mt-tree up mends it; then run it again",
      );
    const seen = this.#hosts.get(host);
    if (!seen)
      return mtError(
        "lost",
        `Cannot reach host ${host}: it is not in the tree`,
        "mt-tree status lists the hosts",
      );
    if (seen.state !== "gone") return undefined;
    return mtError(
      "lost",
      `Cannot reach host ${host}: it is gone since ${seen.since}`,
      "mt-tree up brings it back; then run it again",
    );
  }
}

/** A head that has said nothing for this long is gone: no less than what its agents give it. */
const HEAD_SILENCE_MS = 3_000;

const newSession = () => randomBytes(8).toString("hex");

/** One command on many hosts. stdin is written a host at a time, or once to all of them (`broadcast`). */
export class Session implements HostSession {
  readonly s: string;
  readonly #link: Link;
  readonly #known: KnownHosts;
  readonly #command: Command;
  /** Bytes that may be under way to a host. */
  readonly #window: number;
  readonly #events: SessionEvents;
  readonly #channels = new Map<string, Channel>();
  /** What was broadcast and is not yet with every host: the same bytes at the same offsets for all. */
  #cast: Piece[] = [];
  #castSent = 0;
  /** The offset that the slowest hosts have come to, and how many they are. */
  #castLeast = 0;
  #slowest = 0;
  #broadcasting = false;
  /** The last signal sent: said again to a host that comes by another way. */
  #signal: NodeJS.Signals | undefined;

  constructor(
    s: string,
    link: Link,
    known: KnownHosts,
    command: Command,
    events: SessionEvents,
    window: number,
  ) {
    this.s = s;
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
  #running: string[] | undefined;

  start(hosts: string[]): void {
    this.#running = undefined;
    this.#slowest = 0;
    for (const host of hosts)
      this.#channels.set(host, {
        host,
        epoch: this.#known.epochOf(host),
        queue: [],
        queued: 0,
        unacked: [],
        sent: 0,
        acked: 0,
        eof: "no",
        heard: 0,
        heardAcked: 0,
        exit: undefined,
        done: false,
      });
    // Told after all of them are known here: an event may ask who runs.
    const living: string[] = [];
    for (const host of hosts) {
      const error = this.#known.absent(host);
      if (error) this.#finish(this.#channels.get(host)!, { error }, false);
      else living.push(host);
    }
    if (living.length > 0) this.#sendStart(living);
  }

  #sendStart(hs: string[]): void {
    this.#send({ type: "run", session: this.s, hosts: hs, window: this.#window, ...this.#command });
  }

  write(host: string, bytes: Buffer): void {
    const c = this.#channels.get(host);
    if (!c || c.done || bytes.length === 0) return;
    c.queue.push(bytes);
    c.queued += bytes.length;
    this.#pump(c);
  }

  get backlog(): { most: number; all: number } {
    let most = 0;
    let all = 0;
    for (const c of this.#channels.values()) {
      most = Math.max(most, c.queued);
      all += c.queued;
    }
    return { most, all };
  }

  /** Sends stdin to all hosts at once, down the tree; false where it is time to wait for `drain`. */
  broadcast(bytes: Buffer): boolean {
    this.#broadcasting = true;
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
      const piece = { o: this.#castSent, bytes: bytes.subarray(at, at + CHUNK_BYTES) };
      this.#castSent += piece.bytes.length;
      this.#cast.push(piece);
      const hs = this.running;
      if (hs.length > 0)
        this.#send({ type: "stdin", session: this.s, hosts: hs, offset: piece.o }, piece.bytes);
    }
    for (const c of this.#channels.values()) c.sent = this.#castSent;
    return this.#castRoom();
  }

  #castRoom(): boolean {
    // All hosts are looked at only when the last of the slowest has moved on.
    if (this.#slowest <= 0) {
      let least = this.#castSent;
      for (const c of this.#channels.values()) {
        if (c.done || c.acked > least) continue;
        if (c.acked < least) this.#slowest = 0;
        least = c.acked;
        this.#slowest++;
      }
      this.#castLeast = least;
    }
    const least = this.#castLeast;
    while (this.#cast.length > 0 && this.#cast[0]!.o + this.#cast[0]!.bytes.length <= least)
      this.#cast.shift();
    return this.#castSent - least < this.#window;
  }

  /** No more stdin for these hosts. */
  end(hosts: Iterable<string> = this.#channels.keys()): void {
    for (const host of hosts) {
      const c = this.#channels.get(host);
      if (c?.eof !== "no") continue;
      c.eof = "wanted";
      this.#pump(c);
    }
  }

  /** Signals the command's process group on every host where it has not ended. */
  kill(signal: NodeJS.Signals): void {
    this.#signal = signal;
    const hs = this.running;
    if (hs.length > 0) this.#send({ type: "kill", session: this.s, hosts: hs, signal });
  }

  giveUp(error: MtError): void {
    for (const host of this.running) this.#finish(this.#channels.get(host)!, { error });
  }

  headLost(why: string): void {
    this.#events.headLost?.(why);
    for (const c of this.#channels.values()) {
      this.#events.moved?.(c.host, true);
      if (!c.done)
        this.#finish(c, {
          error: mtError(
            "lost",
            `Cannot hear from ${c.host}: ${why}`,
            "mt-tree up mends it; then run it again",
          ),
        });
    }
  }

  /** Whether what a host has of this session is lost, though its command may have ended well. */
  isLost(host: string): boolean {
    const epoch = this.#channels.get(host)?.epoch;
    return (
      this.#known.absent(host) !== undefined || (epoch !== undefined && this.#known.epochOf(host) !== epoch)
    );
  }

  /** A host came by another way, or is gone for good. */
  route(message: Extract<Message, { type: "joined" | "lost" }>): void {
    const c = this.#channels.get(message.host);
    this.#events.moved?.(
      message.host,
      message.type === "lost" || (c !== undefined && c.epoch !== message.epoch),
    );
    if (!c || c.done) return;
    if (message.type === "lost")
      return this.#finish(c, {
        error: mtError(
          "lost",
          `Cannot hear from ${c.host}: it is gone since ${message.since}`,
          "mt-tree up brings it back; then run it again",
        ),
      });
    if (c.epoch !== undefined && c.epoch !== message.epoch)
      return this.#finish(c, {
        error: mtError("lost", `Cannot hear from ${c.host}: its agent was started anew`, "run it again"),
      });
    this.#send({ type: "sync", session: this.s, hosts: [c.host], offset: c.heard });
  }

  take(message: Message, payload: Buffer): void {
    if (message.type === "reduced") return this.#events.piece?.(message, payload);
    const c = "host" in message ? this.#channels.get(message.host) : undefined;
    if (!c || c.done) return;
    switch (message.type) {
      case "stdin_ack":
        this.#credit(c, message.offset);
        return;
      case "output":
        this.#heard(c, message.offset, message.fd, payload);
        break;
      case "exit":
        c.exit = {
          o: message.offset,
          how: { code: message.code, signal: message.signal, error: message.error },
        };
        break;
      case "synced":
        this.#synced(c, message.known, message.offset);
        return;
      default:
        return;
    }
    if (c.exit && c.heard >= c.exit.o) this.#finish(c, c.exit.how);
  }

  #heard(c: Channel, o: number, fd: 1 | 2, payload: Buffer): void {
    // A gap is what a dead node took with it; it comes again after the sync that the new way brings.
    const skip = c.heard - o;
    if (skip < 0 || skip >= payload.length) return;
    const bytes = payload.subarray(skip);
    c.heard += bytes.length;
    this.#events.output(c.host, fd, bytes);
    if (c.heard - c.heardAcked >= this.#window / 2) {
      c.heardAcked = c.heard;
      this.#send({ type: "output_ack", session: this.s, hosts: [c.host], offset: c.heard });
    }
  }

  #credit(c: Channel, o: number): void {
    if (o <= c.acked) return;
    if (c.acked === this.#castLeast) this.#slowest--;
    c.acked = o;
    while (c.unacked.length > 0 && c.unacked[0]!.o + c.unacked[0]!.bytes.length <= o) c.unacked.shift();
    if (this.#broadcasting) {
      if (this.#castRoom()) this.#events.drain?.();
      return;
    }
    this.#pump(c);
    this.#events.drain?.();
  }

  #synced(c: Channel, known: boolean, o: number): void {
    if (!known) this.#sendStart([c.host]);
    else this.#credit(c, o);
    for (const piece of this.#broadcasting ? this.#cast : c.unacked)
      if (piece.o + piece.bytes.length > o)
        this.#send({ type: "stdin", session: this.s, hosts: [c.host], offset: piece.o }, piece.bytes);
    if (c.eof === "sent") this.#send({ type: "stdin_end", session: this.s, hosts: [c.host], offset: c.sent });
    if (this.#signal) this.#send({ type: "kill", session: this.s, hosts: [c.host], signal: this.#signal });
  }

  #pump(c: Channel): void {
    while (c.queue.length > 0 && c.sent - c.acked < this.#window) {
      const bytes = this.#nextChunk(c);
      c.unacked.push({ o: c.sent, bytes });
      this.#send({ type: "stdin", session: this.s, hosts: [c.host], offset: c.sent }, bytes);
      c.sent += bytes.length;
    }
    if (c.eof === "wanted" && c.queue.length === 0) {
      c.eof = "sent";
      this.#send({ type: "stdin_end", session: this.s, hosts: [c.host], offset: c.sent });
    }
  }

  /** Small writes joined, large ones cut; none is copied that is large enough to go alone. */
  #nextChunk(c: Channel): Buffer {
    const first = c.queue[0]!;
    if (first.length >= CHUNK_BYTES / 2 || c.queue.length === 1) {
      const bytes = first.subarray(0, CHUNK_BYTES);
      if (bytes.length === first.length) c.queue.shift();
      else c.queue[0] = first.subarray(bytes.length);
      c.queued -= bytes.length;
      return bytes;
    }
    const pieces: Buffer[] = [];
    let size = 0;
    while (c.queue.length > 0 && size + c.queue[0]!.length <= CHUNK_BYTES) {
      const piece = c.queue.shift()!;
      pieces.push(piece);
      size += piece.length;
    }
    c.queued -= size;
    return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces, size);
  }

  /** @param started whether its host may know of it */
  #finish(c: Channel, how: HostExit, started = true): void {
    if (c.done) return;
    c.done = true;
    this.#running = undefined;
    if (c.acked === this.#castLeast) this.#slowest--;
    c.queue = [];
    c.unacked = [];
    c.queued = 0;
    // What it holds for a reduction is still wanted.
    if (!started) {
      // There is nothing to close.
    } else if (how.error && !c.exit) this.#send({ type: "close", session: this.s, hosts: [c.host] });
    else if (!this.#command.keep_output || how.code !== 0)
      this.#link.send({ type: "done", session: this.s, hosts: [c.host] });
    this.#events.exit(c.host, how);
    this.#events.drain?.();
  }

  /** Nothing of it is wanted any more, on these hosts. */
  close(hosts: string[]): void {
    this.#send({ type: "close", session: this.s, hosts });
  }

  /** Sends what a reduction needs; see reduce.ts. */
  send(message: Extract<DownMessage, { type: "reduce" | "pull_reduced" }>): void {
    this.#send(message);
  }

  #send(message: DownMessage, payload?: Buffer): void {
    this.#link.send(message, payload);
  }
}
