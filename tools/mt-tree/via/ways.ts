/** The ways to reach hosts, a line each, by the name that `--via` takes and the tree's file has. */
import type { Way, WayOptions } from "./way.ts";

const WAYS: Record<string, () => Promise<(options: WayOptions) => Way>> = {
  local: async () => (await import("./local/local.ts")).viaLocal,
  ssh: async () => (await import("./ssh/ssh.ts")).viaSsh,
  slurm: async () => (await import("./slurm/slurm.ts")).viaSlurm,
};

export const WAY_NAMES: readonly string[] = Object.keys(WAYS);

export const wayOf = async (name: string, options: WayOptions): Promise<Way> =>
  (await WAYS[name]!())(options);
