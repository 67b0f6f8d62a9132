/** mt-route's commands, flags, kinds and examples. */
import { filterArgs, type ToolSpec } from "../../shared/cli/spec.ts";

export const spec = {
  name: "mt-route",
  summary: "runs virtual routers in their namespaces, says when routes have converged",
  description:
    "Every router of this host gets a BIRD of its own that speaks OSPF in the router's namespace, which\n" +
    "mt-vnet made. A router is converged when its kernel table holds every prefix that it can reach.",
  commands: {
    up: {
      summary: "start routers that do not run, reload those that changed, wait until every table is complete",
      args: {
        ...filterArgs,
        timeout: {
          type: "number",
          min: 1,
          max: 86_400,
          default: 120,
          valueHint: "SECONDS",
          description: "how long routes may take to converge, from the end record",
        },
      },
      stdin: "records",
      reads: ["experiment", "segment"],
      writes: ["router", "sample"],
    },
    down: {
      summary: "end the routers of the plan, or of an experiment without its plan",
      args: {
        ...filterArgs,
        experiment: {
          type: "id",
          valueHint: "ID",
          description: "end all routers of this experiment on this host; reads no stdin",
        },
      },
      stdin: "optional",
      reads: ["experiment"],
      writes: ["router"],
    },
    check: {
      summary: "write the present state of each router, without waiting; exit 1 where one is not converged",
      args: filterArgs,
      stdin: "records",
      reads: ["experiment", "segment"],
      writes: ["router", "sample"],
    },
  },
  examples: [
    { command: "mt-vnet up <abilene.plan | mt-route up >abilene.now", does: "start this host's routers" },
    { command: "mt-route check <abilene.plan >abilene.now", does: "see which routers are converged now" },
    { command: "mt-route down --experiment abilene", does: "end them without the plan" },
  ],
  exits: {
    1: "a router failed or has not converged; its record says why",
    69: "bird, birdc or nsenter is missing",
    77: "not root",
  },
  seeAlso: ["mt-vnet(1)", "mt-status(1)", "mt-records(5)", "megatux(7)", "bird(8)"],
} as const satisfies ToolSpec;
