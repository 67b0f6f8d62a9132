/** What the kernel says of this machine's memory. */
import { readFileSync } from "node:fs";

/** Memory that can be had without swapping, in MiB. */
export function availableMib(): number {
  const kib = Number(/^MemAvailable:\s+(\d+)/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1] ?? 0);
  return Math.floor(kib / 1024);
}
