/**
 * mt-topo gen: topologies by rule. A ring, or a near-square grid whose last row may be part of one.
 * Writes a whole plan: routers r0 to r(N-1), links between neighbours.
 */

import type { Invocation } from "../../../shared/cli/invocation.ts";
import { numberArg } from "../../../shared/cli/parse.ts";
import { MtFailure, mtError, orThrow } from "../../../shared/errors.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import { idArg } from "../args.ts";
import type { Graph, GraphLink } from "../graph.ts";
import { writePlan } from "../plan/plan.ts";
import { planOf } from "../plan/routed.ts";

const ROUTERS_MAX = 1_000_000;

export async function genCommand({ args }: Invocation): Promise<number> {
  const shape = args.shape as string;
  if (shape !== "ring" && shape !== "grid")
    throw new MtFailure(
      mtError(
        "usage",
        `Cannot generate ${JSON.stringify(shape.slice(0, 40))}: no such shape`,
        "ring or grid",
      ),
    );
  if (args.routers === undefined)
    throw new MtFailure(
      mtError(
        "usage",
        "Cannot generate a topology: --routers is missing",
        `mt-topo gen ${shape} --routers 10`,
      ),
    );
  const n = orThrow(numberArg(args, "routers", { min: 1, max: ROUTERS_MAX }));
  const id = orThrow(idArg(args)) ?? `${shape}-${n}`;
  const seed = args.seed === undefined ? 1 : orThrow(numberArg(args, "seed", { max: 4294967295 }));
  writePlan(orThrow(planOf(graphOfShape(shape, n), id, seed)), new LineWriter());
  return 0;
}

export function graphOfShape(shape: "ring" | "grid", n: number): Graph {
  const nodes = Array.from({ length: n }, (_, i) => ({ name: `r${i}` }));
  return { nodes, links: shape === "ring" ? ringLinks(n) : gridLinks(n), notes: [] };
}

function ringLinks(n: number): GraphLink[] {
  const links = Array.from({ length: n - 1 }, (_, i) => ({ a: i, b: i + 1 }));
  // Two routers have one link, not two.
  if (n > 2) links.push({ a: n - 1, b: 0 });
  return links;
}

/** Row by row; a router of the last row has one above it, so a partial row is connected. */
function gridLinks(n: number): GraphLink[] {
  const columns = Math.ceil(n / Math.floor(Math.sqrt(n)));
  const links: GraphLink[] = [];
  for (let i = 0; i < n; i++) {
    if ((i + 1) % columns !== 0 && i + 1 < n) links.push({ a: i, b: i + 1 });
    if (i + columns < n) links.push({ a: i, b: i + columns });
  }
  return links;
}
