/**
 * Units are placed together: a router with the guests of its LANs. Their order keeps neighbours in the graph near each
 * other, so that few links run between hosts.
 */
import type { Plan } from "../plan/plan.ts";

/** Numbers are indexes into `plan.routers` and `plan.guests`. */
export interface Unit {
  router?: number;
  guests: number[];
}

export function unitsOf(plan: Plan): Unit[] {
  const units: Unit[] = [];
  const bySegment = new Map<string, Unit>();
  for (const [router, { record }] of plan.routers.entries()) {
    const unit: Unit = { router, guests: [] };
    units.push(unit);
    for (const { segment } of record.interfaces) if (!bySegment.has(segment)) bySegment.set(segment, unit);
  }
  for (const [guest, { record }] of plan.guests.entries()) {
    const segment = record.interfaces[0]?.segment;
    let unit = segment === undefined ? undefined : bySegment.get(segment);
    if (!unit) {
      unit = { guests: [] };
      units.push(unit);
      if (segment !== undefined) bySegment.set(segment, unit);
    }
    unit.guests.push(guest);
  }
  return inOrder(plan, units);
}

/** Breadth first from the edge of each part of the graph. Segments are nodes too, so the cost is linear in ports. */
function inOrder(plan: Plan, units: Unit[]): Unit[] {
  const segmentsOf = units.map(({ router, guests }) => {
    const ports = guests.flatMap((g) => plan.guests[g]!.record.interfaces.map((i) => i.segment));
    return [
      ...new Set([
        ...(router === undefined ? [] : plan.routers[router]!.record.interfaces.map((i) => i.segment)),
        ...ports,
      ]),
    ];
  });
  const unitsOn = new Map<string, number[]>();
  for (const [u, segments] of segmentsOf.entries())
    for (const segment of segments) {
      const on = unitsOn.get(segment);
      if (on) on.push(u);
      else unitsOn.set(segment, [u]);
    }
  const walk = (from: number, seen: Set<number>): number[] => {
    const order = [from];
    const crossed = new Set<string>();
    seen.add(from);
    for (let i = 0; i < order.length; i++)
      for (const segment of segmentsOf[order[i]!]!) {
        if (crossed.has(segment)) continue;
        crossed.add(segment);
        for (const next of unitsOn.get(segment)!) {
          if (seen.has(next)) continue;
          seen.add(next);
          order.push(next);
        }
      }
    return order;
  };
  const placed = new Set<number>();
  const order: number[] = [];
  for (let u = 0; u < units.length; u++) {
    if (placed.has(u)) continue;
    // The last node of a first walk is at the edge of the graph, from where layers are narrow. Reversed, so that the
    // first router of the plan is on one of the first hosts.
    const edge = walk(u, new Set()).at(-1)!;
    for (const next of walk(edge, placed).reverse()) order.push(next);
  }
  return order.map((u) => units[u]!);
}
