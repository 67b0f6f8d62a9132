/** A topology before it is a plan: nodes with what is known of them, and links between them. */
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../shared/errors.ts";
import { firstOf, type GmlList, type GmlValue, listsOf } from "./gml.ts";

export interface GraphNode {
  /** The id that is wanted for the router; made unique and short later. */
  name: string;
  label?: string;
  latitude?: number;
  longitude?: number;
}
/** `a` and `b` are places in `nodes`. */
export interface GraphLink {
  a: number;
  b: number;
  rate_mbit?: number;
}
export interface Graph {
  label?: string;
  nodes: GraphNode[];
  links: GraphLink[];
  /** What was left out, for people. */
  notes: string[];
}

/**
 * The graph in a GML file. Links from a node to itself are left out; parallel links stay. In a directed graph that
 * is no multigraph, A → B and B → A are the two directions of one link, as slow as the slower one.
 */
export function graphOf(root: GmlList): Result<Graph, MtError> {
  const graphs = listsOf(root, "graph");
  if (graphs.length !== 1)
    return fail(
      "data",
      `Cannot import GML: it has ${graphs.length === 0 ? "no graph" : `${graphs.length} graphs`}`,
      "one graph [ … ] is expected",
    );
  const list = graphs[0]!;
  const graph: Graph = {
    label: textOf(firstOf(list, "label", "Network", "name")),
    nodes: [],
    links: [],
    notes: [],
  };
  const places = new Map<string, number>();
  for (const node of listsOf(list, "node")) {
    const id = keyOf(firstOf(node, "id"));
    if (id === undefined) return fail("data", `Cannot import GML line ${node.line}: a node without id`);
    if (places.has(id))
      return fail("data", `Cannot import GML line ${node.line}: node ${id.slice(0, 40)} is there twice`);
    places.set(id, graph.nodes.length);
    graph.nodes.push(nodeOf(node, id));
  }
  if (graph.nodes.length === 0) return fail("data", "Cannot import GML: the graph has no node");
  let loops = 0;
  let uneven = 0;
  const paired = numberOf(firstOf(list, "directed")) === 1 && numberOf(firstOf(list, "multigraph")) !== 1;
  /** Links that wait for their other direction, by the ends as that would name them. */
  const oneWay = new Map<string, GraphLink[]>();
  for (const edge of listsOf(list, "edge")) {
    const ends: number[] = [];
    for (const end of ["source", "target"]) {
      const id = keyOf(firstOf(edge, end));
      if (id === undefined)
        return fail("data", `Cannot import GML line ${edge.line}: an edge without ${end}`);
      const place = places.get(id);
      if (place === undefined)
        return fail("data", `Cannot import GML line ${edge.line}: ${end} ${id.slice(0, 40)} is no node`);
      ends.push(place);
    }
    const [a, b] = ends as [number, number];
    const rate_mbit = rateOf(edge);
    const other = paired ? oneWay.get(`${a} ${b}`)?.shift() : undefined;
    if (a === b) loops++;
    else if (other) {
      if (other.rate_mbit !== rate_mbit) uneven++;
      if ((rate_mbit ?? Infinity) < (other.rate_mbit ?? Infinity)) other.rate_mbit = rate_mbit;
    } else {
      const link = { a, b, rate_mbit };
      graph.links.push(link);
      const back = `${b} ${a}`;
      if (paired)
        oneWay
          .set(back, oneWay.get(back) ?? [])
          .get(back)!
          .push(link);
    }
  }
  if (uneven > 0)
    graph.notes.push(
      `${uneven} link${uneven > 1 ? "s have" : " has"} another rate each way: the slower one is taken`,
    );
  if (loops > 0) graph.notes.push(`${loops} link${loops > 1 ? "s" : ""} from a node to itself left out`);
  return ok(graph);
}

const textOf = (value: GmlValue | undefined) =>
  typeof value === "string" && value.trim() !== "" ? value.trim() : undefined;
const keyOf = (value: GmlValue | undefined) =>
  typeof value === "number" || typeof value === "string" ? String(value) : undefined;

function nodeOf(list: GmlList, id: string): GraphNode {
  const given = firstOf(list, "label", "name");
  const label = textOf(typeof given === "number" ? String(given) : given);
  const node: GraphNode = { name: label ?? `n${id}`, label };
  const latitude = numberOf(firstOf(list, "Latitude", "lat"));
  const longitude = numberOf(firstOf(list, "Longitude", "lon"));
  if (
    latitude === undefined ||
    longitude === undefined ||
    Math.abs(latitude) > 90 ||
    Math.abs(longitude) > 180
  )
    return node;
  return { ...node, latitude, longitude };
}

function numberOf(value: GmlValue | undefined): number | undefined {
  if (typeof value === "object" || value === undefined || value === "") return undefined;
  const n = Number(value);
  return Number.isFinite(n) ? n : undefined;
}

/** `bandwidth` and the Topology Zoo's `LinkSpeedRaw` are in bit/s. */
function rateOf(edge: GmlList): number | undefined {
  const bits = numberOf(firstOf(edge, "bandwidth")) ?? numberOf(firstOf(edge, "LinkSpeedRaw"));
  return bits !== undefined && bits > 0 ? bits / 1e6 : undefined;
}

const LIGHT_IN_FIBRE_KM_PER_MS = (299_792.458 / 1000) * (2 / 3);
const EARTH_RADIUS_KM = 6371.0088;

/** One-way delay in ms over the great circle at two thirds of the speed of light, to 0.01 ms. */
export function delayBetween(a: GraphNode, b: GraphNode): number | undefined {
  if (
    a.latitude === undefined ||
    a.longitude === undefined ||
    b.latitude === undefined ||
    b.longitude === undefined
  )
    return undefined;
  const radians = (degrees: number) => (degrees * Math.PI) / 180;
  const dLat = radians(b.latitude - a.latitude) / 2;
  const dLon = radians(b.longitude - a.longitude) / 2;
  const h =
    Math.sin(dLat) ** 2 + Math.cos(radians(a.latitude)) * Math.cos(radians(b.latitude)) * Math.sin(dLon) ** 2;
  const km = 2 * EARTH_RADIUS_KM * Math.asin(Math.min(1, Math.sqrt(h)));
  return Math.round((km / LIGHT_IN_FIBRE_KM_PER_MS) * 100) / 100;
}
