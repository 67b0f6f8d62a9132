/**
 * Fills in what a plan written by hand may leave out: tunnel ids, indexes, prefixes. Refuses numbers that are there
 * twice.
 */
import { ok, type Result } from "neverthrow";
import { parseCidr } from "../../../shared/addresses.ts";
import { fail, type MtError } from "../../../shared/errors.ts";
import type { Guest, Router, Segment } from "../../../shared/records/index.ts";
import { guestCount, type Plan, type PlanRecord } from "./plan.ts";
import { blocksOf, LINK_PREFIX_COUNT_MAX, linkIps, networkText } from "./prefixes.ts";

export function complete(plan: Plan): Result<void, MtError> {
  return numberSegments(plan)
    .andThen(() => numberRouters(plan))
    .andThen(() => numberGuests(plan))
    .andThen(() => prefixSegments(plan));
}

const twice = (what: string, a: string, b: string) =>
  fail("data", `Cannot use ${what}: ${a} and ${b} both have it`, "leave it out and it is filled in");

/** Every record has a number of its own; those without one get the lowest free ones. */
function fill<R extends Segment | Router>(
  plan: Plan,
  entries: PlanRecord<R>[],
  field: "vni" | "index",
  first: number,
): Result<void, MtError> {
  const owner = new Map<number, string>();
  const numberIn = (record: R) => (record as unknown as Record<string, number>)[field]!;
  for (const { record } of entries) {
    if (plan.unnumbered.has(record)) continue;
    const other = owner.get(numberIn(record));
    if (other !== undefined)
      return twice(`${field} ${numberIn(record)}`, `${record.kind} ${other}`, record.id) as Result<
        never,
        MtError
      >;
    owner.set(numberIn(record), record.id);
  }
  let next = first;
  for (const entry of entries) {
    if (!plan.unnumbered.delete(entry.record)) continue;
    while (owner.has(next)) next++;
    entry.record = { ...entry.record, [field]: next++ };
  }
  return ok(undefined);
}
const numberSegments = (plan: Plan) => fill(plan, plan.segments, "vni", 1);
const numberRouters = (plan: Plan) => fill(plan, plan.routers, "index", 0);

/** The first index after all guests. */
export function nextGuestIndex(plan: Plan): number {
  let next = 0;
  for (const { record } of plan.guests)
    if (!plan.unnumbered.has(record)) next = Math.max(next, record.index + guestCount(record));
  return next;
}

function numberGuests(plan: Plan): Result<void, MtError> {
  let next = nextGuestIndex(plan);
  for (const entry of plan.guests) {
    if (!plan.unnumbered.delete(entry.record)) continue;
    entry.record = { ...entry.record, index: next };
    next += guestCount(entry.record);
  }
  const runs = plan.guests.map(({ record }) => ({
    record,
    from: record.index,
    to: record.index + guestCount(record),
  }));
  runs.sort((a, b) => a.from - b.from);
  for (let i = 1; i < runs.length; i++) {
    const [a, b] = [runs[i - 1]!, runs[i]!];
    if (b.from < a.to)
      return twice(`index ${b.from}`, `guest ${a.record.id}`, b.record.id) as Result<never, MtError>;
  }
  return ok(undefined);
}

/** A segment's prefix from the addresses on it; a segment without any gets the next free /31. */
function prefixSegments(plan: Plan): Result<void, MtError> {
  const lacking = plan.segments.filter(({ record }) => record.prefix === undefined);
  if (lacking.length === 0) return ok(undefined);
  const addressOn = new Map<string, string>();
  for (const { record } of [...plan.routers, ...plan.guests] as PlanRecord<Router | Guest>[])
    for (const { segment, ip } of record.interfaces)
      if (ip !== undefined && !addressOn.has(segment)) addressOn.set(segment, ip);
  const given = plan.segments.flatMap(({ record }) => record.prefix ?? addressOn.get(record.id) ?? []);
  const taken = blocksOf(given);
  // Both are sorted, so that one pass is enough.
  let next = 0;
  let t = 0;
  for (const entry of lacking) {
    const ip = addressOn.get(entry.record.id);
    let prefix = ip === undefined ? undefined : networkText(ip);
    while (prefix === undefined && next < LINK_PREFIX_COUNT_MAX) {
      const free = linkIps(next++).prefix;
      const { address } = parseCidr(free)._unsafeUnwrap();
      while (t < taken.length && taken[t]!.to <= address) t++;
      if (t === taken.length || taken[t]!.from > address + 1) prefix = free;
    }
    if (prefix === undefined)
      return fail("data", `Cannot number segment ${entry.record.id}: no prefix is left`);
    entry.record = { ...entry.record, prefix };
  }
  return ok(undefined);
}
