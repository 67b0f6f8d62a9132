/**
 * Decides which host gets what. Hosts are filled in proportion to their memory, in the order of the units; a unit
 * stays whole unless it is too big for one host. What has a host already keeps it, and the rest of its LAN follows.
 */
import type { Guest, Host, Router } from "../../../shared/records/index.ts";
import { guestCount, type Plan } from "../plan/plan.ts";
import type { Unit } from "./units.ts";

/** Weight of a router beside those of guests, so that routers without guests are spread too. */
const ROUTER_MIB = 4;
/** A split LAN gets no piece smaller than this part of a host's share. */
const SLIVER = 1 / 8;

/** Guests `from` … `from + count - 1` of a record. */
export interface Piece {
  host: string;
  from: number;
  count: number;
}
export interface Placement {
  /** The host of each router, in order. */
  routers: string[];
  /** The pieces of each guest record, in order. */
  guests: Piece[][];
}

export function fillHosts(plan: Plan, units: readonly Unit[], hosts: readonly Host[]): Placement {
  const counts = plan.guests.map(({ record }) => guestCount(record));
  const weights = plan.guests.map(({ record }, g) => record.mem_mib * counts[g]!);
  const memory = hosts.reduce((sum, host) => sum + host.mem_mib, 0);
  // Without what stays on hosts that get nothing: it must not raise the share of the others.
  const hostIndex = new Map(hosts.map((host, h) => [host.id, h]));
  const counted = ({ record }: { record: Router | Guest }) =>
    record.host === undefined || hostIndex.has(record.host);
  const total =
    weights.reduce((sum, weight, g) => sum + (counted(plan.guests[g]!) ? weight : 0), 0) +
    plan.routers.filter(counted).length * ROUTER_MIB;
  const shares = hosts.map((host) => (total * host.mem_mib) / memory);
  const placement: Placement = {
    routers: plan.routers.map(({ record }) => record.host ?? ""),
    guests: plan.guests.map(({ record }, g) =>
      record.host === undefined ? [] : [{ host: record.host, from: 0, count: counts[g]! }],
    ),
  };
  const weigh = (unit: Unit) =>
    (unit.router === undefined ? 0 : ROUTER_MIB) + unit.guests.reduce((sum, g) => sum + weights[g]!, 0);
  const tooBig = (weight: number, h: number) =>
    weight >= 2 * shares[h]! || (weight > hosts[h]!.mem_mib && total <= memory);

  // First what keeps its host, and what follows it; the rest of each unit is placed below.
  const kept = hosts.map(() => 0);
  const rest: Unit[] = [];
  /** For a LAN that its host can take no more of: it is split already, so there is no whole to keep. */
  const torn = new Set<Unit>();
  for (const unit of units) {
    const free = unit.guests.filter((g) => placement.guests[g]!.length === 0);
    const open: Unit = {
      router: unit.router !== undefined && placement.routers[unit.router] === "" ? unit.router : undefined,
      guests: free,
    };
    const leader = leaderOf(unit, placement, weights);
    const h = leader === undefined ? undefined : hostIndex.get(leader);
    if (leader !== undefined && h !== undefined) {
      if (open.router !== undefined) placement.routers[open.router] = leader;
      open.router = undefined;
      if (!tooBig(weigh(unit), h))
        for (const g of open.guests.splice(0))
          placement.guests[g] = [{ host: leader, from: 0, count: counts[g]! }];
    }
    if (open.router !== undefined || open.guests.length > 0) rest.push(open);
    if (leader !== undefined && h === undefined) torn.add(open);
    if (unit.router !== undefined) add(kept, hostIndex.get(placement.routers[unit.router]!), ROUTER_MIB);
    for (const g of unit.guests)
      for (const { host } of placement.guests[g]!) add(kept, hostIndex.get(host), weights[g]!);
  }

  // Then the rest: imagine it on one line, of which each host has a stretch as long as the rest of its share.
  const left = shares.map((share, h) => Math.max(0, share - kept[h]!));
  const wanted = rest.reduce((sum, unit) => sum + weigh(unit), 0);
  const scale = wanted / (left.reduce((a, b) => a + b, 0) || 1);
  const ends: number[] = [];
  for (const l of left) ends.push((ends.at(-1) ?? 0) + l * scale);
  const lastHost = Math.max(
    0,
    left.findLastIndex((l) => l > 0),
  );
  let h = 0;
  /** The host whose stretch contains this place. Called with rising places only. */
  const hostAt = (place: number) => {
    while (h < lastHost && (place >= ends[h]! || left[h]! <= 0)) h++;
    return h;
  };
  let at = 0;
  for (const unit of rest) {
    const weight = weigh(unit);
    const start = h;
    const middle = hostAt(at + weight / 2);
    const host = hosts[middle]!.id;
    if (!tooBig(weight, middle) && !torn.has(unit)) {
      if (unit.router !== undefined) placement.routers[unit.router] = host;
      for (const g of unit.guests) placement.guests[g] = [{ host, from: 0, count: counts[g]! }];
    } else {
      h = start;
      split(unit, at, at + weight);
    }
    at += weight;
  }
  return placement;

  /** Deals the unit's guests to the hosts along its part of the line; its router goes where most of them are. */
  function split(unit: Unit, begin: number, end: number): void {
    const first = hostAt(begin);
    const from =
      first < lastHost && ends[first]! - begin < SLIVER * left[first]! * scale ? ends[first]! : begin;
    let last = first;
    while (last < lastHost && ends[last]! < end) last++;
    const lastBegin = ends[last]! - left[last]! * scale;
    const to = end - lastBegin < SLIVER * left[last]! * scale ? lastBegin : end;
    const stretch = Math.max(0, to - from) / (end - begin);
    const perHost = new Map<string, number>();
    let offset = from;
    for (const g of unit.guests) {
      const count = counts[g]!;
      const each = (weights[g]! / count) * stretch;
      const pieces: Piece[] = [];
      for (let k = 0; k < count; ) {
        const i = hostAt(offset + (k + 0.5) * each);
        const host = hosts[i]!.id;
        // Up to the last guest whose middle lies on this host's stretch.
        const until =
          i >= lastHost || each <= 0
            ? count
            : Math.min(count, Math.max(k + 1, Math.ceil((ends[i]! - offset) / each - 0.5)));
        pieces.push({ host, from: k, count: until - k });
        perHost.set(host, (perHost.get(host) ?? 0) + (until - k) * plan.guests[g]!.record.mem_mib);
        k = until;
      }
      offset += count * each;
      placement.guests[g] = pieces;
    }
    const most = [...perHost].reduce((a, b) => (b[1] > a[1] ? b : a), ["", -1]);
    if (unit.router !== undefined) placement.routers[unit.router] = most[1] < 0 ? hosts[first]!.id : most[0];
  }
}

function add(sums: number[], h: number | undefined, weight: number): void {
  if (h !== undefined) sums[h]! += weight;
}

/** The host that the rest of a unit follows: that of its router, else the one with most of its guests. */
function leaderOf(unit: Unit, placement: Placement, weights: readonly number[]): string | undefined {
  const router = unit.router === undefined ? "" : placement.routers[unit.router]!;
  if (router !== "") return router;
  const perHost = new Map<string, number>();
  for (const g of unit.guests)
    for (const { host } of placement.guests[g]!) perHost.set(host, (perHost.get(host) ?? 0) + weights[g]!);
  let best: string | undefined;
  for (const [host, weight] of perHost) if (best === undefined || weight > perHost.get(best)!) best = host;
  return best;
}
