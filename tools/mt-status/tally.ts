/** Counts pings from `exit` records: what a guest printed, against what it was asked to ping. */
import { memberAt, positionIn, sliceRange } from "../../shared/ranges.ts";
import type { Exit } from "../../shared/records/index.ts";
import type { Source, Target } from "./pairs.ts";

const UNREACHED_TOLD_MAX = 20;

export interface Tally {
  /** Takes one `exit` record; of a guest that is heard again only what it had not reached before counts. */
  hear(exit: Exit): void;
  pairs_tried: number;
  reached(): number;
  /** Guests that gave no answer at all. */
  silent(): number;
  /** Why the first guest that failed to ping failed. */
  why(): string | undefined;
  /** The guests that did not reach all, each with the targets that it did not; `most` guests at most. */
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
  /** By source: who answered, as a place in its range → the targets that it did not reach. */
  const heard = sources.map(() => new Map<number, readonly Target[]>());
  let reached = 0;
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
        const open = heard[n]!.get(k) ?? targets;
        const missed = open.filter((t) => !printed.has(t.ip));
        heard[n]!.set(k, missed);
        reached += open.length - missed.length;
        return;
      }
    },
    reached: () => reached,
    why: () => why,
    silent: () => sources.reduce((sum, s, n) => sum + s.run.count - heard[n]!.size, 0),
    again(most) {
      const out: Source[] = [];
      for (const [n, { run, targets }] of sources.entries())
        for (let k = 0; k < run.count && out.length < most; k++) {
          const missed = heard[n]!.get(k) ?? targets;
          if (missed.length === 0) continue;
          const guest = { ...run.guest, id: memberAt(run.range, k), index: run.guest.index + k };
          const range = sliceRange(run.range, k, 1);
          out.push({ run: { guest, range, count: 1 }, targets: [...missed] });
        }
      return out;
    },
    unreached() {
      const pairs: [string, string][] = [];
      for (const [n, { run, targets }] of sources.entries()) {
        for (let k = 0; k < run.count; k++) {
          for (const t of heard[n]!.get(k) ?? targets) {
            if (pairs.length >= UNREACHED_TOLD_MAX) return pairs;
            pairs.push([memberAt(run.range, k), t.guest]);
          }
        }
      }
      return pairs;
    },
  };
}
