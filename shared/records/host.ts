/** `host`: a node of the cluster, as `mt-tree up` found or made it. */
import { type Static, Type } from "@sinclair/typebox";
import { count, failure, hostId, ip, measure, open, state, text, time } from "./fields.ts";

export const hostSchema = Type.Object(
  {
    kind: Type.Literal("host"),
    id: hostId("the name that the host answers to (MT_HOST)"),
    addr: Type.Optional(ip("its address on the cluster's network, where tunnels end")),
    cores: count("processor cores that guests may use; 0: not known, it never joined"),
    mem_mib: count("memory that guests may use; 0: not known"),
    mtu: Type.Optional(
      Type.Integer({
        minimum: 68,
        maximum: 4294967295,
        description: "MTU of the interface that has its address, as its agent measures it; absent: not known",
      }),
    ),
    frames: Type.Optional(
      text(
        "how large packets get from it to its neighbours in tunnels, as mt-vnet prove tried it, or `lost`",
      ),
    ),
    full: Type.Optional(
      Type.Boolean({
        description: "it had no room for guests of the plan: mt-topo place --overflow gives it no more",
      }),
    ),
    state: state(["up", "failed"], "what mt-tree last knew of it"),
    parent: Type.Optional(text("the node above it in the tree; the head is no host")),
    depth: Type.Optional(count("links between it and the head")),
    since: Type.Optional(time("since when it is there, or missing")),
    rtt_ms: Type.Optional(measure("last round trip to its parent")),
    release: Type.Optional(text("the release of its agent")),
    load: Type.Optional(measure("load over a minute")),
    mem_available_mib: Type.Optional(measure("memory that can be had without swapping")),
    agent_rss_mib: Type.Optional(measure("memory that its agent has resident")),
    ...failure,
  },
  { ...open, description: "a node: address, cores, memory" },
);
export type Host = Static<typeof hostSchema>;
export const hostExamples: Host[] = [
  { kind: "host", id: "kn1", addr: "10.254.0.1", cores: 2, mem_mib: 6000, mtu: 1500 },
  {
    kind: "host",
    id: "kn17",
    addr: "10.254.0.17",
    cores: 2,
    mem_mib: 6000,
    mtu: 1500,
    state: "up",
    parent: "kn1",
    depth: 2,
    since: "2026-11-22T17:00:00.000Z",
    rtt_ms: 0.41,
    release: "0.1.0",
    load: 0.2,
    mem_available_mib: 5210,
    agent_rss_mib: 46,
  },
];
