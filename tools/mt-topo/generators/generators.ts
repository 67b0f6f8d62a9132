/** The shapes that `mt-topo gen` knows, a line a shape: its name is the word that stands after `gen`. */
import type { Generator } from "./generator.ts";

const GENERATORS: Readonly<Record<string, () => Promise<Generator>>> = {
  ring: async () => (await import("./ring.ts")).ring,
  grid: async () => (await import("./grid.ts")).grid,
};

export const GENERATOR_NAMES: readonly string[] = Object.keys(GENERATORS);

export const generatorNamed = (name: string): Promise<Generator> => GENERATORS[name]!();
