/** This machine's memory, from the kernel. */
import { readFileSync } from "node:fs";

/** MemAvailable: memory available without swapping, in MiB. */
export function availableMib(): number {
  const kib = Number(/^MemAvailable:\s+(\d+)/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1] ?? 0);
  return Math.floor(kib / 1024);
}
