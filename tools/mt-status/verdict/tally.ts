/** Counts pings from `exit` records: compares what a guest printed with what it was asked to ping. */
import { memberAt, positionIn, sliceRange } from "../../../shared/nodeset/ranges.ts";
import type { Exit } from "../../../shared/records/index.ts";
import type { GuestRun } from "./census.ts";
import type { Source, Target } from "./pairs.ts";
import { wordOf } from "./probe.ts";

const UNREACHED_TOLD_MAX = 20;

/** Targets that a guest did not reach, and those that only a small ping reached. */
interface Open {
  missed: readonly Target[];
  narrow: readonly Target[];
}

export interface Tally {
  /** Takes one `exit` record. If the guest was heard before, only pairs that were still open count. */
  hear(exit: Exit): void;
  pairs_tried: number;
  reached(): number;
  /** Pairs that answered a ping as large as the guest's MTU; all pairs of a guest whose MTU is not known. */
  fullSized(): number;
  /** The first pairs where only a small ping was answered. */
  narrow(): { from: GuestRun; to: Target }[];
  /** Guests that gave no answer at all. */
  silent(): number;
  /** Why the first guest that failed to ping failed. */
  why(): string | undefined;
  /** At most `most` guests that have open pairs, each with the targets of those. */
  again(most: number): Source[];
  /** The first pairs that were not reached: [guest, target guest]. */
  unreached(): [string, string][];
}

export function tallyOf(sources: readonly Source[]): Tally {
  const byHost = new Map<string, number[]>();
  for (const [n, { run }] of sources.entries()) {
    const host = run.guest.host ?? "";
    byHost.set(host, [...(byHost.get(host) ?? []), n]);
  }
  const all = sources.map((_, n) => n);
  /** For each source: place of a guest in the range → its targets that are still open. */
  const heard = sources.map(() => new Map<number, Open>());
  let reached = 0;
  let full = 0;
  let why: string | undefined;
  return {
    pairs_tried: sources.reduce((sum, s) => sum + s.run.count * s.targets.length, 0),
    hear(exit) {
      const name = exit.guest ?? exit.id;
      if (exit.error) why ??= `${name}: ${exit.error.message}`;
      for (const n of byHost.get(exit.host ?? "") ?? all) {
        const { run, targets } = sources[n]!;
        const k = positionIn(run.range, name);
        if (k < 0) continue;
        const printed = new Set((exit.stdout ?? "").split(/\s+/));
        const before = heard[n]!.get(k) ?? { missed: targets, narrow: [] };
        const open = [...before.missed, ...before.narrow].filter((t) => !printed.has(wordOf(run, t)));
        const missed = before.missed.filter((t) => open.includes(t) && !printed.has(t.ip));
        const narrow = open.filter((t) => !missed.includes(t));
        heard[n]!.set(k, { missed, narrow });
        reached += before.missed.length - missed.length;
        full += before.missed.length + before.narrow.length - open.length;
        return;
      }
    },
    reached: () => reached,
    fullSized: () => full,
    narrow() {
      const pairs: { from: GuestRun; to: Target }[] = [];
      for (const [n, { run }] of sources.entries())
        for (const { narrow } of heard[n]!.values())
          for (const to of narrow) {
            if (pairs.length >= UNREACHED_TOLD_MAX) return pairs;
            pairs.push({ from: run, to });
          }
      return pairs;
    },
    why: () => why,
    silent: () => sources.reduce((sum, s, n) => sum + s.run.count - heard[n]!.size, 0),
    again(most) {
      const out: Source[] = [];
      for (const [n, { run, targets }] of sources.entries())
        for (let k = 0; k < run.count && out.length < most; k++) {
          const { missed, narrow } = heard[n]!.get(k) ?? { missed: targets, narrow: [] };
          if (missed.length + narrow.length === 0) continue;
          const guest = { ...run.guest, id: memberAt(run.range, k), index: run.guest.index + k };
          const range = sliceRange(run.range, k, 1);
          out.push({ run: { guest, range, count: 1 }, targets: [...missed, ...narrow] });
        }
      return out;
    },
    unreached() {
      const pairs: [string, string][] = [];
      for (const [n, { run, targets }] of sources.entries()) {
        for (let k = 0; k < run.count; k++) {
          for (const t of heard[n]!.get(k)?.missed ?? targets) {
            if (pairs.length >= UNREACHED_TOLD_MAX) return pairs;
            pairs.push([memberAt(run.range, k), t.guest]);
          }
        }
      }
      return pairs;
    },
  };
}
