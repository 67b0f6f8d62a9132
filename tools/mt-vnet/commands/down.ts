/**
 * mt-vnet down: when `end` has come, removes what the plan names on this host; with --experiment, all
 * that has the experiment's name on it. Then gives back the lease on the ARP table. A link of somebody else that
 * has one of our names stays, and what it stands in the way of is failed.
 */
import { type FilterCall, hostOf, runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { complain } from "../../../shared/cli/start.ts";
import { EXIT, exitCodeOf, type MtError, mtError, orThrow } from "../../../shared/errors.ts";
import {
  bridgeName,
  routerNamespace,
  routerNamespacePrefix,
  routerPortName,
  tapName,
  vxlanName,
} from "../../../shared/host/names.ts";
import { members, parseRange } from "../../../shared/nodeset/ranges.ts";
import type { Guest, Router } from "../../../shared/records/index.ts";
import { foldOutcomes, type Outcome } from "../../../shared/records/members.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";
import { noRecords } from "../../../shared/stream/stdin.ts";
import { isHere } from "../fabric/segment-plan.ts";
import { isOf, namespaces, notOurs, readLinks, whatIsMissing } from "../kernel/kernel.ts";
import { releaseNeighbourTable } from "../kernel/neighbours.ts";
import { remove } from "../kernel/remove.ts";
import type { spec } from "../spec.ts";

export const down: Run<typeof spec, "down"> = async (invocation) => {
  const { experiment } = invocation.args;
  if (experiment !== undefined) return downExperiment(invocation, experiment);
  const none = noRecords("pipe a plan in, or name an experiment with --experiment");
  if (none) return complain(invocation.tool, none);
  return downPlan(invocation);
};

async function downPlan(invocation: FilterCall): Promise<number> {
  const host = hostOf(invocation);
  const missing = whatIsMissing();
  const segments: string[] = [];
  const links = new Set<string>();
  const bridges = new Set<string>();
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
    const there = orThrow(await readLinks());
    // Of a guest that was moved to another host since, the port is still here; it goes with its bridge.
    for (const link of there.values())
      if (link.master !== undefined && bridges.has(link.master) && isOf(name(), link)) links.add(link.ifname);
    const present = new Set(namespaces(routerNamespacePrefix(host, name())));
    const strangers = new Map<string, MtError>();
    for (const link of there.values()) {
      const error = links.has(link.ifname) ? notOurs(link, name()) : undefined;
      if (error) strangers.set(link.ifname, error);
    }
    for (const stranger of strangers.keys()) links.delete(stranger);
    const removed = await remove({ links, namespaces: [...routers].filter((r) => present.has(r)) }, there);
    left = new Map([...removed, ...strangers]);
    const released = await releaseNeighbourTable(host, name());
    if (released.isErr()) context.note(released.error);
    for (const id of segments) {
      const error = left.get(vxlanName(name(), id)) ?? left.get(bridgeName(name(), id));
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
        bridges.add(bridgeName(name(), s.id));
        links.add(bridgeName(name(), s.id)).add(vxlanName(name(), s.id));
      },
    },
    owns: {
      router: (r, context) => {
        const netns = routerNamespace(host, name(), r.id);
        const ports = r.interfaces.map((_, n) => routerPortName(name(), r.id, n));
        routers.add(netns);
        for (const port of ports) links.add(port);
        return context.atEnd(() => routerOutcome(r, [netns, ...ports], context));
      },
      guest: (g, context) => {
        const range = parseRange(g.id);
        if (range.isErr()) return context.failed(g, range.error);
        const taps = [...members(range.value)].map((id) =>
          g.interfaces.map((_, n) => tapName(name(), id, n)),
        );
        for (const names of taps) for (const tap of names) links.add(tap);
        return context.atEnd(() => guestOutcome(g, taps, context));
      },
    },
    onEnd: takeDown,
  });

  function routerOutcome(router: Router, names: string[], context: FilterContext) {
    const error = missing ?? names.map((n) => left.get(n)).find((e) => e);
    return error ? context.failed(router, error) : undefined;
  }

  function guestOutcome(guest: Guest, taps: string[][], context: FilterContext) {
    if (missing) return context.failed(guest, missing);
    const errors = taps.map((names) => names.map((n) => left.get(n)).find((e) => e));
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

async function downExperiment(invocation: FilterCall, experiment: string): Promise<number> {
  const missing = whatIsMissing();
  if (missing) return complain(invocation.tool, missing);
  const host = hostOf(invocation);
  const there = orThrow(await readLinks());
  const mine = [...there.values()].filter((l) => isOf(experiment, l)).map((l) => l.ifname);
  const left = await remove(
    { links: new Set(mine), namespaces: namespaces(routerNamespacePrefix(host, experiment)) },
    there,
  );
  for (const error of left.values()) complain(invocation.tool, error);
  const released = await releaseNeighbourTable(host, experiment);
  if (released.isErr()) return complain(invocation.tool, released.error);
  return left.size > 0 ? exitCodeOf("failed") : EXIT.ok;
}
