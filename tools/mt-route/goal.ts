/**
 * What converged means for a router: its table has the prefixes that its record promises, or, in a plan
 * written by hand, those of every segment that was seen.
 */
import { type MtError, mtError } from "../../shared/errors.ts";
import type { Router } from "../../shared/records/index.ts";
import { tableDigest } from "./table.ts";

const MISSING_NAMED_MAX = 3;

/** Prefixes of the segments that were seen on this host. */
export type Seen = ReadonlySet<string>;

export function isConverged(router: Router, table: ReadonlySet<string>, seen: Seen): boolean {
  const { reaches } = router;
  if (reaches) return table.size === reaches.prefixes && tableDigest(table) === reaches.digest;
  for (const prefix of seen) if (!table.has(prefix)) return false;
  return true;
}

/** How far a table is: "23 of 25 prefixes", and what is known of the rest. */
export function progressOf(
  router: Router,
  table: ReadonlySet<string>,
  seen: Seen,
): { count: string; rest: string } {
  const missing = [...seen].filter((prefix) => !table.has(prefix)).sort();
  const wanted = router.reaches?.prefixes ?? seen.size;
  const held = router.reaches ? table.size : seen.size - missing.length;
  const named = missing.slice(0, MISSING_NAMED_MAX).join(", ");
  const more = missing.length > MISSING_NAMED_MAX ? ` and ${missing.length - MISSING_NAMED_MAX} more` : "";
  let rest = missing.length > 0 ? `; missing: ${named}${more}` : "";
  // Enough of them, but others: something stands there that the plan does not have.
  if (missing.length === 0 && held >= wanted) rest = "; they are not those of the plan";
  return { count: `${held} of ${wanted} prefixes`, rest };
}

export function notConverged(
  router: Router,
  table: ReadonlySet<string> | undefined,
  seen: Seen,
  after_s: number,
): MtError {
  const { count, rest } = progressOf(router, table ?? new Set(), seen);
  return mtError(
    "timeout",
    `Cannot converge router ${router.id}: ${count} after ${after_s} s${rest}`,
    "mt-route check says which routers do not run, mt-vnet ls which links are missing",
  );
}
