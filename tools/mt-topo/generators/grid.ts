/** A near-square grid, filled row by row; its last row may be short. */
import type { GraphLink } from "../graph.ts";
import type { Generator } from "./generator.ts";

export const grid: Generator = {
  links(n) {
    const columns = Math.ceil(n / Math.floor(Math.sqrt(n)));
    const links: GraphLink[] = [];
    for (let i = 0; i < n; i++) {
      if ((i + 1) % columns !== 0 && i + 1 < n) links.push({ a: i, b: i + 1 });
      // Every router of a short last row has one above it, so the grid is connected.
      if (i + columns < n) links.push({ a: i, b: i + columns });
    }
    return links;
  },
};
