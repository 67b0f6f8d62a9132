/**
 * A node of the tree: the head (which clients reach by a socket that only its owner can open) or the agent of a host.
 * It routes messages by host name and runs what is for its own host. This file only joins the parts: children.ts and
 * parent.ts have the links, routes.ts the way to each host, head.ts what only the head does, session/ the commands.
 */
import { randomBytes } from "node:crypto";
import { loadavg } from "node:os";
import { availableMib } from "../../../shared/host/memory.ts";
import { type Link, SILENCE_MS } from "../link/link.ts";
import type { DownMessage, UpMessage, Vitals } from "../link/messages.ts";
import type { Transport, Wire } from "../link/wire.ts";
import { HostSessions } from "../session/host-sessions.ts";
import { Children } from "./children.ts";
import type { Launch } from "./command.ts";
import type { NodeConfig } from "./config.ts";
import { Head } from "./head.ts";
import { Parent } from "./parent.ts";
import { Passes } from "./passes.ts";
import { Routes } from "./routes.ts";
import { underlayMtu } from "./underlay.ts";

export class TreeNode {
  readonly #config: NodeConfig;
  readonly #transport: Transport;
  readonly #routes = new Routes<Link>();
  readonly #children: Children;
  readonly #sessions: HostSessions;
  /** One of the two. */
  readonly #head: Head | undefined;
  readonly #parent: Parent | undefined;

  constructor(config: NodeConfig, transport: Transport, launch: Launch) {
    const { self, ancestors, hosts = [], silence_ms = SILENCE_MS, rejoin_ms } = config;
    this.#config = config;
    this.#transport = transport;
    this.#sessions = new HostSessions(
      self.name,
      launch,
      (message, payload) => this.#up(message, payload),
      (message, payload) => this.#down(message, payload),
    );
    this.#children = new Children(
      self.name,
      this.#routes,
      new Passes(transport.passHolds?.bind(transport)),
      silence_ms,
      {
        up: (message, payload, frame) => this.#up(message, payload, frame),
        joined: (presence, replaced) => this.#head?.joined(presence, replaced),
        gone: (presence, ended) => this.#head?.gone(presence, ended),
        changed: (add, gone, ended) => this.#parent?.link?.send({ type: "routes", add, gone, ended }),
      },
    );
    if (ancestors.length === 0)
      this.#head = new Head({ name: self.name, hosts, rejoin_ms }, this.#routes, {
        down: (message, payload, frame) => this.#down(message, payload, frame),
        reach: (missing) => transport.reach?.(missing),
      });
    else
      this.#parent = new Parent(config, transport, randomBytes(8).toString("hex"), () => this.#below(), {
        down: (message, payload, frame) => this.#down(message, payload, frame),
        orphaned: () => this.#endAllCommands(),
      });
  }

  /** Takes children, and joins a parent; returns when no ancestor has let it in for long. */
  async run(): Promise<void> {
    await this.#transport.listen(this.#config.self, (wire, name) => this.#children.accept(wire, name));
    if (this.#parent) await this.#parent.stayJoined();
    else await new Promise(() => {});
  }

  /** Takes a client of the head. */
  client(wire: Wire): void {
    this.#head?.accept(wire);
  }

  #below() {
    return [...this.#routes.all()].map((route) => route.presence);
  }

  /** Here and below: nodes below have a parent, and cannot know that it has none. */
  #endAllCommands(): void {
    this.#sessions.closeAll();
    this.#down({ type: "alive", hosts: [...this.#routes.hosts()], sessions: [] });
  }

  /** Towards the hosts: one message for each link that leads to some of them; what is for this host stays. */
  #down(message: DownMessage, payload: Buffer = EMPTY, frame?: Buffer): void {
    const { name } = this.#config.self;
    const byLink = new Map<Link, string[]>();
    let here = false;
    for (const host of message.hosts) {
      if (host === name) {
        here = true;
        continue;
      }
      const link = this.#routes.get(host)?.link;
      if (!link) continue;
      const hosts = byLink.get(link);
      if (hosts) hosts.push(host);
      else byLink.set(link, [host]);
    }
    for (const [link, hosts] of byLink)
      if (frame && hosts.length === message.hosts.length) link.forward(frame);
      else link.send({ ...message, hosts }, payload);
    if (!here) return;
    if (message.type === "probe") void this.#answerProbe(message.session);
    else this.#sessions.handle(message, payload);
  }

  /** Towards the client. While there is no link it is dropped: the client asks for it again, with `sync`. */
  #up(message: UpMessage, payload: Buffer = EMPTY, frame?: Buffer): void {
    if (message.type === "reduced" && message.to === this.#config.self.name)
      return this.#sessions.reduced(message, payload);
    const link = this.#head ? this.#head.linkOf(message.session) : this.#parent?.link;
    if (frame) link?.forward(frame);
    else link?.send(message, payload);
  }

  async #answerProbe(session: string): Promise<void> {
    const { name, addr } = this.#config.self;
    const mtu = await underlayMtu(addr);
    const vitals: Vitals = {
      load: loadavg()[0]!,
      mem_available_mib: availableMib(),
      rss_mib: Math.round(process.memoryUsage.rss() / 2 ** 20),
      ...(mtu === undefined ? {} : { mtu }),
    };
    this.#up({ type: "vitals", session, host: name, vitals, links: this.#roundTrips() });
  }

  /** Of the links to our children, in ms. */
  #roundTrips(): Record<string, number> {
    const out: Record<string, number> = {};
    for (const { presence, link } of this.#routes.all())
      if (presence.parent === this.#config.self.name && link.rtt_ms !== undefined)
        out[presence.host] = link.rtt_ms;
    return out;
  }

  /** Ends what runs here, and joins no parent any more. */
  stop(): void {
    this.#parent?.stop();
    this.#head?.stop();
    this.#sessions.closeAll();
  }
}

const EMPTY = Buffer.alloc(0);
