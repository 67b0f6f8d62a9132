/**
 * Who pings whom. One ready guest of every LAN is a target, drawn by the experiment's seed; the guests of a LAN ping
 * targets of other LANs in their part of the network (the LANs that routers join). All guests of a LAN have the same
 * targets, so ranges stay ranges. Where a part has only one LAN, its guests ping one of them, which pings another.
 */
import { cidrPlus } from "../../../shared/addresses.ts";
import { orThrow } from "../../../shared/errors.ts";
import { memberAt, positionIn, sliceRange } from "../../../shared/nodeset/ranges.ts";
import { partsOf } from "../../../shared/parts.ts";
import type { Router } from "../../../shared/records/index.ts";
import { sliceGuest } from "../../../shared/records/members.ts";
import { type GuestRun, lanOf } from "./census.ts";
import { drawer, sample } from "./draw.ts";

export interface Target {
  guest: string;
  host: string | undefined;
  ip: string;
}

/** Guests that ping, and what they ping. */
export interface Source {
  run: GuestRun;
  targets: Target[];
}

/** The part of the network that each LAN is in. A LAN without a router is a part of its own. */
function partsByLan(runs: readonly GuestRun[], routers: Iterable<Router>): Map<string, number> {
  const part = new Map<string, number>();
  const parts = partsOf([...routers]);
  for (const [p, { segments }] of parts.entries()) for (const segment of segments) part.set(segment, p);
  // A stream without router records, whose guests have gateways, does not show the parts: take them as one.
  let next = parts.length + 1;
  for (const { guest } of runs) {
    const lan = lanOf(guest)!;
    if (part.has(lan)) continue;
    const routed = guest.interfaces.some((nic) => nic.segment === lan && nic.gateway !== undefined);
    part.set(lan, parts.length === 0 && routed ? 0 : next++);
  }
  return part;
}

/** Runs of guests on a LAN, grouped by part, in the order in which they came. */
function byPart(runs: Iterable<GuestRun>, routers: Iterable<Router>): GuestRun[][] {
  const on_lans = [...runs].filter(({ guest }) => lanOf(guest) !== undefined);
  const part = partsByLan(on_lans, routers);
  const parts = new Map<number, GuestRun[]>();
  for (const run of on_lans) {
    const p = part.get(lanOf(run.guest)!)!;
    const known = parts.get(p);
    if (known) known.push(run);
    else parts.set(p, [run]);
  }
  return [...parts.values()];
}

const lanCount = (runs: readonly GuestRun[]) => new Set(runs.map(({ guest }) => lanOf(guest) ?? "")).size;

/** Whether any guest has another to ping, ready or not: a part has two LANs with guests, or two guests. */
export function askable(runs: Iterable<GuestRun>, routers: Iterable<Router> = []): boolean {
  return byPart(runs, routers).some(
    (part) => lanCount(part) > 1 || part.reduce((sum, run) => sum + run.count, 0) > 1,
  );
}

/**
 * @param perGuest how many targets a guest has at most
 * @param routers they tell which LANs are in one part of the network
 */
export function choosePairs(
  runs: Iterable<GuestRun>,
  seed: number,
  perGuest: number,
  routers: Iterable<Router> = [],
): Source[] {
  return byPart(runs, routers).flatMap((part) =>
    lanCount(part) === 1 ? insideOne(part, seed) : betweenLans(part, seed, perGuest),
  );
}

/** How many pairs are not tried because no router joins the parts that they are in. */
export function pairsLeftOut(
  runs: Iterable<GuestRun>,
  perGuest: number,
  routers: Iterable<Router> = [],
): number {
  const parts = byPart(runs, routers).map((part) => part.filter(({ guest }) => guest.state === "ready"));
  const lans = parts.reduce((sum, part) => sum + lanCount(part), 0);
  return parts.reduce((sum, part) => {
    const guests = part.reduce((n, { count }) => n + count, 0);
    const fewer = Math.min(perGuest, lans - 1) - Math.min(perGuest, lanCount(part) - 1);
    return guests === 0 ? sum : sum + guests * fewer;
  }, 0);
}

function betweenLans(runs: readonly GuestRun[], seed: number, perGuest: number): Source[] {
  const lans = new Map<string, GuestRun[]>();
  for (const run of runs) {
    const lan = lanOf(run.guest)!;
    if (run.guest.state !== "ready") continue;
    const known = lans.get(lan);
    if (known) known.push(run);
    else lans.set(lan, [run]);
  }
  const targets = [...lans].flatMap(([lan, members]) => {
    const target = chooseTarget(members, drawer(seed, "target", lan));
    return target ? [{ lan, target }] : [];
  });
  return [...lans].flatMap(([lan, members]) => {
    // One more than needed, so that the LAN's own target can be left out.
    const drawn = sample(targets, perGuest + 1, drawer(seed, "targets", lan));
    const chosen = drawn
      .filter((t) => t.lan !== lan)
      .slice(0, perGuest)
      .map((t) => t.target);
    return chosen.length === 0 ? [] : members.map((run) => ({ run, targets: chosen }));
  });
}

/** The ready guests of the only LAN ping one of them, which pings another. */
function insideOne(runs: readonly GuestRun[], seed: number): Source[] {
  const ready = runs.filter(({ guest }) => guest.state === "ready");
  const lan = ready[0] && lanOf(ready[0].guest);
  if (lan === undefined || ready.reduce((sum, run) => sum + run.count, 0) < 2) return [];
  const target = chooseTarget(ready, drawer(seed, "target", lan));
  if (!target) return [];
  const pieces = ready.flatMap((run) => {
    const k = positionIn(run.range, target.guest);
    return k < 0 ? [run] : [slice(run, 0, k), slice(run, k, 1), slice(run, k + 1, run.count - k - 1)].flat();
  });
  const isTarget = (run: GuestRun) => run.count === 1 && memberAt(run.range, 0) === target.guest;
  const others = pieces.filter((run) => !isTarget(run));
  const other = chooseTarget(others, drawer(seed, "targets", lan));
  return pieces.flatMap((run) => {
    const its = isTarget(run) ? other : target;
    return its ? [{ run, targets: [its] }] : [];
  });
}

/** Some members of a run as a run of their own; nothing where `count` is 0. */
function slice(run: GuestRun, from: number, count: number): GuestRun[] {
  if (count <= 0) return [];
  const guest = orThrow(sliceGuest(run.guest, from, count));
  return [{ guest, range: sliceRange(run.range, from, count), count }];
}

function chooseTarget(members: readonly GuestRun[], draw: (n: number) => number): Target | undefined {
  let k = draw(members.reduce((sum, run) => sum + run.count, 0));
  for (const run of members) {
    if (k >= run.count) {
      k -= run.count;
      continue;
    }
    const first = run.guest.interfaces.find((nic) => nic.ip)?.ip;
    if (first === undefined) return undefined;
    const ip = orThrow(cidrPlus(first, k)).split("/")[0]!;
    return { guest: memberAt(run.range, k), host: run.guest.host, ip };
  }
  return undefined;
}
