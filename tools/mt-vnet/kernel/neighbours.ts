/**
 * The kernel has one ARP table for all namespaces of a machine, 1,024 entries by default, and silently drops what
 * does not fit: 400 routers never converged. Its size is raised under a lease, and put back by the last `down`.
 * A container or a user namespace may not change it; a small network does not need it.
 */
import { err, ok, type Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import { acquireLease, readSetting, releaseLease, type Settings } from "../../../shared/host/lease.ts";
import { leaseHolder } from "../../../shared/host/names.ts";
import type { Segment } from "../../../shared/records/index.ts";

const RESOURCE = "neigh";
/** The kernel's default gc_thresh3, for all namespaces of a machine together. */
export const NEIGHBOURS_USUAL = 1024;
const WANTED = { gc_thresh3: 262_144, gc_thresh2: 131_072, gc_thresh1: 65_536 };

export async function raiseNeighbourTable(host: string, experiment: string): Promise<Result<void, MtError>> {
  const settings: Settings = {};
  for (const [name, least] of Object.entries(WANTED)) {
    const path = `/proc/sys/net/ipv4/neigh/default/${name}`;
    const now = await readSetting(path);
    if (now.isErr()) return err(now.error);
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

/** How many neighbours a router has on a segment, on all hosts: its guests and the other routers. */
export function neighboursOn(segment: Segment): number {
  const all = (segment.members ?? []).reduce(
    (sum, m) => sum + (m.count ?? 0) + (m.router === undefined ? 0 : 1),
    0,
  );
  return Math.max(0, all - 1);
}
