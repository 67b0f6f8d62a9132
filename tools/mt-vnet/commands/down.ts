/**
 * mt-vnet down: when `end` has come, removes what the plan names on this host; with --experiment, all links and
 * namespaces of the experiment. Then gives back the lease on the ARP table. A link that mt-vnet did not make stays,
 * also where it has one of our names: the record that needs this name fails.
 */
import { type FilterCall, hostOf, runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { complain } from "../../../shared/cli/start.ts";
import { EXIT, exitCodeOf, type MtError, mtError, orThrow } from "../../../shared/errors.ts";
import { routerNamespace, routerPortName, tapName } from "../../../shared/host/names.ts";
import { members, parseRange } from "../../../shared/nodeset/ranges.ts";
import type { Guest, Router } from "../../../shared/records/index.ts";
import { foldOutcomes, type Outcome } from "../../../shared/records/members.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";
import { noRecords } from "../../../shared/stream/stdin.ts";
import type { Fabric } from "../fabric/fabric.ts";
import { fabricHere } from "../fabric/fabrics.ts";
import { isHere } from "../fabric/plan-here.ts";
import { releaseNeighbourTable } from "../kernel/neighbours.ts";
import type { spec } from "../spec.ts";

export const down: Run<typeof spec, "down"> = async (invocation) => {
  const fabric = await fabricHere();
  const { experiment } = invocation.args;
  if (experiment !== undefined) return downExperiment(invocation, fabric, experiment);
  const none = noRecords("pipe a plan in, or name an experiment with --experiment");
  if (none) return complain(invocation.tool, none);
  return downPlan(invocation, fabric);
};

async function downPlan(invocation: FilterCall, fabric: Fabric): Promise<number> {
  const host = hostOf(invocation);
  const missing = fabric.missing();
  const segments: string[] = [];
  const ports = new Set<string>();
  const routers = new Set<string>();
  let left = new Map<string, MtError>();
  let experiment: string | undefined;
  const name = () => experiment ?? "";
  const takeDown = async (context: FilterContext) => {
    const error =
      missing ??
      (experiment === undefined
        ? mtError("data", "Cannot take the network down: no experiment record came")
        : undefined);
    if (error) return context.note(error);
    left = await fabric.remove(name(), segments, ports, routers);
    const released = await releaseNeighbourTable(host, name());
    if (released.isErr()) context.note(released.error);
    for (const id of segments) {
      const error = reasonOf(fabric.segmentLinks(name(), id));
      context.emit({
        kind: "switch",
        id,
        host,
        state: error ? "failed" : "down",
        ...(error ? { error: { by: context.by, ...error } } : {}),
      });
    }
  };
  return runFilterCommand(invocation, {
    changes: true,
    reads: {
      experiment: (e) => {
        experiment = e.id;
      },
      segment: (s) => {
        if (!isHere(s, host)) return;
        segments.push(s.id);
      },
    },
    owns: {
      router: (r, context) => {
        const netns = routerNamespace(host, name(), r.id);
        const its = r.interfaces.map((_, n) => routerPortName(name(), r.id, n));
        routers.add(netns);
        for (const port of its) ports.add(port);
        return context.atEnd(() => routerOutcome(r, [netns, ...its], context));
      },
      guest: (g, context) => {
        const range = parseRange(g.id);
        if (range.isErr()) return context.failed(g, range.error);
        const taps = [...members(range.value)].map((id) =>
          g.interfaces.map((_, n) => tapName(name(), id, n)),
        );
        for (const names of taps) for (const tap of names) ports.add(tap);
        return context.atEnd(() => guestOutcome(g, taps, context));
      },
    },
    onEnd: takeDown,
  });

  /** Why one of these links or namespaces is still there; undefined where none is. */
  function reasonOf(names: readonly string[]): MtError | undefined {
    return names.map((n) => left.get(n)).find((e) => e);
  }

  function routerOutcome(router: Router, names: string[], context: FilterContext) {
    const error = missing ?? reasonOf(names);
    return error ? context.failed(router, error) : undefined;
  }

  function guestOutcome(guest: Guest, taps: string[][], context: FilterContext) {
    if (missing) return context.failed(guest, missing);
    const errors = taps.map(reasonOf);
    if (errors.every((e) => !e)) return undefined;
    const outcomes = errors.map(
      (e): Outcome =>
        e
          ? context.failed({ state: guest.state, error: guest.error }, e)
          : { state: guest.state, error: guest.error },
    );
    return orThrow(foldOutcomes(guest, outcomes));
  }
}

async function downExperiment(invocation: FilterCall, fabric: Fabric, experiment: string): Promise<number> {
  const missing = fabric.missing();
  if (missing) return complain(invocation.tool, missing);
  const host = hostOf(invocation);
  const left = await fabric.removeAll(experiment, host);
  for (const error of left.values()) complain(invocation.tool, error);
  const released = await releaseNeighbourTable(host, experiment);
  if (released.isErr()) return complain(invocation.tool, released.error);
  return left.size > 0 ? exitCodeOf("failed") : EXIT.ok;
}
