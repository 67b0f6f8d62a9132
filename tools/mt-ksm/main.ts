/**
 * mt-ksm: merges equal pages of guests on this host, and decides which guests die first when memory runs out.
 * Reads experiment and guest, changes no record, writes sample.
 * Exits as in shared/cli/spec.ts; 69 where the kernel has no KSM, 77 where not root.
 */
import { start } from "../../shared/cli/start.ts";
import { spec } from "./spec.ts";

await start(spec, {
  settle: async () => (await import("./commands/settle.ts")).settle,
  watch: async () => (await import("./commands/watch.ts")).watch,
  protect: async () => (await import("./commands/protect.ts")).protect,
  report: async () => (await import("./commands/report.ts")).report,
  down: async () => (await import("./commands/down.ts")).down,
});
