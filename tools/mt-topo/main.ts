/** mt-topo: writes plans. Imports or generates a topology, adds guests, places all of it on hosts. */
import { start } from "../../shared/cli/start.ts";
import { spec } from "./spec.ts";

await start(spec, {
  import: async () => (await import("./commands/import.ts")).importFile,
  gen: async () => (await import("./commands/gen.ts")).gen,
  guests: async () => (await import("./commands/guests.ts")).guests,
  probe: async () => (await import("./commands/probe.ts")).probe,
  place: async () => (await import("./commands/place.ts")).place,
});
