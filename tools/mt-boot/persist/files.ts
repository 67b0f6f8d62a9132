/** The files that mt-boot keeps of an experiment on this host, beside its guests' directories. */
import { rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { disksDir, experimentDir, supervisorSocket } from "../../../shared/host/names.ts";
import { removeOwn } from "../../../shared/own-place.ts";
import { overlayOf } from "../machine/disk.ts";
import { removeLedger } from "./ledger.ts";

/** Held by the living supervisor: says its pid. */
export const supervisorLock = (experiment: string) => join(experimentDir(experiment), "boot.lock");
/** The supervisor's stderr. */
export const supervisorLog = (experiment: string) => join(experimentDir(experiment), "boot.log");
/** Held while a command starts the supervisor, or does its work in its place. */
export const startLock = (experiment: string) => join(experimentDir(experiment), "boot.start");

/** All that mt-boot keeps of an experiment on this host. */
export function removeFiles(experiment: string): void {
  removeLedger(experiment);
  rmSync(supervisorSocket(experiment), { force: true });
  rmSync(supervisorLog(experiment), { force: true });
  removeOwn(join(experimentDir(experiment), "g"));
  removeEmpty(disksDir(experiment));
}

/** All that mt-boot keeps of a guest that has ended. */
export function removeGuest(experiment: string, dir: string): void {
  removeOwn(dir);
  rmSync(overlayOf(experiment, dir), { force: true });
}

/** Removes the experiment's directory once no tool has anything in it. */
export const removeDirectory = (experiment: string) => removeEmpty(experimentDir(experiment));

function removeEmpty(dir: string): void {
  try {
    rmdirSync(dir);
  } catch {
    // Missing, or not empty: it holds files of another tool, or disks of guests that are not taken down.
  }
}
