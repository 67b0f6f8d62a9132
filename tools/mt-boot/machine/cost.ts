/** What one guest has cost so far, as the kernel counts it for its QEMU process and its taps. */
import { readFileSync } from "node:fs";
import { tapName } from "../../../shared/host/names.ts";
import type { Guest } from "../../../shared/records/index.ts";

/** Units stand in the names. What the guest sent is what its host received from it. */
export interface Cost {
  uptime_s: number;
  cpu_s: number;
  rss_mib: number;
  pss_mib: number;
  /** Of its resident memory, what other processes have too. */
  shared_mib: number;
  rx_bytes: number;
  tx_bytes: number;
}

/** Ticks a second of /proc/PID/stat: the same on every Linux that we know. */
const TICKS_PER_S = 100;

/** Bytes by link, as the host sees them. */
export type Links = ReadonlyMap<string, { rx: number; tx: number }>;

/** All links of our own network namespace (which /sys/class/net is not), in one read. */
export function readLinks(): Links {
  const links = new Map<string, { rx: number; tx: number }>();
  for (const line of readFileSync("/proc/net/dev", "utf8").split("\n").slice(2)) {
    const [name, numbers] = line.split(":");
    const fields = numbers?.trim().split(/\s+/).map(Number);
    if (fields) links.set(name!.trim(), { rx: fields[0]!, tx: fields[8]! });
  }
  return links;
}

/** Undefined where the process has just ended. The kernel walks all its pages for this: some milliseconds. */
export function costOf(experiment: string, guest: Guest, pid: number, links: Links): Cost | undefined {
  let stat: string[];
  let rollup: string;
  try {
    const line = readFileSync(`/proc/${pid}/stat`, "utf8");
    stat = line.slice(line.lastIndexOf(")") + 2).split(" ");
    rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  } catch {
    return undefined;
  }
  const mib = (...names: string[]) =>
    round(
      names.reduce(
        (sum, name) => sum + Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(rollup)?.[1] ?? 0),
        0,
      ) / 1024,
    );
  const now_s = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);
  const taps = guest.interfaces.map((_, nic) => links.get(tapName(experiment, guest.id, nic)));
  const sum = (of: "rx" | "tx") => taps.reduce((bytes, tap) => bytes + (tap?.[of] ?? 0), 0);
  return {
    uptime_s: round(now_s - Number(stat[19]) / TICKS_PER_S),
    cpu_s: round((Number(stat[11]) + Number(stat[12])) / TICKS_PER_S),
    rss_mib: mib("Rss"),
    pss_mib: mib("Pss"),
    shared_mib: mib("Shared_Clean", "Shared_Dirty"),
    rx_bytes: sum("tx"),
    tx_bytes: sum("rx"),
  };
}

const round = (x: number) => Math.round(x * 100) / 100;
