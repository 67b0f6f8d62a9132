/**
 * The hosts, routers and guests of a stream. Of two records with the same kind and id the later one counts. Guests stay
 * in the ranges that they came in.
 */
import { parseRange, type Range, rangeCount } from "../../../shared/nodeset/ranges.ts";
import type { End, Experiment, Guest, Host, Kind, Router, Segment } from "../../../shared/records/index.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";

/** A guest record with its parsed range. */
export interface GuestRun {
  guest: Guest;
  range: Range;
  count: number;
}

export interface Spanning {
  hosts: readonly string[];
  mtu: number | undefined;
}

export interface Census {
  experiment: Experiment | undefined;
  hosts: Map<string, Host>;
  routers: Map<string, Router>;
  guests: Map<string, GuestRun>;
  /** Segments that span several hosts. */
  spanning: Map<string, Spanning>;
  /** Ids of the kinds that are only counted. */
  others: Map<Kind, Set<string>>;
}

export function emptyCensus(): Census {
  return {
    experiment: undefined,
    hosts: new Map(),
    routers: new Map(),
    guests: new Map(),
    spanning: new Map(),
    others: new Map(),
  };
}

/** The handlers that fill it. */
export function readInto(census: Census) {
  const other = (record: { kind: Kind; id: string }) => {
    const ids = census.others.get(record.kind);
    if (ids) ids.add(record.id);
    else census.others.set(record.kind, new Set([record.id]));
    return undefined;
  };
  return {
    experiment: (record: Experiment) => {
      census.experiment = record;
      return undefined;
    },
    host: (record: Host) => void census.hosts.set(record.id, record) as undefined,
    router: (record: Router) => void census.routers.set(record.id, record) as undefined,
    guest: (record: Guest, context: Pick<FilterContext, "note">) => {
      const range = parseRange(record.id);
      if (range.isErr()) context.note(range.error);
      else
        census.guests.set(record.id, { guest: record, range: range.value, count: rangeCount(range.value) });
      return undefined;
    },
    image: other,
    segment: (record: Segment) => {
      const { id, hosts, mtu } = record;
      if (hosts && hosts.length > 1) census.spanning.set(id, { hosts, mtu });
      return other(record);
    },
  };
}

/** How many guests, counting the members of ranges; only those of `state` where it is given. */
export function countGuests(runs: Iterable<GuestRun>, state?: Guest["state"]): number {
  let n = 0;
  for (const run of runs) if (state === undefined || run.guest.state === state) n += run.count;
  return n;
}

/** Kinds whose count differs from that of `end`: how many came, and how many should have. */
export function countsThatDiffer(census: Census, end: End): { kind: string; came: number; wanted: number }[] {
  const came: Record<string, number> = {
    host: census.hosts.size,
    router: census.routers.size,
    guest: countGuests(census.guests.values()),
    image: census.others.get("image")?.size ?? 0,
    segment: census.others.get("segment")?.size ?? 0,
  };
  return Object.entries(end.counts)
    .filter(([kind, wanted]) => kind in came && came[kind] !== wanted)
    .map(([kind, wanted]) => ({ kind, came: came[kind]!, wanted }));
}

/** The LAN that a guest is on: the segment of its first interface with an address. */
export const lanOf = (guest: Guest): string | undefined => guest.interfaces.find((nic) => nic.ip)?.segment;
