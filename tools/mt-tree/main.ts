/**
 * mt-tree: joins hosts into a tree and runs things on them.
 * Reads and writes any records (map); writes host and exit records.
 */
import { start } from "../../shared/cli/start.ts";
import { spec } from "./spec.ts";

await start(spec, {
  up: async () => (await import("./up.ts")).up,
  down: async () => (await import("./down.ts")).down,
  map: async () => (await import("./map.ts")).map,
  exec: async () => (await import("./exec.ts")).exec,
  nodes: async () => (await import("./nodes.ts")).nodes,
  status: async () => (await import("./status.ts")).status,
  enrol: async () => (await import("./enrol.ts")).enrol,
  "hand-on": async () => (await import("./hand-on.ts")).handOn,
  agent: async () => (await import("./agent.ts")).agent,
});
