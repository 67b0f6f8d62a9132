/** mt-boot: starts, resumes, watches and stops guests on this host. */
import { start } from "../../shared/cli/start.ts";
import { spec } from "./spec.ts";

await start(spec, {
  up: async () => (await import("./commands/up.ts")).up,
  pause: async () => (await import("./commands/power.ts")).pause,
  resume: async () => (await import("./commands/power.ts")).resume,
  reset: async () => (await import("./commands/power.ts")).reset,
  check: async () => (await import("./commands/check.ts")).check,
  prove: async () => (await import("./commands/prove.ts")).prove,
  down: async () => (await import("./commands/down.ts")).down,
  ls: async () => (await import("./commands/ls.ts")).ls,
  exec: async () => (await import("./commands/exec.ts")).exec,
  save: async () => (await import("./commands/save.ts")).save,
  restore: async () => (await import("./commands/restore.ts")).restore,
  watch: async () => (await import("./commands/watch.ts")).watch,
  gc: async () => (await import("./commands/gc.ts")).gc,
  copy: async () => (await import("./commands/copy.ts")).copy,
  console: async () => (await import("./commands/console.ts")).console,
  log: async () => (await import("./commands/log.ts")).log,
  stats: async () => (await import("./commands/stats.ts")).stats,
  supervise: async () => (await import("./supervisor/supervise.ts")).supervise,
});
