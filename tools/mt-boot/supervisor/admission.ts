/**
 * Whether one more guest fits on this host. What a guest takes is measured on the guests before it; one that would not
 * fit is not started, and none is while the host is short of memory. Under translation idle guests take processor time
 * too, and must not take all of it.
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

/** Memory pressure (PSI, avg10, percent) above which nothing is started. */
const SOME_MAX = 20;
const FULL_MAX = 5;
const CALM_S = 60;
/** The first guests are all measured, then one of 16: the kernel walks all pages of a process for it. */
const LOOK_AT_FIRST = 4;
const LOOK_AT_EACH = 16;
/** Guests grow a little after they are up. */
const GROWTH = 1.15;
/** Share of the host's processors that idle guests may take. */
const IDLE_CPU_MAX = 0.95;
/** A guest counts as idle this long after it has come up. */
const IDLE_AFTER_MS = 10_000;
const IDLE_SPAN_MS = 5_000;
const IDLE_LOOKED_AT = 16;

/** Guesses, before a guest has been measured: QEMU's own memory, that of a clone's QEMU, and the clone's share of its memory. */
const VMM_MIB = 72;
const CLONE_VMM_MIB = 16;
const CLONE_SHARE = 0.25;

export class Admission {
  /** Memory that guests leave free. */
  reserve_mib = 0;
  readonly #experiment: string;
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #starting = new Set<Entry>();
  /** Mean memory of guests, by kind; `measured` of `settled` guests. */
  readonly #costs = new Map<string, { mib: number; measured: number; settled: number }>();
  #idle: { since: number; at: Map<number, number>; each: number | undefined } | undefined;
  #swapped = swappedOut();

  constructor(experiment: string, entries: ReadonlyMap<string, Entry>) {
    this.#experiment = experiment;
    this.#entries = entries;
  }

  /** Whether the guest may be started now; waits while the host is short of memory. After admission comes `settled`. */
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
    // In the guests' own cgroup (mt-ksm protect) one guest too many would make the kernel kill an older one.
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

  /** An admitted guest is up, or has failed: its memory is now counted by the kernel. */
  settled(entry: Entry): void {
    if (!this.#starting.delete(entry) || entry.pid === undefined || !entry.machine) return;
    const key = kindOf(entry, entry.state);
    const cost = this.#costs.get(key) ?? { mib: 0, measured: 0, settled: 0 };
    this.#costs.set(key, cost);
    cost.settled++;
    if (cost.measured >= LOOK_AT_FIRST && cost.settled % LOOK_AT_EACH !== 0) return;
    const mib = proportionalMib(entry.pid);
    if (mib === undefined) return;
    cost.measured++;
    cost.mib += (mib - cost.mib) / cost.measured;
  }

  /** Memory of a guest when it is up, measured or guessed; MiB. */
  #cost(entry: Entry): number {
    const known = this.#costs.get(kindOf(entry, "ready")) ?? this.#costs.get(kindOf(entry, "paused"));
    const { mem_mib } = entry.record;
    const guess = entry.forks_next ? CLONE_VMM_MIB + CLONE_SHARE * mem_mib : VMM_MIB + mem_mib;
    const paused = known === this.#costs.get(kindOf(entry, "paused"));
    // A paused clone has hardly begun to change its memory.
    if (!known || (paused && entry.forks_next)) return Math.max(guess, known?.mib ?? 0);
    return known.mib * GROWTH;
  }

  /** Memory that paused guests will take in addition once they go on; MiB. */
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

  /** Share of one core that an idle guest takes; undefined until enough guests have been idle for a while. */
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
      // The median: some guests may be at work.
      used.sort((a, b) => a - b);
      this.#idle.each = used[Math.floor(used.length / 2)];
    }
    this.#idle = begin();
    return this.#idle.each;
  }
}

const kindOf = (entry: Entry, state: string) =>
  [entry.record.image, entry.record.cores, entry.record.mem_mib, entry.forks_next, state].join(" ");
