/**
 * The kernel's ARP table is one for all namespaces of a machine, 1,024 entries by default, and drops what
 * does not fit without a word: 400 routers never converged. It is raised under a lease, and put back by
 * the last `down`.
 */
import type { Result } from "neverthrow";
import type { MtError } from "../../shared/errors.ts";
import { acquireLease, readSetting, releaseLease, type Settings } from "../../shared/lease.ts";
import { leaseHolder } from "../../shared/names.ts";

const RESOURCE = "neigh";
const WANTED = { gc_thresh3: 262_144, gc_thresh2: 131_072, gc_thresh1: 65_536 };

export async function raiseNeighbourTable(host: string, experiment: string): Promise<Result<void, MtError>> {
  const settings: Settings = {};
  for (const [name, least] of Object.entries(WANTED)) {
    const path = `/proc/sys/net/ipv4/neigh/default/${name}`;
    const now = await readSetting(path);
    if (now.isErr()) return now.map(() => undefined);
    settings[path] = String(Math.max(least, Number(now.value)));
  }
  return acquireLease(RESOURCE, leaseHolder(host, experiment), settings);
}

export async function releaseNeighbourTable(
  host: string,
  experiment: string,
): Promise<Result<boolean, MtError>> {
  return releaseLease(RESOURCE, (holder) => holder === leaseHolder(host, experiment));
}
