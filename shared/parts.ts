/**
 * The parts of a network: routers that reach each other over segments. Routing converges part by part, and no ping
 * gets from one part to another.
 */

interface OnSegments {
  interfaces: readonly { segment: string }[];
}

export interface Part {
  /** Indexes in the given list, the lowest first. */
  routers: number[];
  segments: Set<string>;
}

/** The parts, in the order of their first routers. A router without interfaces is a part of its own. */
export function partsOf(routers: readonly OnSegments[]): Part[] {
  const routersOn = new Map<string, number[]>();
  for (const [r, { interfaces }] of routers.entries())
    for (const { segment } of interfaces) {
      const on = routersOn.get(segment);
      if (on) on.push(r);
      else routersOn.set(segment, [r]);
    }
  const parts: Part[] = [];
  const seen = new Set<number>();
  for (let first = 0; first < routers.length; first++) {
    if (seen.has(first)) continue;
    seen.add(first);
    const part: Part = { routers: [first], segments: new Set() };
    for (let i = 0; i < part.routers.length; i++)
      for (const { segment } of routers[part.routers[i]!]!.interfaces) {
        if (part.segments.has(segment)) continue;
        part.segments.add(segment);
        for (const next of routersOn.get(segment)!) {
          if (seen.has(next)) continue;
          seen.add(next);
          part.routers.push(next);
        }
      }
    parts.push(part);
  }
  return parts;
}
