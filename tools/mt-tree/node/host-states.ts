/**
 * Which hosts of the tree are there, and since when others are missing, as the head tells its clients. It has no
 * clock: `now` is ms since the epoch, and `deadline` and `takeLost` say what a timer is for.
 *
 *   missing ── joined ──▶ there ── gone ──▶ moving ── deadline passed ──▶ lost
 *                           ▲                  │                           │
 *                           └───── joined ─────┴───────── joined ──────────┘
 */
import type { HostStatus, Presence } from "../link/messages.ts";
import type { Place } from "../link/wire.ts";

/** Where a host is reached now. */
export interface Reached {
  presence: Presence;
  /** Round trip of the link that leads to it, in ms. */
  rtt_ms: number | undefined;
}

export class HostStates {
  #hosts: readonly Place[] = [];
  /** Since when a host is there or, where it never was, expected. */
  readonly #since = new Map<string, string>();
  /** Since when a host that was there is not. */
  readonly #missing = new Map<string, string>();
  /** The epoch of the agent that was there last. */
  readonly #epochs = new Map<string, string>();
  /** Until when a host that is gone may join again. */
  readonly #deadlines = new Map<string, number>();
  readonly #lost = new Set<string>();

  /** All hosts that the tree has from now on. */
  expect(hosts: readonly Place[], now: number): void {
    this.#hosts = hosts;
    for (const { name } of hosts) if (!this.#since.has(name)) this.#since.set(name, utc(now));
  }

  joined({ host, epoch }: Presence, now: number): void {
    this.#deadlines.delete(host);
    this.#missing.delete(host);
    // The same agent under another parent was there all the time.
    if (this.#lost.delete(host) || this.#epochs.get(host) !== epoch) this.#since.set(host, utc(now));
    this.#epochs.set(host, epoch);
  }

  /** A host is not reached any more. Gives until when it may join again: after that it is lost. */
  gone(host: string, rejoin_ms: number, now: number): number {
    this.#missing.set(host, utc(now));
    this.#deadlines.set(host, now + rejoin_ms);
    return now + rejoin_ms;
  }

  /** When the next host is lost; undefined where none is on its way back. */
  get deadline(): number | undefined {
    let first: number | undefined;
    for (const at of this.#deadlines.values()) if (first === undefined || at < first) first = at;
    return first;
  }

  /** Hosts that have not joined again in time: they are lost from now on. */
  takeLost(now: number): { host: string; since: string }[] {
    const lost: { host: string; since: string }[] = [];
    for (const [host, at] of this.#deadlines) {
      if (at > now) continue;
      this.#deadlines.delete(host);
      this.#lost.add(host);
      lost.push({ host, since: this.#missing.get(host)! });
    }
    return lost;
  }

  /** @param head the head's own name, which hosts under it have as their parent */
  list(head: string, reached: (host: string) => Reached | undefined): HostStatus[] {
    const depth = depths(head, (host) => reached(host)?.presence.parent);
    return this.#hosts.map(({ name: host, addr }) => {
      const { presence, rtt_ms } = reached(host) ?? {};
      if (!presence) {
        const since = this.#missing.get(host) ?? this.#since.get(host) ?? "";
        const moving = this.#deadlines.has(host) ? true : undefined;
        return { host, addr, present: false, since, moving, epoch: this.#epochs.get(host) };
      }
      const { parent, epoch, release } = presence;
      return {
        ...{ host, addr, present: true, since: this.#since.get(host) ?? "", epoch, release, parent },
        depth: depth(host),
        rtt_ms: parent === head ? rtt_ms : undefined,
      };
    });
  }
}

/** Hosts announce their parents as they like: no chain is followed further than this. */
const DEPTH_MAX = 64;

/** How many links each host is from the head. */
function depths(head: string, parentOf: (host: string) => string | undefined): (host: string) => number {
  const known = new Map<string, number>([[head, 0]]);
  const depth = (host: string, left = DEPTH_MAX): number => {
    const before = known.get(host);
    if (before !== undefined) return before;
    const parent = parentOf(host);
    const n = parent === undefined || left === 0 ? 1 : depth(parent, left - 1) + 1;
    known.set(host, n);
    return n;
  };
  return depth;
}

const utc = (ms: number) => new Date(ms).toISOString();
