/**
 * A node of the tree: the head (which clients talk to, by a socket that only its owner can open) or the
 * agent of a host. It routes by host name, joins its nearest living ancestor, and runs what is for itself.
 */
import { randomBytes } from "node:crypto";
import { chmodSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createUnixServer, type Socket } from "node:net";
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from "node:tls";
import type { Invocation } from "../../shared/cli/start.ts";
import { EXIT } from "../../shared/errors.ts";
import { VERSION } from "../../shared/version.ts";
import { dnsName, type Identity } from "./authority.ts";
import { Link } from "./link.ts";
import {
  type DownMessage,
  type HostStatus,
  isDown,
  isUp,
  PROTOCOL,
  type Presence,
  type UpMessage,
} from "./messages.ts";
import { Sessions } from "./sessions.ts";

export interface Place {
  name: string;
  addr: string;
  port: number;
}

/** What a node is told when it is started; a file that only its owner can read. */
export interface NodeConfig {
  self: Place;
  identity: Identity;
  /** Nearest first, the head last; none: this is the head. */
  ancestors: Place[];
  /** The head's: its socket for clients, and the hosts of the tree. */
  socket?: string;
  hosts?: Place[];
}

/** How long a host that is gone may take to come back by another way before its work counts as lost. */
export const REJOIN_MS = Number(process.env.MT_REJOIN_MS) || 3_000;
/** How long an agent that finds nobody goes on trying; its commands end sooner. */
const ORPHAN_END_MS = 60_000;
const ORPHAN_KILL_MS = 10_000;
const DIAL_MS = 2_000;
/** At the start all nodes start at once: the nearest ancestor gets this long to be there. */
const FIRST_DIAL_MS = 1_500;

interface Route {
  presence: Presence;
  link: Link;
}

export class TreeNode {
  readonly #config: NodeConfig;
  readonly #epoch = randomBytes(8).toString("hex");
  readonly #routes = new Map<string, Route>();
  readonly #sessions: Sessions;
  readonly #clients = new Map<string, { link: Link; hosts: Set<string> }>();
  readonly #clientLinks = new Set<Link>();
  /** The head's: since when a host is there or missing. */
  readonly #since = new Map<string, string>();
  readonly #lostTimers = new Map<string, NodeJS.Timeout>();
  #parent: Link | undefined;
  #joins = 0;

