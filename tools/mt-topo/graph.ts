/** A topology before it is a plan: nodes with what is known of them, and links between them. */

export interface GraphNode {
  /** The name that the router shall have; made a short and unique id later. */
  name: string;
  label?: string;
  latitude?: number;
  longitude?: number;
}
/** `a` and `b` are indexes into `nodes`. */
export interface GraphLink {
  a: number;
  b: number;
  rate_mbit?: number;
  /** One-way delay, where the file has it; else computed from the distance. */
  delay_ms?: number;
  loss?: number;
}
export interface Graph {
  label?: string;
  nodes: GraphNode[];
  links: GraphLink[];
  /** Messages to the user about what was left out. */
  notes: string[];
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
