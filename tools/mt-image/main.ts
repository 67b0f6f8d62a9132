/**
 * mt-image: builds guest images from the distribution's own packages.
 * Reads no records, writes image records.
 */
import { start } from "../../shared/cli/start.ts";
import { spec } from "./spec.ts";

await start(spec, {
  build: async () => (await import("./commands.ts")).build,
  ls: async () => (await import("./commands.ts")).ls,
});
