/** The `sample` that mt-route ends with: how many routers this host has, how many converged, and their memory. */
import { residentKib } from "../../../shared/host/processes.ts";
import type { Router } from "../../../shared/records/index.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";

export interface Tally {
  /** Every router of this host that came, failed ones too. */
  routers: number;
  converged: number;
  seconds_max: number;
  pids: number[];
}

export const emptyTally = (): Tally => ({ routers: 0, converged: 0, seconds_max: 0, pids: [] });

/** The record of a converged router, counted. */
export function converged(tally: Tally, router: Router, seconds: number | undefined): Router {
  tally.converged++;
  tally.seconds_max = Math.max(tally.seconds_max, seconds ?? 0);
  return { ...router, state: "converged", ...(seconds === undefined ? {} : { converged_s: seconds }) };
}

export function emitSample(tally: Tally, experiment: string | undefined, context: FilterContext): void {
  if (tally.routers === 0) return;
  const { pids, ...counts } = tally;
  context.emit({
    kind: "sample",
    id: "route",
    host: context.host,
    time: new Date().toISOString(),
    experiment,
    ...counts,
    rss_mib: Math.round(pids.reduce((sum, pid) => sum + (residentKib(pid) ?? 0), 0) / 102.4) / 10,
  });
}
