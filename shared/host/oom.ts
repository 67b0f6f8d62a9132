/**
 * Who dies first when memory runs out: guests, before agents and supervisors. mt-ksm protect decides the order of an
 * experiment's guests and keeps it in one file; mt-boot gives each QEMU that it starts its score.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { readOwnJson } from "../own-place.ts";
import type { Guest } from "../records/index.ts";
import { experimentDir } from "./names.ts";

/**
 * Range of the kernel's oom_score_adj for guests, from the last to die to the first; agents and supervisors have 0 or
 * less. One point is a thousandth of the limit (of a memory cgroup, else of all memory), and the kernel adds what the
 * process holds, counting shared pages in full. So two neighbours keep their order unless the older one is larger by a
 * step, 900 / (guests - 1) points: the steps are as large as the range allows.
 */
export const GUEST_SCORE_LEAST = 100;
export const GUEST_SCORE_MOST = 1000;
/** Without a plan. */
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

/** Newest first, or lowest priority first and the newest among those. Scores are spread over the whole range. */
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

/** A guest's oom_score_adj, between the two constants above. */
export function oomScore(plan: OomPlan | undefined, guest: Ranked): number {
  if (!plan || plan.levels.length === 0) return GUEST_SCORE;
  const priority = plan.order === "priority" ? (guest.priority ?? 0) : 0;
  // A priority that the plan does not have counts as the next higher one, or as the highest.
  const level = plan.levels.findLast((l) => l.priority >= priority) ?? plan.levels[0]!;
  const { first, last, least, most } = level;
  const share = last === first ? 1 : (guest.index - first) / (last - first);
  return Math.round(least + (most - least) * Math.min(1, Math.max(0, share)));
}

export const oomFile = (experiment: string) => join(experimentDir(experiment), "oom.json");

/** The plan for an experiment's guests on this host; undefined if there is none. */
export function readOomPlan(experiment: string): OomPlan | undefined {
  return readOwnJson(oomFile(experiment)) as OomPlan | undefined;
}

/**
 * Gives a guest's QEMU its score, and puts it into the memory cgroup if there is one.
 * @returns the errno if the kernel refuses (the guest runs on as before); undefined if it worked or the process has ended
 */
export function placeGuest(pid: number, plan: OomPlan | undefined, guest: Ranked): string | undefined {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, String(oomScore(plan, guest)));
    if (plan?.cgroup !== undefined) writeFileSync(join(plan.cgroup, "cgroup.procs"), String(pid));
    return undefined;
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    // The process has ended.
    return code === "ENOENT" || code === "ESRCH" ? undefined : String(code ?? thrown);
  }
}
