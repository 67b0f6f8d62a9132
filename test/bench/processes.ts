/** What /proc says of the guests of a bench: their QEMUs, the processor time that these had, the machine's memory. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";

/**
 * The QEMU processes whose files are below a directory, by pid.
 * @param seen saves reading those again that are known
 */
export function qemusOf(dir: string, seen = new Map<number, boolean>()): number[] {
  return readdirSync("/proc").flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid)) return [];
    if (!seen.has(pid)) {
      const words = text(`/proc/${pid}/cmdline`).split("\0");
      // Just forked, before its exec: look again next time.
      if (words[0] === "") return [];
      seen.set(pid, words[0]!.includes("qemu-system") && words.some((w) => w.includes(`${dir}/`)));
    }
    return seen.get(pid) && text(`/proc/${pid}/stat`) !== "" ? [pid] : [];
  });
}
function text(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
export const availableMib = () => Number(/MemAvailable:\s+(\d+)/.exec(text("/proc/meminfo"))![1]) / 1024;
/** Processor time that processes have had, all their threads; s. */
export function cpuSeconds(pids: readonly number[]): number {
  let ns = 0;
  for (const pid of pids)
    for (const thread of existsSync(`/proc/${pid}/task`) ? readdirSync(`/proc/${pid}/task`) : [])
      ns += Number(text(`/proc/${pid}/task/${thread}/schedstat`).split(" ")[0] || 0);
  return ns / 1e9;
}
/** A process's proportional memory now; 0 where it is gone. */
export const pssMb = (pid: number) =>
  (Number(/^Pss:\s+(\d+)/m.exec(text(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0) * 1024) / 1e6;
/**
 * A process's memory: proportional as it is now, and as if no other process ran the same
 * program: the pages that it maps of that file count in full.
 */
export function memoryMb(pid: number): { pss_mb: number; alone_mb: number } {
  const program = readlinkSync(`/proc/${pid}/exe`);
  let [pss_kib, alone_kib, own] = [0, 0, false];
  for (const line of text(`/proc/${pid}/smaps`).split("\n")) {
    const [, mapped] = /^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)/.exec(line) ?? [];
    if (mapped !== undefined) own = mapped === program;
    const [, what, kib] = /^(Rss|Pss): +(\d+) kB/.exec(line) ?? [];
    if (what === "Pss") pss_kib += Number(kib);
    if (what === (own ? "Rss" : "Pss")) alone_kib += Number(kib);
  }
  return { pss_mb: (pss_kib * 1024) / 1e6, alone_mb: (alone_kib * 1024) / 1e6 };
}
