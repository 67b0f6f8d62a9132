/**
 * mt-topo gen: topologies by rule (generators/generators.ts). Writes a whole plan: routers r0 to r(N-1), and the
 * links between them.
 */
import type { Run } from "../../../shared/cli/invocation.ts";
import { orThrow } from "../../../shared/errors.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import type { Generator } from "../generators/generator.ts";
import { generatorNamed } from "../generators/generators.ts";
import type { Graph } from "../graph.ts";
import { writePlan } from "../plan/plan.ts";
import { planOf } from "../plan/routed.ts";
import type { spec } from "../spec.ts";

export const gen: Run<typeof spec, "gen"> = async ({ args }) => {
  const { shape, routers, id = `${shape}-${routers}`, seed = 1 } = args;
  writePlan(orThrow(planOf(generate(await generatorNamed(shape), routers), id, seed)), new LineWriter());
  return 0;
};

/** A topology of routers r0 to r(n-1). */
export const generate = ({ links }: Generator, n: number): Graph => ({
  nodes: Array.from({ length: n }, (_, i) => ({ name: `r${i}` })),
  links: links(n),
  notes: [],
});
