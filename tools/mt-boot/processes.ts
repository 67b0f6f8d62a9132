/**
 * The QEMU processes of an experiment, as the kernel has them: found by their command line, never by a pid
 * that was noted alone, so that no stranger is ended and none is overlooked.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { experimentDir } from "../../shared/names.ts";
import { isAlive, waitFor } from "../../shared/process.ts";
import { guestMark } from "./argv.ts";

/** A living QEMU by the directory of its guest. */
export interface Living {
  pid: number;
  dir: string;
}

/** Every living QEMU of the experiment on this host; one pass over /proc. */
export function livingGuests(experiment: string): Living[] {
  const begin = `\0-pidfile\0${join(experimentDir(experiment), "g")}/`;
  const found: Living[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    let cmdline: string;
    try {
      cmdline = readFileSync(`/proc/${name}/cmdline`, "utf8");
    } catch {
      continue;
    }
    const at = cmdline.indexOf(begin);
    if (at < 0) continue;
    const file = cmdline.slice(at + "\0-pidfile\0".length, cmdline.indexOf("\0", at + begin.length));
    const dir = file.slice(0, -"/pid".length);
    if (isAlive(Number(name), guestMark(dir))) found.push({ pid: Number(name), dir });
  }
  return found;
}

/** Sends a signal where the process is still this guest's QEMU. */
export function signalGuest({ pid, dir }: Living, signal: NodeJS.Signals): void {
  if (!isAlive(pid, guestMark(dir))) return;
  try {
    process.kill(pid, signal);
  } catch {
    // It ended between the two lines.
  }
}

/**
 * Ends guests, all at once and by SIGKILL: they have no disks, so nothing is lost. Gives those that are
 * still there after `timeout_s`.
 */
export async function endGuests(guests: readonly Living[], timeout_s = 10): Promise<Living[]> {
  for (const guest of guests) signalGuest(guest, "SIGKILL");
  let left = [...guests];
  await waitFor(
    () => {
      left = left.filter(({ pid, dir }) => isAlive(pid, guestMark(dir)));
      return left.length === 0 ? true : undefined;
    },
    timeout_s,
    10,
  );
  return left;
}
