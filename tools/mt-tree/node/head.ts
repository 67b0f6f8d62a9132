/** What the head does besides routing: it serves clients, and tells them which hosts are there and which are lost. */
import { Link } from "../link/link.ts";
import type { DownMessage, Message, Presence } from "../link/messages.ts";
import type { Place, Wire } from "../link/wire.ts";
import { HostStates } from "./host-states.ts";
import type { Routes } from "./routes.ts";

/** How long a host may take to join again after a node above it died, before its commands are lost. */
const REJOIN_MS = 2_500;
/** The same where its own link ended: only its own death does that, or a network that is cut. */
const ENDED_MS = 700;
/** How long the head gathers which sessions hosts may forget: many go into one message, which wakes a host once. */
const FORGET_MS = 1_000;

export interface HeadOptions {
  name: string;
  hosts: readonly Place[];
  /** REJOIN_MS where it is absent. */
  rejoin_ms: number | undefined;
}

export interface HeadEvents {
  /** A message for hosts. */
  down(message: DownMessage, payload?: Buffer, frame?: Buffer): void;
  /** Connects to hosts that are missing, where the head does that and not they. */
  reach(hosts: Place[]): void;
}

export class Head {
  readonly #name: string;
  readonly #routes: Routes<Link>;
  readonly #events: HeadEvents;
  readonly #states = new HostStates();
  readonly #rejoin_ms: number;
  readonly #links = new Set<Link>();
  /** By session: its client, and the hosts whose commands have not ended there. */
  readonly #sessions = new Map<string, { link: Link; hosts: Set<string> }>();
  #lossTimer: { at: number; timer: NodeJS.Timeout } | undefined;
  /** Hosts and sessions of which the client has everything. */
  #done = { hosts: new Set<string>(), sessions: new Set<string>() };
  #forgetTimer: NodeJS.Timeout | undefined;

  constructor({ name, hosts, rejoin_ms = REJOIN_MS }: HeadOptions, routes: Routes<Link>, events: HeadEvents) {
    this.#name = name;
    this.#routes = routes;
    this.#events = events;
    this.#rejoin_ms = rejoin_ms;
    this.#states.expect(hosts, Date.now());
  }

  /** The client of a session. */
  linkOf(session: string): Link | undefined {
    return this.#sessions.get(session)?.link;
  }

  /** Takes a client. */
  accept(wire: Wire): void {
    const link: Link = new Link(
      wire,
      {
        message: (message, payload, frame) => this.#message(link, message, payload, frame),
        close: () => this.#clientGone(link),
      },
      "none",
    );
    this.#links.add(link);
  }

  #message(link: Link, message: Message, payload: Buffer, frame: Buffer): void {
    switch (message.type) {
      case "list":
        return link.send({ type: "listed", hosts: this.#list() });
      case "expect":
        return this.#expect(message.hosts, new Set(message.reach));
      case "done":
        return this.#forgetSoon(message.session, message.hosts);
      case "run":
        for (const host of message.hosts) this.#sessionOf(message.session, link).hosts.add(host);
        return this.#events.down(message, payload, frame);
      case "close":
        this.#events.down(message, payload, frame);
        for (const host of message.hosts) this.#sessions.get(message.session)?.hosts.delete(host);
        return;
      case "stdin":
      case "stdin_end":
      case "output_ack":
      case "sync":
      case "kill":
      case "probe":
      case "reduce":
      case "pull_reduced":
        this.#sessionOf(message.session, link);
        return this.#events.down(message, payload, frame);
    }
  }

  #sessionOf(id: string, link: Link): { link: Link; hosts: Set<string> } {
    let session = this.#sessions.get(id);
    if (!session) this.#sessions.set(id, (session = { link, hosts: new Set() }));
    return session;
  }

  /** Whatever ended the client (Ctrl-C, kill -9, a closed terminal) ends its commands. */
  #clientGone(link: Link): void {
    this.#links.delete(link);
    for (const [id, session] of this.#sessions) {
      if (session.link !== link) continue;
      this.#events.down({ type: "close", session: id, hosts: [...session.hosts] });
      this.#sessions.delete(id);
    }
  }

  #forgetSoon(id: string, hosts: readonly string[]): void {
    const session = this.#sessions.get(id);
    for (const host of hosts) {
      session?.hosts.delete(host);
      this.#done.hosts.add(host);
    }
    this.#done.sessions.add(id);
    this.#forgetTimer ??= setTimeout(() => {
      const { hosts, sessions } = this.#done;
      this.#done = { hosts: new Set(), sessions: new Set() };
      this.#forgetTimer = undefined;
      this.#events.down({ type: "forget", hosts: [...hosts], sessions: [...sessions] });
    }, FORGET_MS);
  }

  #expect(hosts: Place[], reach: ReadonlySet<string>): void {
    this.#states.expect(hosts, Date.now());
    if (reach.size > 0)
      this.#events.reach(hosts.filter((h) => reach.has(h.name) && !this.#routes.has(h.name)));
  }

  #list() {
    return this.#states.list(this.#name, (host) => {
      const route = this.#routes.get(host);
      return route && { presence: route.presence, rtt_ms: route.link.rtt_ms };
    });
  }

  /** @param replaced another agent of this host was there, which knows nothing of what this one runs */
  joined(presence: Presence, replaced: boolean): void {
    const { host, epoch, parent, join } = presence;
    this.#states.joined(presence, Date.now());
    // Its clients may have given it up meanwhile: what nobody waits for is ended.
    if (join > 1 || replaced) {
      const sessions = [...this.#sessions].flatMap(([id, s]) => (s.hosts.has(host) ? [id] : []));
      this.#events.down({ type: "alive", hosts: [host], sessions });
    }
    for (const link of this.#links) link.send({ type: "joined", host, epoch, parent });
  }

  /** @param ended its own link ended, not that of a node above it */
  gone({ host }: Presence, ended: boolean): void {
    const rejoin_ms = ended ? Math.min(ENDED_MS, this.#rejoin_ms) : this.#rejoin_ms;
    const at = this.#states.gone(host, rejoin_ms, Date.now());
    if (!this.#lossTimer || at < this.#lossTimer.at) this.#tellLostAt(at);
  }

  #tellLostAt(at: number): void {
    clearTimeout(this.#lossTimer?.timer);
    const timer = setTimeout(() => {
      this.#lossTimer = undefined;
      for (const { host, since } of this.#states.takeLost(Date.now()))
        for (const link of this.#links) link.send({ type: "lost", host, since });
      const next = this.#states.deadline;
      if (next !== undefined) this.#tellLostAt(next);
    }, at - Date.now());
    this.#lossTimer = { at, timer };
  }

  stop(): void {
    clearTimeout(this.#lossTimer?.timer);
    clearTimeout(this.#forgetTimer);
  }
}