  constructor(config: NodeConfig) {
    this.#config = config;
    this.#sessions = new Sessions(config.self.name, this.#epoch, (message, payload) =>
      this.#up(message, payload),
    );
    for (const h of config.hosts ?? []) this.#since.set(h.name, new Date().toISOString());
  }

  get #isHead(): boolean {
    return this.#config.ancestors.length === 0;
  }

  /** Listens, and joins; goes on until the process ends. */
  async run(): Promise<void> {
    await this.#listen();
    if (this.#config.socket) await this.#listenForClients(this.#config.socket);
    if (!this.#isHead) await this.#stayJoined();
    else await new Promise(() => {});
  }

  // ---- links to children ----

  async #listen(): Promise<void> {
    const { ca, cert, key } = this.#config.identity;
    const server = createTlsServer(
      { ca, cert, key, requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.3" },
      (socket) => this.#accept(socket),
    );
    server.on("tlsClientError", () => {});
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(this.#config.self.port, this.#config.self.addr, resolve);
    });
  }

  #accept(socket: TLSSocket): void {
    const name = socket.getPeerCertificate()?.subject?.CN as unknown as string | undefined;
    let joined = false;
    const link: Link = new Link(socket, {
      message: (message, payload) => {
        if (!joined) {
          if (message.t !== "hello" || message.presences[0]?.host !== name) return link.close();
          if (message.protocol !== PROTOCOL) {
            link.send({
              t: "refused",
              error: {
                code: "data",
                message: `Cannot join ${this.#config.self.name}: agent of release ${message.release}, this one is ${VERSION}`,
              },
            });
            return;
          }
          joined = true;
          link.send({ t: "welcome", name: this.#config.self.name });
          this.#addRoutes(message.presences, link);
          return;
        }
        if (message.t === "routes") {
          this.#dropRoutes(message.gone, link);
          this.#addRoutes(message.add, link);
        } else if (isUp(message)) this.#up(message, payload);
      },
      close: () => {
        const gone = [...this.#routes.values()].filter((r) => r.link === link).map((r) => r.presence);
        this.#dropRoutes(gone, link);
      },
    });
    // Somebody with a certificate who says nothing is nobody.
    setTimeout(() => !joined && link.close(), 5_000).unref();
  }

  #addRoutes(presences: Presence[], link: Link): void {
    const add: Presence[] = [];
    for (const p of presences) {
      const known = this.#routes.get(p.host)?.presence;
      // A late word about an older link of the same agent changes nothing.
      if (known && known.epoch === p.epoch && known.join > p.join) continue;
      this.#routes.set(p.host, { presence: p, link });
      add.push(p);
      if (this.#isHead) this.#joined(p, known);
    }
    if (add.length > 0) this.#parent?.send({ t: "routes", add, gone: [] });
  }

  #dropRoutes(presences: Presence[], link: Link): void {
    const gone: Presence[] = [];
    for (const p of presences) {
      const route = this.#routes.get(p.host);
      if (!route || route.link !== link || route.presence.epoch !== p.epoch || route.presence.join > p.join)
        continue;
      this.#routes.delete(p.host);
      gone.push(p);
      if (this.#isHead) this.#gone(p);
    }
    if (gone.length > 0) this.#parent?.send({ t: "routes", add: [], gone });
  }

  // ---- the link to the parent ----

  async #stayJoined(): Promise<void> {
    const began = Date.now();
    let orphanedAt = Date.now();
    for (;;) {
      let joined: { lost: Promise<void> } | undefined;
      for (const [i, ancestor] of this.#config.ancestors.entries()) {
        do joined = await this.#join(ancestor);
        while (!joined && i === 0 && Date.now() - began < FIRST_DIAL_MS && (await pause(50)));
        if (joined) break;
      }
      if (joined) {
        await joined.lost;
        orphanedAt = Date.now();
        continue;
      }
      if (Date.now() - orphanedAt > ORPHAN_KILL_MS) this.#sessions.endAll();
      if (Date.now() - orphanedAt > ORPHAN_END_MS) return;
      await pause(250);
    }
  }

  /** Joins an ancestor; gives a promise that resolves when the link is lost, or nothing where nobody is there. */
  #join(ancestor: Place): Promise<{ lost: Promise<void> } | undefined> {
    return new Promise((resolve) => {
      const { ca, cert, key } = this.#config.identity;
      let done = false;
      let onLost: () => void = () => {};
      const lost = new Promise<void>((r) => {
        onLost = r;
      });
      const socket = connectTls({
        host: ancestor.addr,
        port: ancestor.port,
        ca,
        cert,
        key,
        servername: dnsName(ancestor.name),
        minVersion: "TLSv1.3",
      });
      const link: Link = new Link(socket, {
        message: (message, payload) => {
          if (message.t === "welcome") {
            clearTimeout(late);
            done = true;
            this.#parent = link;
            resolve({ lost });
            // What came to us meanwhile, between hello and welcome, is told again: it costs little.
            link.send({ t: "routes", add: [...this.#routes.values()].map((r) => r.presence), gone: [] });
          } else if (message.t === "refused") {
            process.stderr.write(`mt-tree: ${message.error.message}\n`);
            link.close();
          } else if (isDown(message)) this.#down(message, payload);
        },
        close: () => {
          clearTimeout(late);
          if (this.#parent === link) this.#parent = undefined;
          if (!done) resolve(undefined);
          onLost();
        },
      });
      const late = setTimeout(() => link.close(), DIAL_MS);
      socket.once("secureConnect", () => {
        this.#joins++;
        const self: Presence = {
          host: this.#config.self.name,
          epoch: this.#epoch,
          join: this.#joins,
          parent: ancestor.name,
        };
        link.send({
          t: "hello",
          protocol: PROTOCOL,
          release: VERSION,
          presences: [self, ...[...this.#routes.values()].map((r) => r.presence)],
        });
      });
    });
  }

  // ---- routing ----

  /** Towards the hosts: split by the link that leads to each; what is for this host stays. */
  #down(message: DownMessage, payload: Buffer): void {
    const first = message.hs[0];
    if (message.hs.length === 1 && first !== this.#config.self.name) {
      if (first !== undefined) this.#routes.get(first)?.link.send(message, payload);
      return;
    }
    const byLink = new Map<Link, string[]>();
    for (const h of message.hs) {
      if (h === this.#config.self.name) {
        this.#sessions.handle(message, payload);
        continue;
      }
      const link = this.#routes.get(h)?.link;
      if (!link) continue;
      const hs = byLink.get(link);
      if (hs) hs.push(h);
      else byLink.set(link, [h]);
    }
    for (const [link, hs] of byLink) link.send({ ...message, hs }, payload);
  }

  /** Towards the client. Without a way up it is dropped: it is numbered, and asked for again by `sync`. */
  #up(message: UpMessage, payload?: Uint8Array): void {
    if (this.#isHead) this.#clients.get(message.s)?.link.send(message, payload);
    else this.#parent?.send(message, payload);
  }

  // ---- the head: clients, who is there, who is missing ----

  async #listenForClients(path: string): Promise<void> {
    rmSync(path, { force: true });
    const server = createUnixServer((socket) => this.#client(socket));
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
    chmodSync(path, 0o600);
  }

  #client(socket: Socket): void {
    const link: Link = new Link(
      socket,
      {
        message: (message, payload) => {
          if (message.t === "list") link.send({ t: "listed", hosts: this.#list() });
          else if (message.t === "expect") this.#expect(message.hosts);
          else if (isDown(message)) this.#fromClient(link, message, payload);
        },
        close: () => {
          this.#clientLinks.delete(link);
          for (const [s, client] of this.#clients) {
            if (client.link !== link) continue;
            // Ctrl-C, kill -9, a closed terminal: whatever ended the client ends its commands.
            this.#down({ t: "close", s, hs: [...client.hosts] }, EMPTY);
            this.#clients.delete(s);
          }
        },
      },
      false,
    );
    this.#clientLinks.add(link);
  }

  #fromClient(link: Link, message: DownMessage, payload: Buffer): void {
    let client = this.#clients.get(message.s);
    if (!client) this.#clients.set(message.s, (client = { link, hosts: new Set() }));
    if (message.t === "start") for (const h of message.hs) client.hosts.add(h);
    this.#down(message, payload);
    if (message.t === "close") for (const h of message.hs) client.hosts.delete(h);
  }

  #joined(p: Presence, known: Presence | undefined): void {
    clearTimeout(this.#lostTimers.get(p.host));
    this.#lostTimers.delete(p.host);
    if (!known) this.#since.set(p.host, new Date().toISOString());
    for (const link of this.#clientLinks) link.send({ t: "joined", h: p.host, epoch: p.epoch });
  }

  #gone(p: Presence): void {
    const since = new Date().toISOString();
    this.#since.set(p.host, since);
    clearTimeout(this.#lostTimers.get(p.host));
    this.#lostTimers.set(
      p.host,
      setTimeout(() => {
        for (const link of this.#clientLinks) link.send({ t: "lost", h: p.host, since });
      }, REJOIN_MS),
    );
  }

  #expect(hosts: Place[]): void {
    this.#config.hosts = hosts;
    for (const h of hosts) if (!this.#since.has(h.name)) this.#since.set(h.name, new Date().toISOString());
  }

  #list(): HostStatus[] {
    const depth = (host: string): number => {
      let n = 1;
      for (
        let parent = this.#routes.get(host)?.presence.parent;
        parent && parent !== this.#config.self.name && n < 64;
        n++
      )
        parent = this.#routes.get(parent)?.presence.parent;
      return n;
    };
    return (this.#config.hosts ?? []).map((h) => {
      const route = this.#routes.get(h.name);
      const since = this.#since.get(h.name) ?? "";
      if (!route) return { host: h.name, addr: h.addr, present: false, since };
      const { parent } = route.presence;
      return {
        host: h.name,
        addr: h.addr,
        present: true,
        since,
        parent,
        depth: depth(h.name),
        rtt_ms: parent === this.#config.self.name ? route.link.rtt_ms : undefined,
      };
    });
  }

  /** Nothing goes on running once the agent is gone. */
  endSessions(): void {
    this.#sessions.endAll();
  }
}

const EMPTY = Buffer.alloc(0);
const pause = (ms: number) => new Promise<true>((resolve) => setTimeout(() => resolve(true), ms));

/** The hidden command: a node from its configuration file, until it is ended. */
export async function agent({ args, signal }: Invocation): Promise<number> {
  const path = String(args.config);
  const config = JSON.parse(readFileSync(path, "utf8")) as NodeConfig;
  const pidFile = path.replace(/\.json$/, ".pid");
  writeFileSync(pidFile, String(process.pid), { mode: 0o600 });
  const ended = new Promise<void>((resolve) =>
    signal.addEventListener("abort", () => resolve(), { once: true }),
  );
  const node = new TreeNode(config);
  await Promise.race([node.run(), ended]);
  node.endSessions();
  rmSync(pidFile, { force: true });
  return EXIT.ok;
}
