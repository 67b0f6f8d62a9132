/** GML, as networkx, igraph, yEd, Gephi and the Topology Zoo write it. */
import { slug } from "../../plan/names.ts";
import { planOf } from "../../plan/routed.ts";
import type { Format } from "../format.ts";
import { graphOf } from "./graph.ts";
import { parseGml } from "./parse.ts";

const fromGml = (text: string) => parseGml(text).andThen(graphOf);

export const gml: Format = {
  title: "GML",
  endings: [".gml"],
  // A million nodes take 150 MB, and 57 times that in memory.
  bytes_max: 5 * 2 ** 25,
  begins: (start) => !/^[\s\uFEFF]*[{[]/.test(start),
  async read({ text, id, seed, fallback }, note) {
    return fromGml(text).andThen((graph) => {
      for (const line of graph.notes) note(line);
      return planOf(graph, id ?? (slug(graph.label ?? "") || fallback), seed ?? 1);
    });
  },
  fits: (text) => fromGml(text).isOk(),
  instead: (text, guess) =>
    guess ??
    (/\bgraph\s*\[/i.test(text)
      ? undefined
      : {
          what: "no GML: it has no graph [ … ]",
          hint: "GML, or a plan as JSON lines: --format native",
        }),
};
