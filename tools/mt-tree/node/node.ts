/**
 * A node of the tree: the head (which clients talk to, by a socket that only its owner can open) or the
 * agent of a host. It routes by host name, joins its nearest living ancestor, and runs what is for itself.
 */
import { randomBytes } from "node:crypto";
import { loadavg } from "node:os";
import { inform } from "../../../shared/cli/stderr.ts";
import type { MtError } from "../../../shared/errors.ts";
import { availableMib } from "../../../shared/host/memory.ts";
import { VERSION } from "../../../shared/version.ts";
import type { Pass } from "../link/authority.ts";
import { Link } from "../link/link.ts";
import {
  type DownMessage,
  type HostStatus,
  isDown,
  isUp,
  type Message,
  PROTOCOL,
  type Presence,
  presenceFrom,
  type UpMessage,
  type Vitals,
} from "../link/messages.ts";
import type { Place, Transport, Wire } from "../link/wire.ts";
import { HostSessions } from "../session/host-sessions.ts";
import type { Launch } from "./command.ts";
import type { NodeConfig } from "./config.ts";
import { type Route, Routes } from "./routes.ts";
import { underlayMtu } from "./underlay.ts";

/** How long a host may take to come back by another way, where a node above it died, before its work is lost (MT_REJOIN_MS is for tests). */
const REJOIN_MS = Number(process.env.MT_REJOIN_MS) || 2_500;
/** The same where its own link ended: only its own death does that, or a network that is cut. */
const ENDED_MS = Math.min(700, REJOIN_MS);
/** How long an agent that finds nobody goes on trying; its commands end sooner. */
const ORPHAN_END_MS = 60_000;
const ORPHAN_KILL_MS = 10_000;
const DIAL_MS = 2_000;
/** At the start all nodes start at once: the nearest ancestor gets this long to be there. */
const FIRST_DIAL_MS = 1_500;
/** How often a node says again why it cannot join, where that stays the same. */
const SAY_AGAIN_MS = 60_000;
/** How long the head gathers what hosts may forget. */
const FORGET_MS = 1_000;
/** Of a whole subtree, as many hosts are told in one frame. */
const ROUTES_MAX = 1_000;
/** How often one that had to join a further ancestor looks whether a nearer is back. */
const NEARER_MS = 10_000;

/** A link to a parent, and how it will have ended. */
interface Joined {
  link: Link;
  /** The ancestor's place among ours. */
  at: number;
  lost: Promise<{ silent: boolean }>;
}

