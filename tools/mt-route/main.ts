/**
 * mt-route: runs virtual routers in their namespaces and says when routes have converged.
 * Reads experiment, segment; changes router; writes sample. Exits by the shared table.
 */
import { start } from "../../shared/cli/start.ts";
import { spec } from "./spec.ts";

await start(spec, {
  up: async () => (await import("./commands/up.ts")).up,
  down: async () => (await import("./commands/down.ts")).down,
  check: async () => (await import("./commands/check.ts")).check,
});
