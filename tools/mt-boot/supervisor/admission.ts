/**
 * Whether one more guest fits on this host. What a guest takes is measured from those that came before it; one
 * that would not fit is not started, and none is while the host waits for memory. Under translation idle guests
 * take processor time too: they are not to take all of it.
 */
import { availableParallelism } from "node:os";
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import { readOomPlan } from "../../../shared/host/oom.ts";
import { waitFor } from "../../../shared/host/process.ts";
import {
  availableMib,
  cpuSeconds,
  memoryPressure,
  proportionalMib,
  roomOf,
  swappedOut,
} from "../machine/room.ts";
import type { Entry } from "./entry.ts";

/** Percent of ten seconds in which the host waited for memory: above it nothing is started. */
const SOME_MAX = 20;
const FULL_MAX = 5;
const CALM_S = 60;
/** The first guests are all looked at, then one of so many: the kernel walks all pages of a process for it. */
const LOOK_AT_FIRST = 4;
const LOOK_AT_EACH = 16;
/** A guest goes on growing a little after it has said that it is up. */
const GROWTH = 1.15;
/** What idle guests may take of the host's processors. */
const IDLE_CPU_MAX = 0.95;
/** A guest is idle so long after it has come up. */
const IDLE_AFTER_MS = 10_000;
const IDLE_SPAN_MS = 5_000;
const IDLE_LOOKED_AT = 16;

/** QEMU beside a cold guest's memory; a clone's share of it, before one has been measured. */
const VMM_MIB = 72;
const CLONE_VMM_MIB = 16;
const CLONE_SHARE = 0.25;

export class Admission {
  /** What its guests leave free. */
  reserve_mib = 0;
  readonly #experiment: string;
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #starting = new Set<Entry>();
  /** Mean of what guests took, by kind. */
  readonly #costs = new Map<string, { mib: number; looked: number; come: number }>();
  #idle: { since: number; at: Map<number, number>; each: number | undefined } | undefined;
  #swapped = swappedOut();

  constructor(experiment: string, entries: ReadonlyMap<string, Entry>) {
    this.#experiment = experiment;
    this.#entries = entries;
  }

  /** Whether it may be started now; waits while the host is short of memory. Whoever was let in is settled later. */
  async admit(entry: Entry): Promise<Result<void, MtError>> {
    const calm = await waitFor(() => (this.#strained() ? undefined : true), CALM_S, 500);
    if (!calm) {
      const { some, full } = memoryPressure();
      return fail(
        "busy",
        `Cannot boot {id}: the host waits for memory (PSI some ${some} %, full ${full} %)`,
        "fewer guests here, or mt-ksm settle",
      );
    }
    const need = this.#cost(entry);
    const promised = [...this.#starting].reduce((sum, other) => sum + this.#cost(other), 0);
    // In the guests' own cgroup (mt-ksm protect) one too many would make an older one die.
    const group = readOomPlan(this.#experiment)?.cgroup;
    const limited = (group === undefined ? undefined : roomOf(group)) ?? Number.POSITIVE_INFINITY;
    const free = Math.min(availableMib() - this.reserve_mib, limited) - promised - this.#pausedPromise();
    if (need > free)
      return fail(
        "busy",
        `Cannot boot {id}: a guest takes ${Math.ceil(need)} MiB, this host has ${Math.max(0, Math.floor(free))} left`,
        `fewer guests here, more merging (mt-ksm settle), or a smaller --reserve-mib (now ${this.reserve_mib})`,
      );
    const cpu = this.#idleCpu();
    const cores = availableParallelism();
    const running =
      [...this.#entries.values()].filter((e) => e.state === "ready").length + this.#starting.size;
    if (cpu !== undefined && cpu * (running + 1) > IDLE_CPU_MAX * cores)
      return fail(
        "busy",
        `Cannot boot {id}: ${running} guests that do nothing take ${(cpu * 100).toFixed(2)} % of a core each, all of ${cores} cores`,
        "fewer guests here, or a host with more cores or KVM",
      );
    this.#starting.add(entry);
    return ok(undefined);
  }

  /** It is where it is wanted, or failed: what it takes shows in what the host has left. */
  settled(entry: Entry): void {
    if (!this.#starting.delete(entry) || entry.pid === undefined || !entry.machine) return;
    const key = kindOf(entry, entry.state);
    const cost = this.#costs.get(key) ?? { mib: 0, looked: 0, come: 0 };
    this.#costs.set(key, cost);
    cost.come++;
    if (cost.looked >= LOOK_AT_FIRST && cost.come % LOOK_AT_EACH !== 0) return;
    const mib = proportionalMib(entry.pid);
    if (mib === undefined) return;
    cost.looked++;
    cost.mib += (mib - cost.mib) / cost.looked;
  }

  /** What a guest takes when it is up, as far as it is known; MiB. */
  #cost(entry: Entry): number {
    const known = this.#costs.get(kindOf(entry, "ready")) ?? this.#costs.get(kindOf(entry, "paused"));
    const { mem_mib } = entry.record;
    const guess = entry.forks_next ? CLONE_VMM_MIB + CLONE_SHARE * mem_mib : VMM_MIB + mem_mib;
    const paused = known === this.#costs.get(kindOf(entry, "paused"));
    // A paused clone has hardly begun to change its memory.
    if (!known || (paused && entry.forks_next)) return Math.max(guess, known?.mib ?? 0);
    return known.mib * GROWTH;
  }

  /** What guests that are paused will take on top of what they have, once they go on. */
  #pausedPromise(): number {
    let sum = 0;
    for (const entry of this.#entries.values()) {
      if (entry.state !== "paused") continue;
      const now = this.#costs.get(kindOf(entry, "paused"))?.mib;
      if (now !== undefined && entry.forked) sum += Math.max(0, this.#cost(entry) - now);
    }
    return sum;
  }

  #strained(): boolean {
    const { some, full } = memoryPressure();
    const swapped = swappedOut();
    const swaps = swapped > this.#swapped;
    this.#swapped = swapped;
    return some > SOME_MAX || full > FULL_MAX || swaps;
  }

  /** Share of one core that an idle guest takes; undefined as long as none has been idle for a while. */
  #idleCpu(): number | undefined {
    const now = Date.now();
    const begin = () => {
      const idle = [...this.#entries.values()].filter(
        (e) => e.state === "ready" && e.pid !== undefined && now - e.well_since > IDLE_AFTER_MS,
      );
      const step = Math.max(1, idle.length / IDLE_LOOKED_AT);
      const at = new Map<number, number>();
      for (let i = 0; i < idle.length; i += step) {
        const pid = idle[Math.floor(i)]!.pid!;
        const cpu = cpuSeconds(pid);
        if (cpu !== undefined) at.set(pid, cpu);
      }
      return { since: now, at, each: this.#idle?.each };
    };
    this.#idle ??= begin();
    if (now - this.#idle.since < IDLE_SPAN_MS) return this.#idle.each;
    const used = [...this.#idle.at].flatMap(([pid, before]) => {
      const cpu = cpuSeconds(pid);
      return cpu === undefined ? [] : [(cpu - before) / ((now - this.#idle!.since) / 1000)];
    });
    if (used.length >= LOOK_AT_FIRST) {
      // The one in the middle: some guest may be at work.
      used.sort((a, b) => a - b);
      this.#idle.each = used[Math.floor(used.length / 2)];
    }
    this.#idle = begin();
    return this.#idle.each;
  }
}

const kindOf = (entry: Entry, state: string) =>
  [entry.record.image, entry.record.cores, entry.record.mem_mib, entry.forks_next, state].join(" ");
