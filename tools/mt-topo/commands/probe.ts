/**
 * mt-topo probe: the plan of a small network over every host, for `mt-vnet prove`: two routers a host with a link
 * between them, and a link from each host to the next, in a ring. So every host exchanges frames with two others,
 * however many there are. Writes a whole, placed plan.
 */

import type { Result } from "neverthrow";
import type { Run } from "../../../shared/cli/invocation.ts";
import { type MtError, orThrow } from "../../../shared/errors.ts";
import type { Host } from "../../../shared/records/index.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import type { Graph } from "../graph.ts";
import { readHosts } from "../place/hosts.ts";
import { type Plan, writePlan } from "../plan/plan.ts";
import { planOf } from "../plan/routed.ts";
import type { spec } from "../spec.ts";
import { placePlan } from "./place.ts";

export const probe: Run<typeof spec, "probe"> = async ({ args, signal }) => {
  const { usable } = orThrow(await readHosts(args.hosts, [], new Map(), signal));
  writePlan(orThrow(probePlan(usable, args.id)), new LineWriter());
  return 0;
};

export function probePlan(hosts: readonly Host[], id: string): Result<Plan, MtError> {
  const n = hosts.length;
  const nodes = hosts.flatMap((_, k) => [{ name: `p${k}a` }, { name: `p${k}b` }]);
  const inside = hosts.map((_, k) => ({ a: 2 * k, b: 2 * k + 1 }));
  // Two hosts have one link between them, not two.
  const between = hosts
    .slice(0, n > 2 ? n : n - 1)
    .map((_, k) => ({ a: 2 * k + 1, b: (2 * k + 2) % (2 * n) }));
  const graph: Graph = { nodes, links: [...inside, ...between], notes: [] };
  return planOf(graph, id, 1).andThen((plan) => {
    for (const [r, entry] of plan.routers.entries())
      entry.record = { ...entry.record, host: hosts[Math.floor(r / 2)]!.id };
    return placePlan(plan, hosts).map(() => plan);
  });
}
