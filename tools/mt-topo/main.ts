/** mt-topo: writes plans. Imports or generates a topology, adds guests, places all of it on hosts. */
import { start } from "../../shared/cli/start.ts";
import { spec } from "./spec.ts";

await start(spec, {
  import: async () => (await import("./import.ts")).importCommand,
  gen: async () => (await import("./gen.ts")).genCommand,
  guests: async () => (await import("./guests.ts")).guestsCommand,
  probe: async () => (await import("./probe.ts")).probeCommand,
  place: async () => (await import("./place.ts")).placeCommand,
});
