/** Memory of guests, as the kernel counts it for their QEMU processes. */
import { readFileSync } from "node:fs";

/** A sample: the kernel walks all pages of a process for this, some milliseconds each. */
const LOOKED_AT_MAX = 8;

/** Means a guest over some of the processes, in MiB; undefined where none could be read. */
export function meanMemory(pids: readonly number[]): { rss_mib: number; pss_mib: number } | undefined {
  const step = Math.max(1, pids.length / LOOKED_AT_MAX);
  let rss_kib = 0;
  let pss_kib = 0;
  let looked_at = 0;
  for (let i = 0; i < pids.length; i += step) {
    try {
      const text = readFileSync(`/proc/${pids[Math.floor(i)]}/smaps_rollup`, "utf8");
      rss_kib += Number(/^Rss:\s+(\d+)/m.exec(text)?.[1]);
      pss_kib += Number(/^Pss:\s+(\d+)/m.exec(text)?.[1]);
      looked_at++;
    } catch {
      // It has just ended.
    }
  }
  const mib = (kib: number) => Math.round((kib / 1024 / looked_at) * 10) / 10;
  return looked_at === 0 ? undefined : { rss_mib: mib(rss_kib), pss_mib: mib(pss_kib) };
}
