/** mt-vnet: its commands, flags, kinds and examples. */
import { filterArgs, type ToolSpec } from "../../shared/cli/spec.ts";

export const spec = {
  name: "mt-vnet",
  summary: "build switches, tunnels and every port of guests and routers on this host",
  description:
    "Makes the segments of a plan true on this host, in the network namespace that it runs in: a bridge a " +
    "segment, a VXLAN tunnel where the segment has members on other hosts, a tap for every interface of a " +
    "guest, a namespace with its interfaces for every router. What is there already and right is left alone.",
  commands: {
    up: {
      summary: "make what the plan names: a filter, acts on every record as it comes",
      args: filterArgs,
      stdin: "records",
      reads: ["experiment", "segment"],
      writes: ["router", "guest", "switch"],
    },
    down: {
      summary: "remove what the plan names when end has come, or all of one experiment",
      args: {
        ...filterArgs,
        experiment: {
          type: "id",
          valueHint: "ID",
          description: "remove all that this experiment has here; reads no plan",
        },
      },
      stdin: "optional",
      reads: ["experiment", "segment"],
      writes: ["router", "guest", "switch"],
    },
    prove: {
      summary:
        "test the links between routers with real frames, small and as large as the MTU; exit 1 where some get lost",
      args: {
        ...filterArgs,
        timeout: {
          type: "number",
          min: 1,
          max: 3600,
          default: 10,
          valueHint: "SECONDS",
          description: "how long the first answer over a link may take",
        },
      },
      stdin: "records",
      reads: ["experiment", "segment"],
      writes: ["router", "host"],
    },
    ls: {
      summary: "print what the kernel has now: one switch record a segment",
      args: {
        host: filterArgs.host,
        experiment: { type: "id", valueHint: "ID", description: "only this experiment's segments" },
        human: { type: "boolean", tristate: true, description: "print a table (the default on a terminal)" },
      },
      stdin: "none",
      reads: [],
      writes: ["switch"],
    },
  },
  examples: [
    {
      command: "mt-vnet up <abilene.plan | mt-boot up",
      does: "build this host's part of the network, then boot its guests",
    },
    { command: "mt-tree map -- mt-vnet up <abilene.plan", does: "the same on every host of the cluster" },
    {
      command: "mt-tree map -- mt-vnet prove <abilene.plan >proven",
      does: "test every link of an experiment that is up",
    },
    { command: "mt-vnet ls --human", does: "show the segments on this host" },
    {
      command: "mt-vnet down --experiment abilene",
      does: "remove all that an experiment has here, without its plan",
    },
  ],
  exits: { 69: "iproute2, util-linux, ping (prove) or /dev/net/tun is missing", 77: "not root" },
  seeAlso: [
    "mt-topo(1)",
    "mt-boot(1)",
    "mt-route(1)",
    "mt-tree(1)",
    "mt-records(5)",
    "ip-link(8)",
    "bridge(8)",
    "tc(8)",
  ],
} as const satisfies ToolSpec;