export class TreeNode {
  readonly #config: NodeConfig;
  readonly #transport: Transport;
  readonly #epoch = randomBytes(8).toString("hex");
  readonly #routes = new Routes<Link>();
  /** Links whose other end has proved to be this host. */
  readonly #children = new Map<Link, string>();
  /** Hosts that may speak for a host besides itself, as the authority has said. */
  readonly #passes = new Map<string, Pass>();
  readonly #sessions: HostSessions;
  readonly #clients = new Map<string, { link: Link; hosts: Set<string> }>();
  readonly #clientLinks = new Set<Link>();
  /** The head's: since when a host is there, or is to be; and since when it is missing. */
  readonly #since = new Map<string, string>();
  readonly #missing = new Map<string, string>();
  /** The agent that was there last, by host. */
  readonly #epochs = new Map<string, string>();
  /** Those that did not come by another way in time. */
  readonly #lost = new Set<string>();
  readonly #lostTimers = new Map<string, NodeJS.Timeout>();
  /** The head's: what hosts may forget. */
  #over = {
    hosts: new Set<string>(),
    sessions: new Set<string>(),
    timer: undefined as NodeJS.Timeout | undefined,
  };
  #parent: Link | undefined;
  #joins = 0;
  #stopped = false;

  constructor(config: NodeConfig, transport: Transport, launch: Launch) {
    this.#config = config;
    this.#transport = transport;
    this.#sessions = new HostSessions(
      config.self.name,
      launch,
      (message, payload) => this.#up(message, payload),
      (message, payload) => this.#down(message, payload),
    );
    for (const h of config.hosts ?? []) this.#since.set(h.name, new Date().toISOString());
  }

  get #isHead(): boolean {
    return this.#config.ancestors.length === 0;
  }

  /** Takes children, and joins; returns when it has found nobody to join for long. */
  async run(): Promise<void> {
    await this.#transport.listen(this.#config.self, (wire, name) => this.#accept(wire, name));
    if (!this.#isHead) await this.#stayJoined();
    else await new Promise(() => {});
  }

  // ---- links to children ----

  #accept(wire: Wire, name: string): void {
    let joined = false;
    const link: Link = new Link(
      wire,
      {
        message: (message, payload, frame) => {
          if (!joined) {
            const refused = this.#refuses(message, name);
            if (refused === "stranger") return link.close();
            if (refused) return link.send({ type: "refused", error: refused });
            joined = true;
            this.#children.set(link, name);
            link.send({ type: "welcome", name: this.#config.self.name });
            if (message.type === "hello") this.#addRoutes(message.presences, link, name);
            return;
          }
          if (message.type === "routes") {
            this.#dropRoutes(message.gone, new Set(message.ended), link);
            this.#addRoutes(message.add, link, name);
          } else if (isUp(message) && this.#maySpeak(name, message.host)) this.#up(message, payload, frame);
        },
        close: () => {
          this.#children.delete(link);
          this.#dropRoutes(this.#routes.over(link), new Set([name]), link);
        },
      },
      "asks",
    );
    // Somebody with a certificate who says nothing is nobody.
    setTimeout(() => !joined && link.close(), 5_000).unref();
  }

  /** Why what a new child says first is not good enough. */
  #refuses(message: Message, name: string): MtError | "stranger" | undefined {
    if (message.type !== "hello" || !Array.isArray(message.presences)) return "stranger";
    if (message.protocol !== PROTOCOL)
      return {
        code: "data",
        message: `Cannot join ${this.#config.self.name}: agent of release ${message.release}, this one is ${VERSION}`,
      };
    return message.presences[0]?.host === name ? undefined : "stranger";
  }

  /** Whether a child may speak for a host: for itself, and for those whose ancestor it is. */
  #maySpeak(child: string, host: string): boolean {
    if (child === host || !this.#transport.passHolds) return true;
    return this.#passes.get(host)?.relays.includes(child) === true;
  }

  /** Keeps what the authority has said of a host; one that has been looked at is not looked at again. */
  #learn(p: Presence): void {
    const { signature } = this.#passes.get(p.host) ?? {};
    if (!p.pass || p.pass.signature === signature) return;
    if (this.#transport.passHolds?.(p)) this.#passes.set(p.host, p.pass);
  }

  #addRoutes(presences: Presence[], link: Link, child: string): void {
    const add: Presence[] = [];
    for (const told of presences) {
      const p = presenceFrom(told);
      if (!p) continue;
      this.#learn(p);
      if (!this.#maySpeak(child, p.host)) continue;
      const before = this.#routes.get(p.host)?.presence.epoch;
      const { taken, displaced } = this.#routes.tell(p, link);
      if (!taken) continue;
      add.push(p);
      // Its own way to another parent is no other agent.
      const other = before !== undefined && before !== p.epoch;
      if (this.#isHead) this.#joined(p, other);
      if (displaced && other) this.#tellPlace(displaced, true);
    }
    if (add.length > 0) this.#parent?.send({ type: "routes", add, gone: [], ended: [] });
  }

  #dropRoutes(presences: Presence[], ended: ReadonlySet<string>, link: Link): void {
    const gone: Presence[] = [];
    const add: Presence[] = [];
    for (const p of presences) {
      const over = this.#routes.untell(p, link);
      if (!over) continue;
      if (over.instead) {
        add.push(over.instead.presence);
        const other = over.instead.presence.epoch !== p.epoch;
        if (this.#isHead) this.#joined(over.instead.presence, other);
        if (other) this.#tellPlace(over.instead, false);
        continue;
      }
      gone.push(over.gone);
      if (this.#isHead) this.#gone(p, ended.has(p.host) ? ENDED_MS : REJOIN_MS);
    }
    if (gone.length + add.length > 0)
      this.#parent?.send({
        type: "routes",
        add,
        gone,
        ended: gone.flatMap((p) => (ended.has(p.host) ? [p.host] : [])),
      });
  }

  /** Tells an agent that is our child that another has its place, or none any more. */
  #tellPlace({ presence, link }: Route<Link>, taken: boolean): void {
    if (this.#children.get(link) === presence.host) link.send({ type: "place", taken });
  }

  // ---- the link to the parent ----

  async #stayJoined(): Promise<void> {
    const began = Date.now();
    const ancestors = this.#config.ancestors.length;
    let orphanedAt = Date.now();
    let first = 0;
    while (!this.#stopped) {
      let joined: Joined | undefined;
      for (let i = 0; i < ancestors && !joined; i++) {
        const at = (first + i) % ancestors;
        do joined = await this.#join(at);
        while (!joined && at === 0 && Date.now() - began < FIRST_DIAL_MS && (await pause(50)));
      }
      if (joined) {
        const last = await this.#whileJoined(joined);
        // One that is frozen takes connections and says nothing: the others are asked before it.
        first = last.silent ? last.at + 1 : 0;
        orphanedAt = Date.now();
        continue;
      }
      first = 0;
      if (Date.now() - orphanedAt > ORPHAN_KILL_MS) {
        this.#sessions.closeAll();
        // Those below have a parent, and cannot know that it has none.
        this.#down({ type: "alive", hosts: [...this.#routes.hosts()], sessions: [] }, EMPTY);
      }
      if (Date.now() - orphanedAt > ORPHAN_END_MS) return;
      await pause(250);
    }
  }

  /** Until the link is lost; meanwhile goes to a nearer ancestor where one is back, the new link before the old ends. */
  async #whileJoined(joined: Joined): Promise<{ at: number; silent: boolean }> {
    for (;;) {
      const { at, link } = joined;
      if (at === 0) return { at, ...(await joined.lost) };
      const lost = await Promise.race([joined.lost, pause(NEARER_MS)]);
      if (lost !== true) return { at, ...lost };
      for (let nearer = 0; nearer < at; nearer++) {
        const better = await this.#join(nearer);
        if (!better) continue;
        link.close();
        joined = better;
        break;
      }
    }
  }

  /** Says why an ancestor could not be joined: each reason once, and again where it stays so. */
  #cannotJoin({ name, addr, port }: Place, why: string): void {
    const said = this.#said.get(name);
    const now = Date.now();
    if (this.#stopped || (said?.why === why && now - said.at < SAY_AGAIN_MS)) return;
    this.#said.set(name, { why, at: now });
    inform(`Cannot join ${name} at ${addr}:${port} as ${this.#config.self.name}: ${why}`);
  }
  readonly #said = new Map<string, { why: string; at: number }>();

  /** That it was so is in the log; that it is not so any more, too. */
  #hasJoined({ name }: Place): void {
    if (this.#said.size === 0) return;
    this.#said.clear();
    inform(`Joined ${name} as ${this.#config.self.name}`);
  }

  /** Joins an ancestor, by its place among ours; gives nothing where nobody is there, and says why. */
  async #join(at: number): Promise<Joined | undefined> {
    const ancestor = this.#config.ancestors[at]!;
    const dialled = await this.#transport.dial(ancestor, DIAL_MS);
    if (dialled.isErr()) {
      this.#cannotJoin(ancestor, dialled.error);
      return undefined;
    }
    const wire = dialled.value;
    if (this.#stopped) {
      wire.close();
      return undefined;
    }
    return new Promise((resolve) => {
      let onLost: (how: { silent: boolean }) => void = () => {};
      const lost = new Promise<{ silent: boolean }>((r) => {
        onLost = r;
      });
      const link: Link = new Link(
        wire,
        {
          message: (message, payload, frame) => {
            if (message.type === "welcome") {
              clearTimeout(late);
              this.#parent = link;
              settled = true;
              this.#hasJoined(ancestor);
              resolve({ link, at, lost });
              const below = [...this.#routes.all()].map((r) => r.presence);
              for (let i = 0; i < below.length; i += ROUTES_MAX)
                link.send({ type: "routes", add: below.slice(i, i + ROUTES_MAX), gone: [], ended: [] });
            } else if (message.type === "refused") {
              give(message.error.message);
            } else if (message.type === "place") this.#placeTaken(ancestor, message.taken);
            else if (isDown(message)) this.#down(message, payload, frame);
          },
          close: (why) => {
            if (this.#parent === link) this.#parent = undefined;
            give(`${why} before it let this node in`);
            onLost({ silent: why.startsWith("it was silent") });
          },
        },
        "watches",
      );
      let settled = false;
      const give = (why: string) => {
        clearTimeout(late);
        if (settled) return;
        settled = true;
        this.#cannotJoin(ancestor, why);
        resolve(undefined);
        link.close();
      };
      const late = setTimeout(
        () => give(`it took the connection and did not answer in ${DIAL_MS / 1000} s`),
        DIAL_MS,
      );
      this.#joins++;
      const self: Presence = {
        host: this.#config.self.name,
        epoch: this.#epoch,
        join: this.#joins,
        parent: ancestor.name,
        release: VERSION,
        pass: this.#config.pass,
      };
      link.send({
        type: "hello",
        protocol: PROTOCOL,
        release: VERSION,
        presences: [self],
      });
    });
  }

  /** Another agent speaks as this host, or does so no more: nothing comes here meanwhile. */
  #placeTaken(ancestor: Place, taken: boolean): void {
    if (taken)
      this.#cannotJoin(
        ancestor,
        "another agent with this host's key is there and has its place; this one waits until that is gone",
      );
    else this.#hasJoined(ancestor);
  }

  // ---- routing ----

  /** Towards the hosts: split by the link that leads to each; what is for this host stays. */
  #down(message: DownMessage, payload: Buffer, frame?: Buffer): void {
    const { name } = this.#config.self;
    const byLink = new Map<Link, string[]>();
    let here = false;
    for (const h of message.hosts) {
      if (h === name) {
        here = true;
        continue;
      }
      const link = this.#routes.get(h)?.link;
      if (!link) continue;
      const hs = byLink.get(link);
      if (hs) hs.push(h);
      else byLink.set(link, [h]);
    }
    for (const [link, hs] of byLink)
      if (frame && hs.length === message.hosts.length) link.forward(frame);
      else link.send({ ...message, hosts: hs }, payload);
    if (!here) return;
    if (message.type === "probe")
      void this.#vitals().then((vitals) =>
        this.#up({ type: "vitals", session: message.session, host: name, vitals, links: this.#roundTrips() }),
      );
    else this.#sessions.handle(message, payload);
  }

  /** Towards the client. Without a way up it is dropped: it is numbered, and asked for again by `sync`. */
  #up(message: UpMessage, payload?: Buffer, frame?: Buffer): void {
    if (message.type === "reduced" && message.to === this.#config.self.name)
      return this.#sessions.reduced(message, payload ?? EMPTY);
    const link = this.#isHead ? this.#clients.get(message.session)?.link : this.#parent;
    if (frame) link?.forward(frame);
    else link?.send(message, payload);
  }

  async #vitals(): Promise<Vitals> {
    const mtu = await underlayMtu(this.#config.self.addr);
    return {
      load: loadavg()[0]!,
      mem_available_mib: availableMib(),
      rss_mib: Math.round(process.memoryUsage.rss() / 2 ** 20),
      ...(mtu === undefined ? {} : { mtu }),
    };
  }

  /** Of the links to our children, in ms. */
  #roundTrips(): Record<string, number> {
    const out: Record<string, number> = {};
    for (const { presence, link } of this.#routes.all())
      if (presence.parent === this.#config.self.name && link.rtt_ms !== undefined)
        out[presence.host] = link.rtt_ms;
    return out;
  }

  // ---- the head: clients, who is there, who is missing ----

  /** Takes a client of the head. */
  client(wire: Wire): void {
    const link: Link = new Link(
      wire,
      {
        message: (message, payload, frame) => {
          if (message.type === "list") link.send({ type: "listed", hosts: this.#list() });
          else if (message.type === "done") this.#done(message.session, message.hosts);
          else if (message.type === "expect") {
            this.#expect(message.hosts);
            const reach = new Set(message.reach);
            if (reach.size > 0)
              this.#transport.reach?.(
                message.hosts.filter((h) => reach.has(h.name) && !this.#routes.has(h.name)),
              );
          } else if (isDown(message)) this.#fromClient(link, message, payload, frame);
        },
        close: () => {
          this.#clientLinks.delete(link);
          for (const [s, client] of this.#clients) {
            if (client.link !== link) continue;
            // Ctrl-C, kill -9, a closed terminal: whatever ended the client ends its commands.
            this.#down({ type: "close", session: s, hosts: [...client.hosts] }, EMPTY);
            this.#clients.delete(s);
          }
        },
      },
      "none",
    );
    this.#clientLinks.add(link);
  }

  #fromClient(link: Link, message: DownMessage, payload: Buffer, frame: Buffer): void {
    if (message.type === "alive" || message.type === "forget") return;
    let client = this.#clients.get(message.session);
    if (!client) this.#clients.set(message.session, (client = { link, hosts: new Set() }));
    if (message.type === "run") for (const h of message.hosts) client.hosts.add(h);
    this.#down(message, payload, frame);
    if (message.type === "close") for (const h of message.hosts) client.hosts.delete(h);
  }

  /** Agents are told later, and of many sessions at once: a command costs them one waking less. */
  #done(s: string, hosts: string[]): void {
    const client = this.#clients.get(s);
    for (const h of hosts) {
      client?.hosts.delete(h);
      this.#over.hosts.add(h);
    }
    this.#over.sessions.add(s);
    this.#over.timer ??= setTimeout(() => {
      const { hosts, sessions } = this.#over;
      this.#over = { hosts: new Set(), sessions: new Set(), timer: undefined };
      this.#down({ type: "forget", hosts: [...hosts], sessions: [...sessions] }, EMPTY);
    }, FORGET_MS);
  }

  /** @param instead another agent of this host was there, which knows nothing of what this one runs */
  #joined(p: Presence, instead: boolean): void {
    clearTimeout(this.#lostTimers.get(p.host));
    this.#lostTimers.delete(p.host);
    // One that came by another way was there all the time.
    if (this.#lost.delete(p.host) || this.#epochs.get(p.host) !== p.epoch)
      this.#since.set(p.host, new Date().toISOString());
    this.#epochs.set(p.host, p.epoch);
    this.#missing.delete(p.host);
    // Its clients may have given it up meanwhile: nothing runs on that nobody waits for.
    if (p.join > 1 || instead) {
      const sessions = [...this.#clients].flatMap(([s, c]) => (c.hosts.has(p.host) ? [s] : []));
      this.#down({ type: "alive", hosts: [p.host], sessions }, EMPTY);
    }
    for (const link of this.#clientLinks)
      link.send({ type: "joined", host: p.host, epoch: p.epoch, parent: p.parent });
  }

  #gone(p: Presence, grace_ms: number): void {
    const since = new Date().toISOString();
    this.#missing.set(p.host, since);
    clearTimeout(this.#lostTimers.get(p.host));
    this.#lostTimers.set(
      p.host,
      setTimeout(() => {
        this.#lostTimers.delete(p.host);
        this.#lost.add(p.host);
        for (const link of this.#clientLinks) link.send({ type: "lost", host: p.host, since });
      }, grace_ms),
    );
  }

  #expect(hosts: Place[]): void {
    this.#config.hosts = hosts;
    for (const h of hosts) if (!this.#since.has(h.name)) this.#since.set(h.name, new Date().toISOString());
  }

  #list(): HostStatus[] {
    const depths = new Map<string, number>([[this.#config.self.name, 0]]);
    const depth = (host: string, left = 64): number => {
      const known = depths.get(host);
      if (known !== undefined) return known;
      const parent = this.#routes.get(host)?.presence.parent;
      const n = parent === undefined || left === 0 ? 1 : depth(parent, left - 1) + 1;
      depths.set(host, n);
      return n;
    };
    return (this.#config.hosts ?? []).map((h) => {
      const route = this.#routes.get(h.name);
      const since = (route ? undefined : this.#missing.get(h.name)) ?? this.#since.get(h.name) ?? "";
      if (!route) {
        const moving = this.#lostTimers.has(h.name) ? true : undefined;
        return { host: h.name, addr: h.addr, present: false, since, moving, epoch: this.#epochs.get(h.name) };
      }
      const { parent, epoch, release } = route.presence;
      return {
        host: h.name,
        addr: h.addr,
        present: true,
        since,
        epoch,
        release,
        parent,
        depth: depth(h.name),
        rtt_ms: parent === this.#config.self.name ? route.link.rtt_ms : undefined,
      };
    });
  }

  /** Nothing goes on running once the agent is gone; it joins nobody any more. */
  stop(): void {
    this.#stopped = true;
    this.#sessions.closeAll();
    for (const timer of this.#lostTimers.values()) clearTimeout(timer);
    clearTimeout(this.#over.timer);
  }
}

const EMPTY = Buffer.alloc(0);
const pause = (ms: number) => new Promise<true>((resolve) => setTimeout(() => resolve(true), ms));
