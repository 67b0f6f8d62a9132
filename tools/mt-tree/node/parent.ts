/** A node's link to its parent: the nearest ancestor that lets it in, and another one whenever the link is lost. */
import { inform } from "../../../shared/cli/stderr.ts";
import { VERSION } from "../../../shared/version.ts";
import { Link, SILENCE_MS } from "../link/link.ts";
import { type DownMessage, isDown, type Message, PROTOCOL, type Presence } from "../link/messages.ts";
import type { Place, Transport, Wire } from "../link/wire.ts";
import type { NodeConfig } from "./config.ts";
import { JoinPlan } from "./join-plan.ts";

const DIAL_MS = 2_000;
/** When a tree comes up all nodes start at once: the nearest ancestor gets this long to be there. */
const FIRST_DIAL_MS = 1_500;
const TRY_AGAIN_MS = 250;
/** How often a node repeats why it cannot join, where the reason stays the same. */
const SAY_AGAIN_MS = 60_000;
/** How often a node that joined a further ancestor looks whether a nearer one is back. */
const NEARER_MS = 10_000;
/** Of a whole subtree, as many hosts are announced in one frame. */
const ROUTES_MAX = 1_000;

export interface ParentEvents {
  /** A message for this node or those below it. */
  down(message: DownMessage, payload: Buffer, frame: Buffer): void;
  /** No ancestor has let this node in for so long that its commands, and those below it, are to end. */
  orphaned(): void;
}

/** A link to an ancestor that has let us in. */
interface Joined {
  link: Link;
  /** Which of the ancestors it is. */
  ancestor: number;
  /** Fulfilled when the link is lost. `silent`: the ancestor sent nothing for too long, and may be frozen. */
  lost: Promise<{ silent: boolean }>;
}

export class Parent {
  readonly #config: NodeConfig;
  readonly #transport: Transport;
  readonly #epoch: string;
  readonly #below: () => Presence[];
  readonly #events: ParentEvents;
  #link: Link | undefined;
  #joins = 0;
  #stopped = false;
  /** Why each ancestor could not be joined, as last said. */
  readonly #said = new Map<string, { why: string; at: number }>();

  /** @param below gives the hosts below this node: a new parent is told of them */
  constructor(
    config: NodeConfig,
    transport: Transport,
    epoch: string,
    below: () => Presence[],
    events: ParentEvents,
  ) {
    this.#config = config;
    this.#transport = transport;
    this.#epoch = epoch;
    this.#below = below;
    this.#events = events;
  }

  /** The link to the parent; undefined while there is none. */
  get link(): Link | undefined {
    return this.#link;
  }

  /** Joins, and joins again whenever the link is lost; returns when no ancestor has let it in for long. */
  async stayJoined(): Promise<void> {
    const began = Date.now();
    const plan = new JoinPlan(this.#config.ancestors.length, began);
    while (!this.#stopped) {
      let joined: Joined | undefined;
      for (const ancestor of plan.order()) {
        do joined = await this.#join(ancestor);
        while (!joined && ancestor === 0 && Date.now() - began < FIRST_DIAL_MS && (await pause(50)));
        if (joined) break;
      }
      if (joined) {
        const { ancestor, silent } = await this.#whileJoined(joined);
        plan.lost(ancestor, silent, Date.now());
        continue;
      }
      const next = plan.failed(Date.now());
      if (next !== "try again") this.#events.orphaned();
      if (next === "give up") return;
      await pause(TRY_AGAIN_MS);
    }
  }

  /** Until the link is lost. Meanwhile moves to a nearer ancestor where one is back: first the new link, then the old one ends. */
  async #whileJoined(joined: Joined): Promise<{ ancestor: number; silent: boolean }> {
    for (;;) {
      const { ancestor, link } = joined;
      if (ancestor === 0) return { ancestor, ...(await joined.lost) };
      const lost = await Promise.race([joined.lost, pause(NEARER_MS)]);
      if (lost !== true) return { ancestor, ...lost };
      for (let nearer = 0; nearer < ancestor; nearer++) {
        const better = await this.#join(nearer);
        if (!better) continue;
        link.close();
        joined = better;
        break;
      }
    }
  }

