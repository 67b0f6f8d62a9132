/**
 * mt-topo guests: N guests spread evenly over the routers, one LAN a router, one record a LAN.
 * Reads and writes a whole plan; exits 65 where it is not whole, or the LANs get no addresses.
 */
import { existsSync } from "node:fs";
import { ok, type Result } from "neverthrow";
import { type Cidr, formatCidr, formatIp, networkOf, parseCidr } from "../../../shared/addresses.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { inform } from "../../../shared/cli/stderr.ts";
import { fail, type MtError, MtFailure, orThrow } from "../../../shared/errors.ts";
import { imagePath } from "../../../shared/host/names.ts";
import { formatRange, parseRange } from "../../../shared/nodeset/ranges.ts";
import { readOwn } from "../../../shared/own-place.ts";
import type { Guest, Image, Router } from "../../../shared/records/index.ts";
import { validate } from "../../../shared/records/validate.ts";
import { linesFrom } from "../../../shared/stream/lines.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import { chunksOf } from "../formats/input.ts";
import { complete, nextGuestIndex } from "../plan/complete.ts";
import { GuestIds } from "../plan/guest-ids.ts";
import { UniqueNames } from "../plan/names.ts";
import { guestCount, type Plan, type PlanRecord, readPlan, writePlan } from "../plan/plan.ts";
import { FIRST_GUEST, lanPrefixes } from "../plan/prefixes.ts";
import type { spec } from "../spec.ts";

export interface GuestShape {
  image: string;
  cores: number;
  mem_mib: number;
}

export const guests: Run<typeof spec, "guests"> = async ({ args, signal }) => {
  const { n, image, mem: mem_mib, cores } = args;
  const plan = orThrow(await readPlan(linesFrom(chunksOf("-", signal)), true));
  orThrow(complete(plan));
  if (n > 0) {
    orThrow(addGuests(plan, n, { image, cores, mem_mib }));
    if (!plan.images.some(({ record }) => record.id === image))
      plan.images.push({ record: orThrow(imageRecord(image)) });
  }
  writePlan(plan, new LineWriter());
  return 0;
};

/** The image record that `mt-image build` wrote, or one with the name alone. */
function imageRecord(name: string): Result<Image, MtError> {
  const path = imagePath(name);
  if (!existsSync(path)) {
    inform(`warning: image ${name} is not built here: mt-image build ${name}`);
    return ok({ kind: "image", id: name, os: "linux", fork: true });
  }
  const unread = (why: string) =>
    fail<Image>("data", `Cannot read image ${name}: ${path}: ${why}`, `mt-image build ${name}`);
  try {
    const record = validate("image", JSON.parse(readOwn(path)));
    if (record.isErr()) return unread(record.error.message);
    if (record.value.id !== name) return unread(`it is image ${record.value.id}`);
    const { hosts: _hosts, ...rest } = record.value;
    return ok(rest);
  } catch (thrown) {
    if (thrown instanceof MtFailure) throw thrown;
    return unread((thrown as Error).message);
  }
}

/** The LAN of a router: its segment, and the next free address of its guests. */
interface Lan {
  segment: string;
  ip: string;
  /** The next guest's address, counted from the network's address. */
  next: number;
}

/** Adds `n` guests to the plan; where they do not divide evenly, the first routers get one more. */
export function addGuests(plan: Plan, n: number, shape: GuestShape): Result<void, MtError> {
  const routers = plan.routers.slice(0, n);
  if (routers.length === 0)
    return fail(
      "data",
      `Cannot add ${n} guests: the plan has no routers`,
      "begin with mt-topo import or mt-topo gen",
    );
  const each = Math.floor(n / plan.routers.length);
  const more = n % plan.routers.length;
  const shares = routers.map((_, i) => each + (i < more ? 1 : 0));
  const lans = lansOf(plan);
  const lacking = routers.filter(({ record }) => !lans.has(record.id));
  const used = plan.segments.flatMap(({ record }) => (record.prefix === undefined ? [] : [record.prefix]));
  return lanPrefixes(lacking.length, shares[0]!, used).andThen((prefixes) => {
    addLans(plan, lacking, prefixes, lans);
    return addRanges(plan, routers, shares, lans, shape);
  });
}

/** The LANs that an earlier `guests` made, by router: told by their names, and by having no peer. */
function lansOf(plan: Plan): Map<string, Lan> {
  const lans = new Map<string, Lan>();
  const bySegment = new Map<string, Lan>();
  for (const { record } of plan.routers)
    for (const { segment, ip, peer } of record.interfaces)
      if (peer === undefined && segment.startsWith("lan-") && !lans.has(record.id)) {
        const lan = { segment, ip, next: FIRST_GUEST };
        lans.set(record.id, lan);
        bySegment.set(segment, lan);
      }
  for (const { record } of plan.guests)
    for (const { segment, ip } of record.interfaces) {
      const lan = bySegment.get(segment);
      const at = ip === undefined ? undefined : parseCidr(ip)._unsafeUnwrap();
      if (lan && at) lan.next = Math.max(lan.next, at.address - networkOf(at).address + guestCount(record));
    }
  return lans;
}

function addLans(plan: Plan, routers: PlanRecord<Router>[], prefixes: Cidr[], lans: Map<string, Lan>): void {
  const names = new UniqueNames(plan.segments.map(({ record }) => record.id));
  let vni = plan.segments.reduce((max, { record }) => Math.max(max, record.vni), 0);
  for (const [i, entry] of routers.entries()) {
    const prefix = prefixes[i]!;
    const segment = names.take(`lan-${entry.record.id}`);
    const ip = formatCidr({ ...prefix, address: prefix.address + 1 });
    plan.segments.push({ record: { kind: "segment", id: segment, vni: ++vni, prefix: formatCidr(prefix) } });
    entry.record = { ...entry.record, interfaces: [...entry.record.interfaces, { segment, ip }] };
    lans.set(entry.record.id, { segment, ip, next: FIRST_GUEST });
  }
}

function addRanges(
  plan: Plan,
  routers: PlanRecord<Router>[],
  shares: number[],
  lans: Map<string, Lan>,
  shape: GuestShape,
): Result<void, MtError> {
  const ids = new GuestIds();
  for (const { record, line } of plan.guests) ids.add(parseRange(record.id)._unsafeUnwrap(), line ?? 0);
  let next = Math.max(nextGuestIndex(plan), ids.after("g"));
  for (const [i, { record }] of routers.entries()) {
    const count = shares[i]!;
    const lan = lans.get(record.id)!;
    const router = parseCidr(lan.ip)._unsafeUnwrap();
    const network = networkOf(router);
    const own = router.address - network.address;
    if (own >= lan.next && own < lan.next + count) lan.next = own + 1;
    // The last address is the network's broadcast.
    if (lan.next + count > 2 ** (32 - network.length) - 1)
      return fail(
        "data",
        `Cannot add ${count} guests to ${lan.segment}: ${formatCidr(network)} has no room for them`,
        "take fewer guests, or add all of them at once",
      );
    const range = { prefix: "g", suffix: "", spans: [{ lo: next, hi: next + count - 1, width: 0 }] };
    const ip = formatCidr({ address: network.address + lan.next, length: network.length });
    const guest: Guest = {
      kind: "guest",
      id: formatRange(range),
      index: next,
      ...shape,
      interfaces: [{ segment: lan.segment, ip, gateway: formatIp(router.address) }],
    };
    plan.guests.push({ record: guest });
    next += count;
  }
  return ok(undefined);
}
