/** A graph as the records of a plan: a router a node, a point-to-point segment a link, addresses in order. */
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import { type Router, SCHEMA_VERSION, type Segment } from "../../../shared/records/index.ts";
import { delayBetween, type Graph } from "../graph.ts";
import { linkName, slug, UniqueNames } from "./names.ts";
import { emptyPlan, type Plan } from "./plan.ts";
import { LINK_PREFIX_COUNT_MAX, linkIps } from "./prefixes.ts";

export interface Routed {
  routers: Router[];
  segments: Segment[];
}

export function routedFrom(graph: Graph): Result<Routed, MtError> {
  if (graph.links.length > LINK_PREFIX_COUNT_MAX)
    return fail(
      "data",
      `Cannot number ${graph.links.length} links: there are ${LINK_PREFIX_COUNT_MAX} /31 prefixes for them`,
    );
  const routerNames = new UniqueNames();
  const routers = graph.nodes.map((node, index): Router => {
    const { label, latitude, longitude } = node;
    const id = routerNames.take(slug(node.name) || `n${index}`);
    const known = {
      ...(label === undefined ? {} : { label }),
      ...(latitude === undefined ? {} : { latitude, longitude }),
    };
    return { kind: "router", id, index, engine: "bird", protocol: "ospf", interfaces: [], ...known };
  });
  const segmentNames = new UniqueNames();
  const segments = graph.links.map(({ a, b, rate_mbit, delay_ms: told_ms, loss }, k): Segment => {
    const [from, to] = [routers[a]!, routers[b]!];
    const id = segmentNames.take(linkName(from.id, to.id));
    const { prefix, ips } = linkIps(k);
    from.interfaces.push({ segment: id, ip: ips[0], peer: to.id });
    to.interfaces.push({ segment: id, ip: ips[1], peer: from.id });
    const delay_ms = told_ms ?? delayBetween(graph.nodes[a]!, graph.nodes[b]!);
    return {
      kind: "segment",
      id,
      vni: k + 1,
      prefix,
      ...(delay_ms === undefined ? {} : { delay_ms }),
      ...(rate_mbit === undefined ? {} : { rate_mbit }),
      ...(loss === undefined ? {} : { loss }),
    };
  });
  return ok({ routers, segments });
}

/** The same with its header: a plan without guests. */
export function planOf(graph: Graph, id: string, seed: number): Result<Plan, MtError> {
  return routedFrom(graph).map(({ routers, segments }) => ({
    ...emptyPlan(),
    experiment: { record: { kind: "experiment", id, version: SCHEMA_VERSION, seed } },
    segments: segments.map((record) => ({ record })),
    routers: routers.map((record) => ({ record })),
  }));
}
