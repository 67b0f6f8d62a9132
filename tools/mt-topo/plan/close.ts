/**
 * Closes a placed plan: every record gets what its host needs to know and would otherwise look up.
 * images and segments: their hosts; segments: who is where; routers: what converged means for them.
 */
import { partsOf } from "../../../shared/parts.ts";
import type { Host, Router, Segment } from "../../../shared/records/index.ts";
import { prefixesDigest } from "../../../shared/records/router.ts";
import { memberSchema } from "../../../shared/records/segment.ts";
import { guestCount, type Plan, unknownFields } from "./plan.ts";
import { networkText } from "./prefixes.ts";

type Member = NonNullable<Segment["members"]>[number];

/** @param hosts all hosts of the plan, in order; every router and guest names one of them */
export function closePlan(plan: Plan, hosts: readonly Host[]): void {
  const order = new Map(hosts.map((host, h) => [host.id, h]));
  const sorted = (names: Iterable<string>) =>
    [...new Set(names)].sort((a, b) => order.get(a)! - order.get(b)!);

  const imageHosts = new Map<string, Set<string>>(plan.images.map(({ record }) => [record.id, new Set()]));
  for (const { record } of plan.guests) imageHosts.get(record.image)!.add(record.host!);
  for (const entry of plan.images) {
    const { kind, id, hosts: _hosts, ...rest } = entry.record;
    entry.record = { kind, id, hosts: sorted(imageHosts.get(id)!), ...rest };
  }

  const members = membersOf(plan, new Map(hosts.map(({ id, addr }) => [id, addr])));
  for (const entry of plan.segments) {
    const on = members.get(entry.record.id)!;
    const { kind, id, hosts: _hosts, ...rest } = entry.record;
    const hosts = sorted(on.map((m) => m.host));
    entry.record = { kind, id, hosts, ...rest, members: withUnknown(on, rest.members) };
  }
  setReaches(plan);
}

/** Unknown fields that members had before stay with them. */
function withUnknown(members: Member[], before: readonly Member[] = []): Member[] {
  const keyOf = (m: Member) => JSON.stringify([m.host, m.router, m.index]);
  const known = new Map(before.map((m) => [keyOf(m), m]));
  return members.map((m) => ({ ...m, ...unknownFields(memberSchema, known.get(keyOf(m))) }));
}

/** Members by segment: routers in order, each with the first run of guests on its host, then the other runs. */
function membersOf(plan: Plan, underlay: ReadonlyMap<string, string | undefined>): Map<string, Member[]> {
  const routers = new Map<string, Member[]>(plan.segments.map(({ record }) => [record.id, []]));
  const runs = new Map<string, { host: string; index: number; count: number }[]>();
  const entry = (host: string): Member => ({
    host,
    ...(underlay.get(host) === undefined ? {} : { underlay: underlay.get(host) }),
  });
  for (const { record } of plan.routers)
    for (const { segment } of record.interfaces)
      routers.get(segment)!.push({ ...entry(record.host!), router: record.id });
  for (const { record } of plan.guests)
    for (const { segment } of record.interfaces) {
      const on = runs.get(segment);
      const run = { host: record.host!, index: record.index, count: guestCount(record) };
      if (on) on.push(run);
      else runs.set(segment, [run]);
    }
  for (const [segment, on] of runs) {
    on.sort((a, b) => a.index - b.index);
    const list = routers.get(segment)!;
    const alone = new Map<string, Member>();
    for (const member of list) if (!alone.has(member.host)) alone.set(member.host, member);
    let last: Member | undefined;
    for (const { host, index, count } of on) {
      if (last?.host === host && last.index! + last.count! === index) {
        last.count! += count;
        continue;
      }
      last = alone.get(host);
      alone.delete(host);
      if (last) Object.assign(last, { index, count });
      else list.push((last = { ...entry(host), index, count }));
    }
  }
  return routers;
}

/** Routers that reach each other share their segments' prefixes, and so one digest. */
function setReaches(plan: Plan): void {
  const prefixOf = new Map(plan.segments.map(({ record }) => [record.id, networkText(record.prefix!)]));
  for (const part of partsOf(plan.routers.map(({ record }) => record))) {
    const prefixes = new Set([...part.segments].map((segment) => prefixOf.get(segment)!));
    const reaches: Router["reaches"] = { prefixes: prefixes.size, digest: prefixesDigest(prefixes) };
    for (const r of part.routers) {
      const entry = plan.routers[r]!;
      entry.record = { ...entry.record, reaches: { ...entry.record.reaches, ...reaches } };
    }
  }
}
