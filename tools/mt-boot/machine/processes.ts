/**
 * The QEMU processes and supervisors of an experiment, found in /proc by their command lines, never by a noted pid
 * alone: no other process is ended, and none of ours is overlooked.
 */
import { join, resolve } from "node:path";
import { experimentDir, runDir } from "../../../shared/host/names.ts";
import { endProcess, isAlive, sharesPath, variableOf, waitFor } from "../../../shared/host/process.ts";
import { allPids, commandLineOf } from "../../../shared/host/processes.ts";
import { guestMark } from "./guest-files.ts";

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

/** Every living QEMU whose directory is this one (a template in the making), or whose memory is a file in it. */
export const livingIn = (dir: string): Living[] => [
  ...livingWhere(`\0-pidfile\0${dir}/`),
  ...livingWhere(`,mem-path=${dir.replaceAll(",", ",,")}/`),
];

/** Living guests with `part` in their command line. */
function livingWhere(part: string): Living[] {
  const found: Living[] = [];
  for (const { pid, cmdline } of commandLines()) {
    const at = cmdline.indexOf(PIDFILE);
    if (at < 0 || !cmdline.includes(part)) continue;
    const from = at + PIDFILE.length;
    const dir = cmdline.slice(from, cmdline.indexOf("\0", from)).slice(0, -"/pid".length);
    if (isAlive(pid, guestMark(dir)) && sharesPath(pid, dir))
      found.push({ pid, dir, forked: cmdline.includes(",mem-path=") });
  }
  return found;
}

/** The command line of each process, every word with a zero byte behind it. */
const commandLines = (): { pid: number; cmdline: string }[] =>
  allPids().flatMap((pid) => {
    const cmdline = commandLineOf(pid);
    return cmdline === undefined ? [] : [{ pid, cmdline }];
  });

const SUPERVISE = "\0supervise\0--host\0";

/** A supervisor's arguments; `livingSupervisors` finds it by them and by its MT_RUN. */
export const superviseArgv = (host: string, experiment: string) => ["supervise", "--host", host, experiment];

/** Pids of the experiment's supervisors under this MT_RUN, also where their lock and socket were removed. */
export function livingSupervisors(experiment: string): number[] {
  const found: number[] = [];
  for (const { pid, cmdline } of commandLines()) {
    if (!cmdline.includes(SUPERVISE) || !cmdline.endsWith(`\0${experiment}\0`)) continue;
    const run = variableOf(pid, "MT_RUN");
    if (
      run !== undefined &&
      resolve(run) === runDir() &&
      sharesPath(pid, runDir()) &&
      isAlive(pid, SUPERVISE)
    )
      found.push(pid);
  }
  return found;
}

/** Kills supervisors: their ledger is on disk, and their guests live on. Gives those that are still there. */
export async function endSupervisors(pids: readonly number[]): Promise<number[]> {
  const ended = await Promise.all(pids.map((pid) => endProcess(pid, SUPERVISE, 0)));
  return pids.filter((_, i) => !ended[i]);
}

/** Sends a signal where the process is still this guest's QEMU. */
export function signalGuest({ pid, dir }: Living, signal: NodeJS.Signals): void {
  if (!isAlive(pid, guestMark(dir))) return;
  try {
    process.kill(pid, signal);
  } catch {
    // It has just ended.
  }
}

/**
 * Ends guests, all at once and by SIGKILL: for their disks it is a power cut. Gives those that are still there after
 * `timeout_s`.
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
