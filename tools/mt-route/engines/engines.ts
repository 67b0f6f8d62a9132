/** The routing engines, a line an engine: its name is what `engine` of a router record says. */
import type { Router } from "../../../shared/records/index.ts";
import type { Engine } from "./engine.ts";

const ENGINES: Readonly<Record<Router["engine"], () => Promise<Engine>>> = {
  bird: async () => (await import("./bird/bird.ts")).bird,
};

export const engineOf = ({ engine }: Router): Promise<Engine> => ENGINES[engine]();

export const allEngines = (): Promise<Engine[]> => Promise.all(Object.values(ENGINES).map((load) => load()));
