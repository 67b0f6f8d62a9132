/**
 * What mt-route has seen of a plan on this host: the experiment, prefixes and delays of segments; and what keeps
 * all routers from being worked on: not root, a program is missing.
 */
import { formatCidr, networkOf, parseCidr } from "../../../shared/addresses.ts";
import { type MtError, mtError } from "../../../shared/errors.ts";
import { findProgram } from "../../../shared/host/process.ts";
import type { Experiment, Router, Segment } from "../../../shared/records/index.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";

export interface HostView {
  experiment: string | undefined;
  prefixes: Set<string>;
  /** Routers that have an interface in a prefix, as far as the segment says. */
  origins: Map<string, readonly string[]>;
  delays: Map<string, number | undefined>;
}

export function emptyView(): HostView {
  return { experiment: undefined, prefixes: new Set(), origins: new Map(), delays: new Map() };
}

/** The record handlers that fill a view. */
export function readInto(view: HostView) {
  return {
    experiment: (record: Experiment) => {
      view.experiment = record.id;
      return undefined;
    },
    segment: (record: Segment) => {
      view.delays.set(record.id, record.delay_ms);
      const prefix = record.prefix === undefined ? undefined : parseCidr(record.prefix);
      if (!prefix?.isOk()) return undefined;
      const network = formatCidr(networkOf(prefix.value));
      const routers = (record.members ?? []).flatMap((m) => m.router ?? []);
      view.prefixes.add(network);
      if (routers.length > 0) view.origins.set(network, routers);
      return undefined;
    },
  };
}

/** Why no router of this host can be worked on; undefined where they can. */
export function obstacle(programs: readonly string[]): MtError | undefined {
  if (process.getuid?.() !== 0)
    return mtError("permission", "Cannot work on routers: namespaces need root", "run it as root");
  for (const program of programs) {
    const found = findProgram(program);
    if (found.isErr()) return found.error;
  }
  return undefined;
}

/** The record as failed by an obstacle, which decides the exit code too. */
export function failAll(router: Router, error: MtError, context: FilterContext): Router {
  context.note(error);
  return context.failed(router, error);
}

export function noExperiment(router: Router): MtError {
  return mtError(
    "data",
    `Cannot work on router ${router.id}: no experiment record came before it`,
    "a plan begins with its experiment record",
  );
}
