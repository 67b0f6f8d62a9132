/** A node's links to its children, and which hosts are reached through each of them. */
import type { MtError } from "../../../shared/errors.ts";
import { VERSION } from "../../../shared/version.ts";
import { Link } from "../link/link.ts";
import {
  isUp,
  type Message,
  PROTOCOL,
  type Presence,
  presenceFrom,
  type UpMessage,
} from "../link/messages.ts";
import type { Wire } from "../link/wire.ts";
import type { Passes } from "./passes.ts";
import type { Route, Routes } from "./routes.ts";

/** Who has a certificate has this long to say hello. */
const HELLO_MS = 5_000;

export interface ChildEvents {
  /** A message from a host below, to a client. */
  up(message: UpMessage, payload: Buffer, frame: Buffer): void;
  /** A host is reached by another route than before. `replaced`: its agent is another one than before, too. */
  joined(presence: Presence, replaced: boolean): void;
  /** A host is not reached any more. `ended`: its own link ended, not that of a node above it. */
  gone(presence: Presence, ended: boolean): void;
  /** What a parent has to know of both; called after them. */
  changed(add: Presence[], gone: Presence[], ended: string[]): void;
}

export class Children {
  readonly #self: string;
  readonly #routes: Routes<Link>;
  readonly #passes: Passes;
  readonly #silence_ms: number;
  readonly #events: ChildEvents;
  /** Links that have said hello, with the name in the child's certificate. */
  readonly #links = new Map<Link, string>();

  constructor(self: string, routes: Routes<Link>, passes: Passes, silence_ms: number, events: ChildEvents) {
    this.#self = self;
    this.#routes = routes;
    this.#passes = passes;
    this.#silence_ms = silence_ms;
    this.#events = events;
  }

  /** Takes a wire; `name` is who the other end has proved to be. */
  accept(wire: Wire, name: string): void {
    let joined = false;
    const link: Link = new Link(
      wire,
      {
        message: (message, payload, frame) => {
          if (joined) return this.#message(link, name, message, payload, frame);
          const refused = this.#refuses(message, name);
          if (refused === "stranger") return link.close();
          if (refused) return link.send({ type: "refused", error: refused });
          joined = true;
          this.#links.set(link, name);
          link.send({ type: "welcome", name: this.#self });
          if (message.type === "hello") this.#add(message.presences, link, name);
        },
        close: () => {
          this.#links.delete(link);
          this.#drop(this.#routes.over(link), new Set([name]), link);
        },
      },
      "asks",
      this.#silence_ms,
    );
    setTimeout(() => !joined && link.close(), HELLO_MS).unref();
  }

  /** Why a child is not let in after what it said first. */
  #refuses(message: Message, name: string): MtError | "stranger" | undefined {
    if (message.type !== "hello" || !Array.isArray(message.presences)) return "stranger";
    if (message.protocol !== PROTOCOL)
      return {
        code: "data",
        message: `Cannot join ${this.#self}: agent of release ${message.release}, this one is ${VERSION}`,
      };
    return message.presences[0]?.host === name ? undefined : "stranger";
  }

  #message(link: Link, name: string, message: Message, payload: Buffer, frame: Buffer): void {
    if (message.type === "routes") {
      this.#drop(message.gone, new Set(message.ended), link);
      this.#add(message.add, link, name);
    } else if (isUp(message) && this.#passes.maySpeak(name, message.host))
      this.#events.up(message, payload, frame);
  }

  #add(presences: Presence[], link: Link, child: string): void {
    const add: Presence[] = [];
    for (const told of presences) {
      const p = presenceFrom(told);
      if (!p) continue;
      this.#passes.learn(p);
      if (!this.#passes.maySpeak(child, p.host)) continue;
      const before = this.#routes.get(p.host)?.presence.epoch;
      const { taken, displaced } = this.#routes.tell(p, link);
      if (!taken) continue;
      add.push(p);
      const replaced = before !== undefined && before !== p.epoch;
      this.#events.joined(p, replaced);
      if (displaced && replaced) this.#tellPlace(displaced, true);
    }
    if (add.length > 0) this.#events.changed(add, [], []);
  }

  #drop(presences: Presence[], ended: ReadonlySet<string>, link: Link): void {
    const gone: Presence[] = [];
    const add: Presence[] = [];
    for (const p of presences) {
      const over = this.#routes.untell(p, link);
      if (!over) continue;
      if (over.instead) {
        add.push(over.instead.presence);
        const replaced = over.instead.presence.epoch !== p.epoch;
        this.#events.joined(over.instead.presence, replaced);
        if (replaced) this.#tellPlace(over.instead, false);
        continue;
      }
      gone.push(over.gone);
      this.#events.gone(p, ended.has(p.host));
    }
    if (gone.length + add.length === 0) return;
    const endedHere = gone.flatMap((p) => (ended.has(p.host) ? [p.host] : []));
    this.#events.changed(add, gone, endedHere);
  }

  /** Tells an agent that is our child that another agent has its place, or that it has it again. */
  #tellPlace({ presence, link }: Route<Link>, taken: boolean): void {
    if (this.#links.get(link) === presence.host) link.send({ type: "place", taken });
  }
}
