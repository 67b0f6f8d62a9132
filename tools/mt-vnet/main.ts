/**
 * mt-vnet: builds switches, tunnels and ports on this host.
 * Reads experiment and segment; owns the ports of router and guest; writes switch.
 * Exits as in shared/cli/spec.ts; 69 where iproute2 is missing, 77 where not root.
 */
import { start } from "../../shared/cli/start.ts";
import { spec } from "./spec.ts";

await start(spec, {
  up: async () => (await import("./commands/up.ts")).up,
  down: async () => (await import("./commands/down.ts")).down,
  prove: async () => (await import("./commands/prove.ts")).prove,
  ls: async () => (await import("./commands/ls.ts")).ls,
});
