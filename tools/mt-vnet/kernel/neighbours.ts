/**
 * The kernel's ARP table is one for all namespaces of a machine, 1,024 entries by default, and drops what
 * does not fit without a word: 400 routers never converged. It is raised under a lease, and put back by
 * the last `down`. A container or a user namespace may not touch it; a small network does not need it.
 */
import { ok, type Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import { acquireLease, readSetting, releaseLease, type Settings } from "../../../shared/host/lease.ts";
import { leaseHolder } from "../../../shared/host/names.ts";
import type { Segment } from "../../../shared/records/index.ts";

const RESOURCE = "neigh";
/** What the kernel's own gc_thresh3 lets in, on all namespaces of a machine together. */
export const NEIGHBOURS_USUAL = 1024;
const WANTED = { gc_thresh3: 262_144, gc_thresh2: 131_072, gc_thresh1: 65_536 };

export async function raiseNeighbourTable(host: string, experiment: string): Promise<Result<void, MtError>> {
  const settings: Settings = {};
  for (const [name, least] of Object.entries(WANTED)) {
    const path = `/proc/sys/net/ipv4/neigh/default/${name}`;
    const now = await readSetting(path);
    if (now.isErr()) return now.map(() => undefined);
    settings[path] = String(Math.max(least, Number(now.value)));
  }
  const taken = await acquireLease(RESOURCE, leaseHolder(host, experiment), settings);
  return taken.andThen(() => ok(undefined));
}

export async function releaseNeighbourTable(
  host: string,
  experiment: string,
): Promise<Result<boolean, MtError>> {
  return releaseLease(RESOURCE, (holder) => holder === leaseHolder(host, experiment));
}

/** Neighbours that a router has on a segment, whatever host they are on: its guests and the other routers. */
export function neighboursOn(segment: Segment): number {
  const all = (segment.members ?? []).reduce(
    (sum, m) => sum + (m.count ?? 0) + (m.router === undefined ? 0 : 1),
    0,
  );
  return Math.max(0, all - 1);
}
