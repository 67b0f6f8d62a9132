/**
 * What converged means for a router: its table has the prefixes that `reaches` of its record says, or, where a plan
 * was written by hand and has none, those of every segment that was seen.
 */
import { type MtError, mtError } from "../../../shared/errors.ts";
import type { Router } from "../../../shared/records/index.ts";
import { prefixesDigest } from "../../../shared/records/router.ts";
import type { Diagnosis } from "./diagnose.ts";

const MISSING_NAMED_MAX = 3;

/** Prefixes of the segments that were seen on this host. */
export type Seen = ReadonlySet<string>;

export function isConverged(router: Router, table: ReadonlySet<string>, seen: Seen): boolean {
  const { reaches } = router;
  if (reaches) return table.size === reaches.prefixes && prefixesDigest(table) === reaches.digest;
  for (const prefix of seen) if (!table.has(prefix)) return false;
  return true;
}

/** The routers that announce a prefix, as far as its segment says who is on it. */
export type Origins = ReadonlyMap<string, readonly string[]>;

/** How far a table is: "23 of 25 prefixes", and what is known of the rest. */
export function progressOf(
  router: Router,
  table: ReadonlySet<string>,
  seen: Seen,
  origins: Origins,
): { count: string; rest: string } {
  const missing = [...seen].filter((prefix) => !table.has(prefix)).sort();
  const wanted = router.reaches?.prefixes ?? seen.size;
  // Where this host has only some of the segments, the table's size is all there is to compare.
  const held = seen.size < wanted ? table.size : seen.size - missing.length;
  const of = (prefix: string) => {
    const others = (origins.get(prefix) ?? []).filter((id) => id !== router.id);
    return others.length === 0 ? prefix : `${prefix} of ${others.slice(0, 2).join(" and ")}`;
  };
  const named = missing.slice(0, MISSING_NAMED_MAX).map(of).join(", ");
  // Prefixes of segments on other hosts are counted, but their names are not known here.
  const lacking = Math.max(missing.length, wanted - held);
  const more =
    lacking > MISSING_NAMED_MAX ? ` and ${lacking - Math.min(missing.length, MISSING_NAMED_MAX)} more` : "";
  let rest = missing.length > 0 ? `; missing: ${named}${more}` : "";
  // As many as wanted, but not the same ones: the table has routes that the plan does not.
  if (missing.length === 0 && held >= wanted) rest = "; they are not those of the plan";
  return { count: `${held} of ${wanted} prefixes`, rest };
}

export function notConverged(
  router: Router,
  progress: { count: string; rest: string },
  after_s: number,
  { says, hint }: Diagnosis,
): MtError {
  const { count, rest } = progress;
  const why = says.map((clause) => `; ${clause}`).join("");
  return mtError(
    "timeout",
    `Cannot converge router ${router.id}: ${count} after ${after_s} s${rest}${why}`,
    hint,
  );
}
