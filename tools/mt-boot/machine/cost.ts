/** What one guest has used so far, as the host's kernel counts it for its QEMU process and its taps. */
import { readFileSync } from "node:fs";
import { tapName } from "../../../shared/host/names.ts";
import { ageOf, readProc, statOf } from "../../../shared/host/processes.ts";
import type { Guest } from "../../../shared/records/index.ts";

/** rx and tx as the guest sees them: what it sent is what the host received from its taps. */
export interface Cost {
  uptime_s: number;
  cpu_s: number;
  rss_mib: number;
  pss_mib: number;
  /** Resident memory that other processes have mapped too. */
  shared_mib: number;
  rx_bytes: number;
  tx_bytes: number;
}

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

/** Undefined where the process has ended. The kernel walks all of its pages for this: some milliseconds. */
export function costOf(experiment: string, guest: Guest, pid: number, links: Links): Cost | undefined {
  const cpu_s = statOf(pid)?.cpu_s;
  const uptime_s = ageOf(pid);
  const rollup = readProc(pid, "smaps_rollup");
  if (cpu_s === undefined || uptime_s === undefined || rollup === undefined) return undefined;
  const mib = (...names: string[]) =>
    round(
      names.reduce(
        (sum, name) => sum + Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(rollup)?.[1] ?? 0),
        0,
      ) / 1024,
    );
  const taps = guest.interfaces.map((_, nic) => links.get(tapName(experiment, guest.id, nic)));
  const sum = (of: "rx" | "tx") => taps.reduce((bytes, tap) => bytes + (tap?.[of] ?? 0), 0);
  return {
    uptime_s: round(uptime_s),
    cpu_s: round(cpu_s),
    rss_mib: mib("Rss"),
    pss_mib: mib("Pss"),
    shared_mib: mib("Shared_Clean", "Shared_Dirty"),
    rx_bytes: sum("tx"),
    tx_bytes: sum("rx"),
  };
}

const round = (x: number) => Math.round(x * 100) / 100;
