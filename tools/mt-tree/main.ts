/**
 * mt-tree: joins hosts into a tree and runs things on them.
 * Reads and writes any records (map); writes host and exit records.
 */
import { start } from "../../shared/cli/start.ts";
import { spec } from "./spec.ts";

await start(spec, {
  up: async () => (await import("./commands/up.ts")).up,
  down: async () => (await import("./commands/down.ts")).down,
  map: async () => (await import("./map/map.ts")).map,
  exec: async () => (await import("./commands/exec.ts")).exec,
  nodes: async () => (await import("./commands/nodes.ts")).nodes,
  status: async () => (await import("./commands/status.ts")).status,
  enrol: async () => (await import("./via/slurm/enrol.ts")).enrol,
  "hand-on": async () => (await import("./via/ssh/hand-on.ts")).handOn,
  agent: async () => (await import("./node/agent.ts")).agent,
});
