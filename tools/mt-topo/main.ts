/** mt-topo: writes plans. Imports or generates a topology, adds guests, places all of it on hosts. */
import { start } from "../../shared/cli/start.ts";
import { spec } from "./spec.ts";

await start(spec, {
  import: async () => (await import("./commands/import.ts")).importCommand,
  gen: async () => (await import("./commands/gen.ts")).genCommand,
  guests: async () => (await import("./commands/guests.ts")).guestsCommand,
  probe: async () => (await import("./commands/probe.ts")).probeCommand,
  place: async () => (await import("./commands/place.ts")).placeCommand,
});
