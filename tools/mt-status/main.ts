/**
 * mt-status: shows and records what is true of an experiment, and of this machine before and after it.
 * Reads every kind; writes verdict, sample. Exits by the shared table; 1 where a verdict is not wholly true.
 */
import { start } from "../../shared/cli/start.ts";
import { spec } from "./spec.ts";

await start(spec, {
  table: async () => (await import("./commands/table.ts")).table,
  check: async () => (await import("./commands/check.ts")).check,
  able: async () => (await import("./commands/able.ts")).able,
  hosts: async () => (await import("./commands/hosts.ts")).hosts,
  snapshot: async () => (await import("./commands/snapshot.ts")).snapshot,
  left: async () => (await import("./commands/left.ts")).left,
  history: async () => (await import("./commands/history.ts")).history,
});
