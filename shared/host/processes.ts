/** What /proc says of processes. A process that has ended, or that we may not look at, is undefined. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Every process in sight; one pass over /proc. */
export const allPids = (): number[] =>
  readdirSync("/proc").flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []));

/** The command line, in words; undefined for kernel threads and zombies too. */
export function commandOf(pid: number): string[] | undefined {
  const text = readProc(pid, "cmdline");
  return text ? text.replace(/\0$/, "").split("\0") : undefined;
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
  const stat = readProc(pid, "stat");
  if (stat === undefined) return undefined;
  const ticks = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
  const uptime_s = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);
  // USER_HZ is 100 on every platform that Linux has (man 5 proc).
  return Math.max(0, uptime_s - ticks / 100);
}

function readProc(pid: number, file: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return undefined;
  }
}
