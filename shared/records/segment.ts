/** `segment`: a layer-2 network, a LAN or one link between two routers. */
import { type Static, Type } from "@sinclair/typebox";
import { cidr, count, hostId, hosts, id, ip, measure, open, positive, segmentMtu } from "./fields.ts";

export const memberSchema = Type.Object(
  {
    host: hostId("a host that has ports of the segment"),
    underlay: Type.Optional(
      ip("that host's address, where its tunnel ends; absent where the segment has one host"),
    ),
    router: Type.Optional(id("the router whose port stands on that host")),
    index: Type.Optional(count("index of the first guest there")),
    count: Type.Optional(positive("how many guests there, indexes in a row")),
  },
  { ...open, description: "who is where: one entry a router or run of guests" },
);
export type Member = Static<typeof memberSchema>;

/** What a segment carries unless it is told otherwise, and a host's underlay where nobody has measured it. */
export const MTU_USUAL = 1500;
/** What a tunnel over IPv4 adds to a packet: the inner Ethernet header, VXLAN, UDP and IPv4. */
export const TUNNEL_OVERHEAD = 50;

/** Ports that a segment can have on one host, its tunnel being one: the kernel's BR_MAX_PORTS, less the one that it keeps. */
export const BRIDGE_PORTS_MAX = 1023;

export const segmentSchema = Type.Object(
  {
    kind: Type.Literal("segment"),
    id: id("name of the segment"),
    hosts,
    vni: Type.Integer({
      minimum: 1,
      maximum: 16777215,
      description: "VXLAN network identifier, once in an experiment",
    }),
    prefix: Type.Optional(cidr("its IPv4 network")),
    mtu: Type.Optional(
      segmentMtu(
        "largest IP packet, the same for everything on it; mt-topo place computes it where it is absent",
      ),
    ),
    delay_ms: Type.Optional(measure("one-way delay")),
    rate_mbit: Type.Optional(
      Type.Number({ exclusiveMinimum: 0, description: "rate limit of every port, in Mbit/s" }),
    ),
    loss: Type.Optional(Type.Number({ minimum: 0, maximum: 1, description: "share of frames lost" })),
    members: Type.Optional(Type.Array(memberSchema, { description: "who has ports on it, and where" })),
  },
  {
    ...open,
    description:
      "a layer-2 network, a LAN or one link between routers: prefix, tunnel id, members, delay, loss, rate",
  },
);
export type Segment = Static<typeof segmentSchema>;
export const segmentExamples: Segment[] = [
  {
    kind: "segment",
    id: "chi-nyc",
    hosts: ["kn1", "kn2"],
    vni: 3,
    prefix: "10.255.0.2/31",
    mtu: 1450,
    delay_ms: 5.7,
    members: [
      { host: "kn1", underlay: "10.254.0.1", router: "chi" },
      { host: "kn2", underlay: "10.254.0.2", router: "nyc" },
    ],
  },
  {
    kind: "segment",
    id: "lan-chi",
    hosts: ["kn1"],
    vni: 15,
    prefix: "10.1.0.0/16",
    mtu: 1500,
    members: [{ host: "kn1", underlay: "10.254.0.1", router: "chi", index: 0, count: 4 }],
  },
];
