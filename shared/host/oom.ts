/**
 * Who dies first when memory runs out: guests, never what looks after them. mt-ksm protect decides the order
 * among an experiment's guests and keeps it in one file; mt-boot gives each QEMU that it starts its place.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { readOwnJson } from "../own-place.ts";
import type { Guest } from "../records/index.ts";
import { experimentDir } from "./names.ts";

/**
 * The kernel's oom_score_adj of guests, from the last to die to the first; agents and supervisors have 0 or less.
 * A thousandth is worth a thousandth of the limit (a memory cgroup's, else all memory), and what a process holds is
 * added to it, pages that it shares counted whole. So the order of two neighbours holds as long as the older is
 * not larger than the newer by a step, 900 / (guests - 1) thousandths: steps are as long as the range allows.
 */
export const GUEST_SCORE_LEAST = 100;
export const GUEST_SCORE_MOST = 1000;
/** Of a guest whose order nobody has decided. */
const GUEST_SCORE = 500;

export const OOM_ORDERS = ["newest", "priority"] as const;
export type OomOrder = (typeof OOM_ORDERS)[number];

/** Guests of one priority; the later the index, the newer the guest. */
interface Level {
  priority: number;
  first: number;
  last: number;
  /** The scores of its first and its last guest. */
  least: number;
  most: number;
}

/** The order among the guests of one experiment on this host. */
export interface OomPlan {
  order: OomOrder;
  levels: Level[];
  /** The directory of the memory cgroup that holds its guests. */
  cgroup?: string;
}

export type Ranked = Pick<Guest, "index" | "priority">;

/** Newest first, or those of lowest priority first and the newest among them. Scores are spread over all there are. */
export function oomPlan(order: OomOrder, guests: readonly Ranked[], cgroup?: string): OomPlan {
  const level = (g: Ranked) => (order === "priority" ? (g.priority ?? 0) : 0);
  const levels: Level[] = [];
  let before = 0;
  const scoreAt = (rank: number) =>
    Math.round(
      GUEST_SCORE_LEAST + ((GUEST_SCORE_MOST - GUEST_SCORE_LEAST) * rank) / Math.max(1, guests.length - 1),
    );
  for (const priority of [...new Set(guests.map(level))].sort((a, b) => b - a)) {
    let [first, last, n] = [Number.POSITIVE_INFINITY, 0, 0];
    for (const g of guests) {
      if (level(g) !== priority) continue;
      first = Math.min(first, g.index);
      last = Math.max(last, g.index);
      n++;
    }
    levels.push({ priority, first, last, least: scoreAt(before), most: scoreAt(before + n - 1) });
    before += n;
  }
  return { order, levels, ...(cgroup === undefined ? {} : { cgroup }) };
}

/** A guest's oom_score_adj. */
export function oomScore(plan: OomPlan | undefined, guest: Ranked): number {
  if (!plan || plan.levels.length === 0) return GUEST_SCORE;
  const priority = plan.order === "priority" ? (guest.priority ?? 0) : 0;
  // One that came later than the plan stands with those next above it, else with the highest.
  const level = plan.levels.findLast((l) => l.priority >= priority) ?? plan.levels[0]!;
  const { first, last, least, most } = level;
  const share = last === first ? 1 : (guest.index - first) / (last - first);
  return Math.round(least + (most - least) * Math.min(1, Math.max(0, share)));
}

export const oomFile = (experiment: string) => join(experimentDir(experiment), "oom.json");

/** What was decided for an experiment's guests here; undefined where nobody has. */
export function readOomPlan(experiment: string): OomPlan | undefined {
  return readOwnJson(oomFile(experiment)) as OomPlan | undefined;
}

/**
 * Gives a guest's QEMU its place: its score, and the memory cgroup where there is one.
 * @returns why not, where the kernel does not allow it: the guest is none the worse
 */
export function placeGuest(pid: number, plan: OomPlan | undefined, guest: Ranked): string | undefined {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, String(oomScore(plan, guest)));
    if (plan?.cgroup !== undefined) writeFileSync(join(plan.cgroup, "cgroup.procs"), String(pid));
    return undefined;
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    // It has ended meanwhile.
    return code === "ENOENT" || code === "ESRCH" ? undefined : String(code ?? thrown);
  }
}
