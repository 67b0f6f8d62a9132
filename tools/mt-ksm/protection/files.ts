/** What mt-ksm keeps in an experiment's directory on this host. */
import { rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { experimentDir } from "../../../shared/host/names.ts";

/** What a watch that stays has to say. */
export const watchLog = (experiment: string) => join(experimentDir(experiment), "ksm.log");

/** Takes away what is kept; the directory goes with the last tool's files. */
export function removeFiles(experiment: string, files: readonly string[]): void {
  for (const file of files) rmSync(file, { force: true });
  try {
    rmdirSync(experimentDir(experiment));
  } catch {
    // It is not there, or other tools' files are in it.
  }
}