  /** Joins one ancestor; undefined where it cannot, and says why. */
  async #join(ancestor: number): Promise<Joined | undefined> {
    const place = this.#config.ancestors[ancestor]!;
    const dialled = await this.#transport.dial(place, DIAL_MS);
    if (dialled.isErr()) {
      this.#cannotJoin(place, dialled.error);
      return undefined;
    }
    if (this.#stopped) {
      dialled.value.close();
      return undefined;
    }
    return this.#sayHello(dialled.value, ancestor, place);
  }

  #sayHello(wire: Wire, ancestor: number, place: Place): Promise<Joined | undefined> {
    return new Promise((resolve) => {
      let settled = false;
      let onLost: (how: { silent: boolean }) => void = () => {};
      const lost = new Promise<{ silent: boolean }>((r) => {
        onLost = r;
      });
      const refused = (why: string) => {
        clearTimeout(late);
        if (settled) return;
        settled = true;
        this.#cannotJoin(place, why);
        resolve(undefined);
        link.close();
      };
      const welcome = () => {
        clearTimeout(late);
        settled = true;
        this.#link = link;
        this.#hasJoined(place);
        resolve({ link, ancestor, lost });
        const below = this.#below();
        for (let i = 0; i < below.length; i += ROUTES_MAX)
          link.send({ type: "routes", add: below.slice(i, i + ROUTES_MAX), gone: [], ended: [] });
      };
      const link: Link = new Link(
        wire,
        {
          message: (message: Message, payload, frame) => {
            if (message.type === "welcome") welcome();
            else if (message.type === "refused") refused(message.error.message);
            else if (message.type === "place") this.#placeChanged(place, message.taken);
            else if (isDown(message)) this.#events.down(message, payload, frame);
          },
          close: (why) => {
            if (this.#link === link) this.#link = undefined;
            refused(`${why} before it let this node in`);
            onLost({ silent: why.startsWith("it was silent") });
          },
        },
        "watches",
        this.#config.silence_ms ?? SILENCE_MS,
      );
      const late = setTimeout(
        () => refused(`it took the connection and did not answer in ${DIAL_MS / 1000} s`),
        DIAL_MS,
      );
      this.#joins++;
      const self: Presence = {
        host: this.#config.self.name,
        epoch: this.#epoch,
        join: this.#joins,
        parent: place.name,
        release: VERSION,
        pass: this.#config.pass,
      };
      link.send({ type: "hello", protocol: PROTOCOL, release: VERSION, presences: [self] });
    });
  }

  /** Says why an ancestor could not be joined: each reason once, and again after a while where it stays the same. */
  #cannotJoin({ name, addr, port }: Place, why: string): void {
    const said = this.#said.get(name);
    const now = Date.now();
    if (this.#stopped || (said?.why === why && now - said.at < SAY_AGAIN_MS)) return;
    this.#said.set(name, { why, at: now });
    inform(`Cannot join ${name} at ${addr}:${port} as ${this.#config.self.name}: ${why}`);
  }

  /** Where the log says that an ancestor could not be joined, it also says when this is over. */
  #hasJoined({ name }: Place): void {
    if (this.#said.size === 0) return;
    this.#said.clear();
    inform(`Joined ${name} as ${this.#config.self.name}`);
  }

  /** Another agent announces this host, or does so no longer: meanwhile it gets the messages for this host. */
  #placeChanged(place: Place, taken: boolean): void {
    if (taken)
      this.#cannotJoin(
        place,
        "another agent with this host's key is there and has its place; this one waits until that is gone",
      );
    else this.#hasJoined(place);
  }

  stop(): void {
    this.#stopped = true;
  }
}

const pause = (ms: number) => new Promise<true>((resolve) => setTimeout(() => resolve(true), ms));
