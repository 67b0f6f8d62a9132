/** mt-boot: starts, resumes, watches and stops guests on this host. */
import { start } from "../../shared/cli/start.ts";
import { spec } from "./spec.ts";

await start(spec, {
  up: async () => (await import("./up.ts")).up,
  resume: async () => (await import("./resume.ts")).resume,
  check: async () => (await import("./check.ts")).check,
  prove: async () => (await import("./prove.ts")).prove,
  down: async () => (await import("./down.ts")).down,
  ls: async () => (await import("./ls.ts")).ls,
  exec: async () => (await import("./exec.ts")).exec,
  watch: async () => (await import("./watch.ts")).watch,
  gc: async () => (await import("./gc.ts")).gc,
  supervise: async () => (await import("./supervise.ts")).supervise,
});
