/** mt-boot: starts, resumes, watches and stops guests on this host. */
import { start } from "../../shared/cli/start.ts";
import { spec } from "./spec.ts";

await start(spec, {
  up: async () => (await import("./up.ts")).up,
  pause: async () => (await import("./power.ts")).pause,
  resume: async () => (await import("./power.ts")).resume,
  reset: async () => (await import("./power.ts")).reset,
  check: async () => (await import("./check.ts")).check,
  prove: async () => (await import("./prove.ts")).prove,
  down: async () => (await import("./down.ts")).down,
  ls: async () => (await import("./ls.ts")).ls,
  exec: async () => (await import("./exec.ts")).exec,
  save: async () => (await import("./save.ts")).save,
  restore: async () => (await import("./restore.ts")).restore,
  watch: async () => (await import("./watch.ts")).watch,
  gc: async () => (await import("./gc.ts")).gc,
  copy: async () => (await import("./copy.ts")).copy,
  console: async () => (await import("./console.ts")).console,
  log: async () => (await import("./log.ts")).log,
  stats: async () => (await import("./stats.ts")).stats,
  supervise: async () => (await import("./supervise.ts")).supervise,
});
