/**
 * mt-push: brings the files of images to the hosts that need them.
 * Reads image records, writes copy records, passes everything on.
 */
import { start } from "../../shared/cli/start.ts";
import { spec } from "./spec.ts";

await start(spec, {
  push: async () => (await import("./spread/push.ts")).push,
  has: async () => (await import("./spread/receive.ts")).has,
  receive: async () => (await import("./spread/receive.ts")).receive,
});
