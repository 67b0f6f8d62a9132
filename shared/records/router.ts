/** `router`: a virtual router in a namespace of its host. */
import { createHash } from "node:crypto";
import { type Static, Type } from "@sinclair/typebox";
import { cidr, count, failure, host, id, measure, open, positive, state, text } from "./fields.ts";

export const ROUTER_STATES = ["planned", "running", "converged", "stopped", "failed"] as const;

export const routerSchema = Type.Object(
  {
    kind: Type.Literal("router"),
    id: id("name of the router"),
    host,
    index: count("its number, once in an experiment: MACs and the router id come from it"),
    engine: Type.Literal("bird", { description: "the routing daemon" }),
    protocol: Type.Literal("ospf", { description: "the routing protocol" }),
    interfaces: Type.Array(
      Type.Object(
        {
          segment: id("the segment that the interface is on"),
          ip: cidr("its address"),
          peer: Type.Optional(id("the router at the other end of a link; absent on a LAN")),
          cost: Type.Optional(positive("OSPF cost")),
        },
        open,
      ),
      { description: "eth0, eth1, … in order" },
    ),
    reaches: Type.Optional(
      Type.Object(
        {
          prefixes: count("how many prefixes its table holds once routing has converged"),
          digest: text("sha256 of those prefixes, sorted as text, one a line"),
        },
        { description: "what converged means for this router, in constant size" },
      ),
    ),
    label: Type.Optional(text("what people call it")),
    latitude: Type.Optional(Type.Number({ minimum: -90, maximum: 90, description: "degrees north" })),
    longitude: Type.Optional(Type.Number({ minimum: -180, maximum: 180, description: "degrees east" })),
    state: state(ROUTER_STATES, "what was last true"),
    converged_s: Type.Optional(measure("seconds from the start of the router until its table was whole")),
    ...failure,
  },
  { ...open, description: "a virtual router: engine, protocol, interfaces, AS number" },
);
export type Router = Static<typeof routerSchema>;

/** The digest in `reaches`: mt-topo writes it from the plan, mt-route compares it with the table. */
export function prefixesDigest(prefixes: Iterable<string>): string {
  const text = [...prefixes].sort().join("\n");
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}

export const routerExamples: Router[] = [
  {
    kind: "router",
    id: "chi",
    host: "kn1",
    index: 1,
    engine: "bird",
    protocol: "ospf",
    interfaces: [
      { segment: "chi-nyc", ip: "10.255.0.2/31", peer: "nyc" },
      { segment: "lan-chi", ip: "10.1.0.1/16" },
    ],
    reaches: { prefixes: 3, digest: `sha256:${"5e".repeat(32)}` },
  },
];
