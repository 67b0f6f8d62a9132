/** The graph that a GML file has. */
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../../shared/errors.ts";
import type { Graph, GraphLink } from "../../graph.ts";
import { Notes } from "../notes.ts";
import { edgeOf, nodeOf } from "./attributes.ts";
import { firstOf, type GmlList, type GmlValue, listsOf, valuesOf } from "./parse.ts";

/** The place of a node that is none: an editor's group. */
const GROUP = -1;

/**
 * The graph in a GML file. Links from a node to itself are left out; parallel links stay. In a directed graph that
 * is no multigraph, A → B and B → A are the two directions of one link, as slow as the slower one.
 */
export function graphOf(root: GmlList): Result<Graph, MtError> {
  const graphs = listsOf(root, "graph");
  if (graphs.length !== 1)
    return fail(
      "data",
      `Cannot import GML: it has ${
        graphs.length === 0
          ? "no graph"
          : `${graphs.length} graphs, at lines ${graphs
              .slice(0, 3)
              .map((g) => g.line)
              .join(", ")}${graphs.length > 3 ? " …" : ""}`
      }`,
      "one graph [ … ] is expected",
    );
  const list = graphs[0]!;
  const notes = new Notes();
  const graph: Graph = {
    label: textOf(firstOf(list, "label", "Network", "name")),
    nodes: [],
    links: [],
    notes: [],
  };
  const refuse = (line: number, why: string) => fail<Graph>("data", `Cannot import GML line ${line}: ${why}`);
  const places = new Map<string, number>();
  let groups = 0;
  for (const node of listsOf(list, "node")) {
    const [given, again] = valuesOf(node, "id");
    const id = keyOf(given?.value);
    if (given === undefined || id === undefined) return refuse(node.line, "a node without id");
    if (again)
      return refuse(again.line, `a node with two ids, ${short(id)} and ${short(keyOf(again.value))}`);
    if (places.has(id)) return refuse(node.line, `node ${short(id)} is there twice`);
    const known = nodeOf(node, id, notes);
    places.set(id, known ? graph.nodes.length : GROUP);
    if (known) graph.nodes.push(known);
    else groups++;
  }
  if (graph.nodes.length === 0)
    return fail(
      "data",
      `Cannot import GML: the graph has no node${groups > 0 ? ` but ${groups} groups of an editor` : ""}`,
    );
  let loops = 0;
  let slower = 0;
  let longer = 0;
  let toGroups = 0;
  const paired = truth(firstOf(list, "directed")) && !truth(firstOf(list, "multigraph"));
  /** Links that wait for their other direction, by the ends as that would name them. */
  const oneWay = new Map<string, GraphLink[]>();
  for (const edge of listsOf(list, "edge")) {
    const ends: number[] = [];
    for (const end of ["source", "target"]) {
      const [given, again] = valuesOf(edge, end);
      const id = keyOf(given?.value);
      if (given === undefined || id === undefined) return refuse(edge.line, `an edge without ${end}`);
      if (again)
        return refuse(again.line, `an edge with two ${end}s, ${short(id)} and ${short(keyOf(again.value))}`);
      const place = places.get(id);
      if (place === undefined) return refuse(given.line, `${end} ${short(id)} is no node`);
      ends.push(place);
    }
    const [a, b] = ends as [number, number];
    const known = edgeOf(edge, notes);
    const other = paired ? oneWay.get(`${a} ${b}`)?.shift() : undefined;
    if (a === GROUP || b === GROUP) toGroups++;
    else if (a === b) loops++;
    else if (other) {
      if (other.rate_mbit !== known.rate_mbit) slower++;
      if (other.delay_ms !== known.delay_ms) longer++;
      if ((known.rate_mbit ?? Infinity) < (other.rate_mbit ?? Infinity)) other.rate_mbit = known.rate_mbit;
      if ((known.delay_ms ?? -1) > (other.delay_ms ?? -1)) other.delay_ms = known.delay_ms;
      if ((known.loss ?? -1) > (other.loss ?? -1)) other.loss = known.loss;
    } else {
      const link = { a, b, ...known };
      graph.links.push(link);
      const back = `${b} ${a}`;
      if (paired)
        oneWay
          .set(back, oneWay.get(back) ?? [])
          .get(back)!
          .push(link);
    }
  }
  const tell = (n: number, one: string, many: string) =>
    n > 0 && graph.notes.push(`${n} ${n > 1 ? many : one}`);
  tell(
    slower,
    "link has another rate each way: the slower one is taken",
    "links have another rate each way: the slower one is taken",
  );
  tell(
    longer,
    "link has another delay each way: the longer one is taken",
    "links have another delay each way: the longer one is taken",
  );
  tell(loops, "link from a node to itself left out", "links from a node to itself left out");
  tell(
    groups,
    "group of an editor left out: it is no router",
    "groups of an editor left out: they are no routers",
  );
  tell(toGroups, "edge to a group left out", "edges to groups left out");
  graph.notes.push(...notes.lines());
  return ok(graph);
}

const textOf = (value: GmlValue | undefined) =>
  typeof value === "string" && value.trim() !== "" ? value.trim() : undefined;
/** What an id is compared by: 1, +1, 1.0 and "1" are one. */
const keyOf = (value: GmlValue | undefined) =>
  value === undefined || typeof value === "object" ? undefined : String(value);
const truth = (value: GmlValue | undefined) => typeof value !== "object" && Number(value) === 1;
const short = (id: string | undefined) => (id ?? "a list").slice(0, 40);
