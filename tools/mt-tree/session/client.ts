/**
 * The client of a tree: connects to the head, asks which hosts are there and how they are, and opens sessions
 * (session.ts), each one command on many hosts.
 */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import { treeFile, treeSocket } from "../../../shared/host/names.ts";
import { connectOwn } from "../../../shared/own-place.ts";
import { Link } from "../link/link.ts";
import { type Command, type HostStatus, type Message, type Vitals, windowFor } from "../link/messages.ts";
import type { Place } from "../link/wire.ts";
import { socketWire, type Wire } from "../link/wire.ts";
import { readTree } from "../node/tree-file.ts";
import { KnownHosts } from "./known-hosts.ts";
import { Session, type SessionEvents } from "./session.ts";

/** What a host answered when it was asked how it is. */
export interface Probed {
  vitals: Vitals;
  /** Round trips of the links to its children, in ms. */
  links: Record<string, number>;
}

/** Variables of our environment that commands on hosts get too: how much they log, and in which form. */
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

  /**
   * @param wire to the head
   * @param silence_ms how long a node of this tree may send nothing
   */
  constructor(wire: Wire, silence_ms = 0) {
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
      // A head that is frozen does not close its link.
      "asks",
      Math.max(HEAD_SILENCE_MS, silence_ms),
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
        resolve(ok(new TreeClient(socketWire(socket), readTree()?.silence_ms)));
      });
    });
  }

  /** Stands for a tree whose head cannot be reached: on every host a command ends at once, with that as the reason. */
  static unreachable(error: MtError): TreeClient {
    const client = new TreeClient({ write() {}, listen() {}, close() {} });
    client.#known.headLost = `the tree cannot be reached: ${error.message.replace(/^Cannot [^:]*: /, "")}`;
    client.close();
    return client;
  }

  /** Which hosts are there, and since when others are missing. Waits 5 s at most. */
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

  /** Asks hosts how they are; gives the answers that have come when all have, or the time is up. */
  probe(hosts: string[], timeout_ms: number): Promise<Map<string, Probed>> {
    return new Promise((resolve) => {
      const probed = new Map<string, Probed>();
      const id = newId();
      const done = () => {
        clearTimeout(late);
        this.#probes.delete(id);
        resolve(probed);
      };
      const late = setTimeout(done, timeout_ms);
      this.#probes.set(id, (host, answer) => {
        probed.set(host, answer);
        if (probed.size === hosts.length) done();
      });
      if (hosts.length === 0) return done();
      this.#link.send({ type: "probe", session: id, hosts });
    });
  }
  readonly #probes = new Map<string, (host: string, probed: Probed) => void>();

  /** Tells the head which hosts the tree has, and which of them to connect to, where links stay inside ssh. */
  expect(hosts: Place[], reach: string[] = []): void {
    this.#link.send({ type: "expect", hosts, reach });
  }

  /** @param hosts on how many hosts it will run: that sets the window of each */
  session(command: Command, events: SessionEvents, hosts: number): Session {
    const session = new Session(newId(), this.#link, this.#known, command, events, windowFor(hosts));
    this.#sessions.set(session.id, session);
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
      for (const session of this.#sessions.values()) session.hostChanged(message);
    } else if (message.type === "vitals") {
      const { host, vitals, links } = message;
      this.#probes.get(message.session)?.(host, { vitals, links });
    } else if ("session" in message) this.#sessions.get(message.session)?.receive(message, payload);
  }
}

/** A head that has sent nothing for this long is gone; longer where the tree gives its nodes longer. */
const HEAD_SILENCE_MS = 3_000;

const newId = () => randomBytes(8).toString("hex");
