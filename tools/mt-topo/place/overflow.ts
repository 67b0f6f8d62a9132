/**
 * Guests that mt-boot up --until-full gave out as planned, because their hosts had no room, are taken off these hosts,
 * so that they can be placed on others. They keep index, addresses and name.
 */
import { isDeepStrictEqual } from "node:util";
import { fail } from "../../../shared/errors.ts";
import { foldNodes } from "../../../shared/nodeset/fold.ts";
import { formatRange, parseRange, type Range, splitName } from "../../../shared/nodeset/ranges.ts";
import type { Guest, Host } from "../../../shared/records/index.ts";
import { sliceGuest } from "../../../shared/records/members.ts";
import { guestCount, lineOf, type Plan, type PlanRecord } from "../plan/plan.ts";

/** Takes them off their hosts. Returns the hosts that are full, also those of an earlier overflow. */
export function takeOverflow(plan: Plan): Set<string> {
  const full = new Set(plan.hosts.flatMap(({ record }) => (record.full ? [record.id] : [])));
  for (const entry of plan.guests) {
    const { host, state, error, ...rest } = entry.record;
    if (host === undefined || state !== "planned" || error?.code !== "busy") continue;
    full.add(host);
    entry.record = rest;
  }
  return full;
}

/** Marks full hosts in the plan: a later overflow must not come back to them. */
export const markFull = (host: Host, full: ReadonlySet<string>): Host =>
  full.has(host.id) && !host.full ? { ...host, full: true } : host;

/** The error where something is to be placed and all hosts are full. */
export function noHostLeft(plan: Plan, full: ReadonlySet<string>) {
  const waiting = plan.guests.filter(({ record }) => record.host === undefined);
  const n = waiting.reduce((sum, { record }) => sum + guestCount(record), 0);
  const names = foldNodes(full);
  return fail<void>(
    "failed",
    `Cannot place ${n} guests that found no room: no host is left, ${names.slice(0, 60)} ${full.size === 1 ? "is" : "are"} full`,
    "name more hosts; or make room (mt-ksm settle) and bring the plan up again",
  );
}

/** Folds neighbouring guests that were moved to the same host into one range again. */
export function foldMoved(guests: readonly PlanRecord<Guest>[]): PlanRecord<Guest>[] {
  const out: PlanRecord<Guest>[] = [];
  for (const entry of guests) {
    const last = out.at(-1);
    const record = last && isMoved(last) && isMoved(entry) ? joined(last.record, entry.record) : undefined;
    const whole = record && { ...last, record };
    // Equal as parsed numbers may still differ as text.
    if (whole && lineOf(whole) === lineOf({ ...entry, record: whole.record })) out[out.length - 1] = whole;
    else out.push(entry);
  }
  return out;
}

const isMoved = ({ record, came }: PlanRecord<Guest>) => record !== came?.record;

/** One record for both, if `b` continues the range of `a`. */
function joined(a: Guest, b: Guest): Guest | undefined {
  const [left, right] = [numbered(a.id), numbered(b.id)];
  const [last, first] = [left?.spans.at(-1), right?.spans[0]];
  if (!left || !right || !last || !first) return undefined;
  if (left.prefix !== right.prefix || left.suffix !== right.suffix) return undefined;
  if (last.hi + 1 !== first.lo || last.width !== first.width) return undefined;
  const spans = [...left.spans.slice(0, -1), { ...last, hi: first.hi }, ...right.spans.slice(1)];
  const whole = { ...a, id: formatRange({ ...left, spans }) };
  const rest = sliceGuest(whole, guestCount(a), guestCount(b));
  return rest.isOk() && isDeepStrictEqual(rest.value, b) && parseRange(whole.id).isOk() ? whole : undefined;
}

/** An id as a range; a single name is a range of one. */
function numbered(id: string): Range | undefined {
  const range = parseRange(id)._unsafeUnwrap();
  if (range.spans.length > 0) return range;
  const split = splitName(id);
  if (!split) return undefined;
  const { prefix, suffix, width } = split.family;
  return { prefix, suffix, spans: [{ lo: split.n, hi: split.n, width }] };
}
