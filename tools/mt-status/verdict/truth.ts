/** The order of fields in a verdict, and what is not true of it. */
import { type MtError, mtError } from "../../../shared/errors.ts";
import type { Verdict } from "../../../shared/records/index.ts";

/** The fields that every verdict shows, in the order in which people read them. */
const ORDER = [
  "kind",
  "id",
  "hosts",
  "routers",
  "converged",
  "guests",
  "ready",
  "pairs_tried",
  "pairs_reached",
  "pairs_full_sized",
  "pairs_left_out",
  "left_behind",
  "seconds",
];

export function inOrder<V extends object>(verdict: V): V {
  const all = verdict as Record<string, unknown>;
  const known = ORDER.filter((field) => all[field] !== undefined).map((field) => [field, all[field]]);
  const rest = Object.entries(all).filter(([field, value]) => !ORDER.includes(field) && value !== undefined);
  return Object.fromEntries([...known, ...rest]) as V;
}

/** What is not as it should be, in words; empty where a verdict is wholly true. */
export function untruths(verdict: Verdict & { askable?: boolean; suspects?: readonly string[] }): string[] {
  const { hosts = 0, routers = 0, converged = 0, guests = 0, ready = 0 } = verdict;
  const { pairs_tried = 0, pairs_reached = 0, pairs_left_out = 0, left_behind = 0 } = verdict;
  const out: string[] = [];
  if (hosts === 0) out.push("there is no host");
  if (converged !== routers) out.push(`${routers - converged} of ${routers} routers have not converged`);
  if (ready !== guests) out.push(`${guests - ready} of ${guests} guests are not ready`);
  if (pairs_reached !== pairs_tried)
    out.push(`${pairs_tried - pairs_reached} of ${pairs_tried} pings were not answered`);
  const { pairs_full_sized = pairs_reached, suspects = [] } = verdict;
  if (pairs_full_sized < pairs_reached) {
    const where = suspects.length > 0 ? `: look at ${suspects.join(", ")}` : "";
    out.push(
      `${pairs_reached - pairs_full_sized} of ${pairs_reached} pings get through only while they are small${where}`,
    );
  }
  // If it is not known whether there was anybody to ping, guests behind two routers count as two LANs.
  if (pairs_tried === 0 && (verdict.askable ?? (guests > 1 && routers > 1 && pairs_left_out === 0)))
    out.push("no guest pinged another");
  if (left_behind > 0) out.push(`${left_behind} things are left behind`);
  return out;
}

/** The error that says so. */
export function notTrue(id: string, what: readonly string[], hint?: string): MtError {
  return mtError("failed", `Cannot confirm ${id}: ${what.join("; ")}`, hint);
}
