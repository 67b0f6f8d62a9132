/** The routers of an experiment on this host: their directories, and which daemons run, whatever their engines. */
import { existsSync, readdirSync, rmdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { experimentDir, routerDir } from "../../../shared/host/names.ts";
import type { Engine } from "./engine.ts";
import { allEngines } from "./engines.ts";

export interface Daemon {
  engine: Engine;
  dir: string;
  pid: number;
}

/** Absolute, since daemons have a working directory of their own. */
export const dirOf = (experiment: string, router: string) => resolve(routerDir(experiment, router));

const routersDir = (experiment: string) => resolve(experimentDir(experiment), "r");

/** The daemons that run, by the directories of their routers. */
export async function runningRouters(experiment: string): Promise<Map<string, Daemon>> {
  const found = new Map<string, Daemon>();
  for (const engine of await allEngines())
    for (const [dir, pid] of engine.running(routersDir(experiment))) found.set(dir, { engine, dir, pid });
  return found;
}

/** Directories of routers that are there, whether their daemons run or not. */
export function routerDirs(experiment: string): string[] {
  const dir = routersDir(experiment);
  return existsSync(dir) ? readdirSync(dir).map((name) => join(dir, name)) : [];
}

/** Removes what is empty of the experiment's directory. */
export function removeEmptyDirs(experiment: string): void {
  try {
    rmdirSync(routersDir(experiment));
    rmdirSync(resolve(experimentDir(experiment)));
  } catch {
    // Not there, or another tool's files are in it.
  }
}
