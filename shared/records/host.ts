/** `host`: a node of the cluster, as `mt-tree up` found or made it. */
import { type Static, Type } from "@sinclair/typebox";
import { count, failure, id, ip, open, state } from "./fields.ts";

export const hostSchema = Type.Object(
  {
    kind: Type.Literal("host"),
    id: id("the name that the host answers to (MT_HOST)"),
    addr: Type.Optional(ip("its address on the cluster's network, where tunnels end")),
    cores: count("processor cores that guests may use; 0: not known, it never joined"),
    mem_mib: count("memory that guests may use; 0: not known"),
    full: Type.Optional(
      Type.Boolean({
        description: "it had no room for guests of the plan: mt-topo place --overflow gives it no more",
      }),
    ),
    state: state(["up", "failed"], "what mt-tree last knew of it"),
    ...failure,
  },
  { ...open, description: "a node: address, cores, memory" },
);
export type Host = Static<typeof hostSchema>;
export const hostExamples: Host[] = [
  { kind: "host", id: "kn1", addr: "10.254.0.1", cores: 2, mem_mib: 6000 },
];
