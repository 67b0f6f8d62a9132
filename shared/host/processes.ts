/** What /proc says of processes. A process that has ended, or that we may not look at, is undefined. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Every process in sight; one pass over /proc. */
export const allPids = (): number[] =>
  readdirSync("/proc").flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []));

/** The command line, in words; undefined for kernel threads and zombies too. */
export const commandOf = (pid: number): string[] | undefined =>
  commandLineOf(pid)?.replace(/\0$/, "").split("\0");

/** The command line as the kernel has it: each word with a zero byte behind it; undefined as in `commandOf`. */
export const commandLineOf = (pid: number): string | undefined => readProc(pid, "cmdline") || undefined;

/** Clock ticks a second in /proc (USER_HZ): 100 on every platform that Linux has (man 5 proc). */
const TICKS_PER_S = 100;

/** What /proc/PID/stat says. */
export interface ProcessStat {
  /** One letter, as in ps: `R`, `S`, … `Z` is a zombie. */
  state: string;
  parent: number;
  group: number;
  /** Of its controlling terminal; 0: it has none, as daemons have none. */
  terminal: number;
  /** Processor time of all its threads, user and system. */
  cpu_s: number;
  /** Clock ticks since boot at its start: with the pid, that tells it from every other process. */
  started: string;
}

export function statOf(pid: number): ProcessStat | undefined {
  const stat = readProc(pid, "stat");
  if (stat === undefined) return undefined;
  // The name in parentheses may hold anything, spaces and parentheses too.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return {
    state: fields[0]!,
    parent: Number(fields[1]),
    group: Number(fields[2]),
    terminal: Number(fields[4]),
    cpu_s: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S,
    started: fields[19]!,
  };
}

/** The inode of the network namespace that it is in. */
export function netnsOf(pid: number): number | undefined {
  try {
    return Number(/^net:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/ns/net`))?.[1]);
  } catch {
    return undefined;
  }
}

/** Resident memory, in KiB. */
export function residentKib(pid: number): number | undefined {
  const kib = /^VmRSS:\s*(\d+)/m.exec(readProc(pid, "status") ?? "")?.[1];
  return kib === undefined ? undefined : Number(kib);
}

/** Seconds since it was started, by the kernel's clock. */
export function ageOf(pid: number): number | undefined {
  const stat = statOf(pid);
  if (stat === undefined) return undefined;
  const uptime_s = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);
  return Math.max(0, uptime_s - Number(stat.started) / TICKS_PER_S);
}

/** A file of /proc/PID, as text. */
export function readProc(pid: number, file: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return undefined;
  }
}
