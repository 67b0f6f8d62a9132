/**
 * Checks the addresses of a plan: prefixes of segments do not overlap, each address is on a segment once, gateways are
 * in their guest's prefix. Ranges are sorted intervals, and never expanded.
 */
import { ok, type Result } from "neverthrow";
import { formatIp, networkOf, parseCidr, parseIp } from "../../../shared/addresses.ts";
import { fail, type MtError } from "../../../shared/errors.ts";
import { guestCount, type Plan } from "./plan.ts";

interface Interval {
  /** What the addresses belong to: a segment's index in the plan, or 0 for all of them. */
  on: number;
  from: number;
  /** The last one. */
  to: number;
  /** `router chi`, for people. */
  who: string;
}

/** Expects that all references are checked and all prefixes filled in. */
export function checkAddresses(plan: Plan): Result<void, MtError> {
  return prefixesApart(plan)
    .andThen(() => gatewaysNear(plan))
    .andThen(() => addressesOnce(plan));
}

function prefixesApart(plan: Plan): Result<void, MtError> {
  const prefixes = plan.segments.map(({ record }) => {
    const { address, length } = networkOf(parseCidr(record.prefix!)._unsafeUnwrap());
    return { on: 0, from: address, to: address + 2 ** (32 - length) - 1, who: record.id };
  });
  const [a, b] = firstOverlap(prefixes) ?? [];
  if (!a || !b) return ok(undefined);
  const prefixOf = new Map(plan.segments.map(({ record }) => [record.id, record.prefix]));
  return fail(
    "data",
    `Cannot place segments ${a.who} and ${b.who}: their prefixes ${prefixOf.get(a.who)} and ${prefixOf.get(b.who)} overlap`,
    "give each segment a prefix of its own, or leave it out and it is filled in",
  );
}

function gatewaysNear(plan: Plan): Result<void, MtError> {
  const networks = new Map(
    plan.segments.map(({ record }) => [record.id, networkOf(parseCidr(record.prefix!)._unsafeUnwrap())]),
  );
  for (const { record } of plan.guests)
    for (const { segment, gateway } of record.interfaces) {
      if (gateway === undefined) continue;
      const { address, length } = networks.get(segment)!;
      const its = networkOf({ address: parseIp(gateway)._unsafeUnwrap(), length });
      if (its.address !== address)
        return fail(
          "data",
          `Cannot place guest ${short(record.id)}: its gateway ${gateway} is not in ${formatIp(address)}/${length}, the prefix of segment ${segment}`,
          "the gateway is a router's address on the same segment",
        );
    }
  return ok(undefined);
}

function addressesOnce(plan: Plan): Result<void, MtError> {
  const place = new Map(plan.segments.map(({ record }, s) => [record.id, s]));
  const intervals: Interval[] = [];
  const add = (who: string, segment: string, ip: string | undefined, count: number) => {
    if (ip === undefined) return;
    const from = parseCidr(ip)._unsafeUnwrap().address;
    intervals.push({ on: place.get(segment)!, from, to: from + count - 1, who });
  };
  for (const { record } of plan.routers)
    for (const { segment, ip } of record.interfaces) add(`router ${record.id}`, segment, ip, 1);
  for (const { record } of plan.guests) {
    const [who, count] = [`guest ${record.id}`, guestCount(record)];
    for (const { segment, ip } of record.interfaces) add(who, segment, ip, count);
  }
  const [a, b] = firstOverlap(intervals) ?? [];
  if (!a || !b) return ok(undefined);
  const who =
    a.who === b.who ? `${short(a.who)}: two interfaces` : `${short(a.who)} and ${short(b.who)}: both`;
  return fail(
    "data",
    `Cannot place ${who} have address ${formatIp(b.from)} on segment ${plan.segments[b.on]!.record.id}`,
    "give each its own address; a range of N guests takes N addresses, counting up",
  );
}

/** Two intervals that overlap: sorted by their beginnings, each is compared with the furthest end before it. */
function firstOverlap(intervals: Interval[]): [Interval, Interval] | undefined {
  intervals.sort((a, b) => a.on - b.on || a.from - b.from);
  let furthest: Interval | undefined;
  for (const next of intervals) {
    if (furthest?.on === next.on && next.from <= furthest.to) return [furthest, next];
    if (furthest?.on !== next.on || next.to > furthest.to) furthest = next;
  }
  return undefined;
}

const short = (text: string) => text.slice(0, 60);
