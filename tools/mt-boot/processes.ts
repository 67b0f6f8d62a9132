/**
 * The QEMU processes of an experiment, as the kernel has them: found by their command line, never by a pid
 * that was noted alone, so that no stranger is ended and none is overlooked.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { experimentDir } from "../../shared/names.ts";
import { isAlive, waitFor } from "../../shared/process.ts";
import { guestMark } from "./argv.ts";

const PIDFILE = "\0-pidfile\0";

/** A living QEMU by the directory of its guest. */
export interface Living {
  pid: number;
  dir: string;
  /** Whether it is a clone. */
  forked?: boolean;
}

/** Every living QEMU of the experiment on this host; one pass over /proc. */
export const livingGuests = (experiment: string): Living[] =>
  livingWhere(`\0-pidfile\0${join(experimentDir(experiment), "g")}/`);

/** Every living QEMU that is a template in this directory, or has its memory from there. */
export const livingIn = (dir: string): Living[] => [
  ...livingWhere(`\0-pidfile\0${dir}/`),
  ...livingWhere(`,mem-path=${dir.replaceAll(",", ",,")}/`),
];

/** Living guests with `part` in their command line. */
function livingWhere(part: string): Living[] {
  const found: Living[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    let cmdline: string;
    try {
      cmdline = readFileSync(`/proc/${name}/cmdline`, "utf8");
    } catch {
      continue;
    }
    const at = cmdline.indexOf(PIDFILE);
    if (at < 0 || !cmdline.includes(part)) continue;
    const from = at + PIDFILE.length;
    const dir = cmdline.slice(from, cmdline.indexOf("\0", from)).slice(0, -"/pid".length);
    if (isAlive(Number(name), guestMark(dir)))
      found.push({ pid: Number(name), dir, forked: cmdline.includes(",mem-path=") });
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
 * Ends guests, all at once and by SIGKILL: what they have on disks is journaled, as for a power cut. Gives those that are
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
