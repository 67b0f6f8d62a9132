/** What mt-ksm keeps in an experiment's directory on this host. */
import { rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { experimentDir } from "../../../shared/host/names.ts";

/** The log of a background watch. */
export const watchLog = (experiment: string) => join(experimentDir(experiment), "ksm.log");

/** Removes files, and the experiment's directory if nothing is left in it. */
export function removeFiles(experiment: string, files: readonly string[]): void {
  for (const file of files) rmSync(file, { force: true });
  try {
    rmdirSync(experimentDir(experiment));
  } catch {
    // It is not there, or other tools' files are in it.
  }
}
