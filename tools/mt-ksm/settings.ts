/**
 * KSM's settings under two leases, one over the other: "ksm" holds merging on at a low rate for as long
 * as an experiment is up; "ksm-scan" holds the high rate while somebody settles. Who comes last out of the
 * second brings the low rate back, so several hosts can settle at once on one kernel. "ksm-off" sets nothing:
 * it is held where nothing may be set.
 */
import { readFileSync } from "node:fs";
import { ok, type Result } from "neverthrow";
import { inform } from "../../shared/cli/stderr.ts";
import type { MtError } from "../../shared/errors.ts";
import { acquireLease, releaseLease, type Settings } from "../../shared/lease.ts";
import { counter, has, KSM, pageSize, toMib } from "./kernel.ts";

const path = (name: string) => `${KSM}/${name}`;

/** 1,000 pages (4 MiB) a second: what running guests write alike is found within minutes, for 1 % of a core. */
const LOW = { pages_to_scan: "100", sleep_millisecs: "100" };
/** As fast as one core goes. */
const HIGH = { pages_to_scan: "5000", sleep_millisecs: "0" };

function settings(values: Record<string, string>): Settings {
  const out: Settings = {};
  for (const [name, value] of Object.entries(values)) if (has(name)) out[path(name)] = value;
  return out;
}

/** Merging on. The advisor goes first: while it is on, it alone may set pages_to_scan. */
export const mergeSlowly = (holder: string) =>
  acquireLease("ksm", holder, settings({ advisor_mode: "none", ...LOW, run: "1" }));
export const scanHard = (holder: string) => acquireLease("ksm-scan", holder, settings(HIGH));
export const scansHard = () => counter("pages_to_scan") === Number(HIGH.pages_to_scan);
export const stopScanningHard = (holder: string) => releaseLease("ksm-scan", (h) => h === holder);

/** Notes that merging cannot be set; true for the first on this machine, who says so for all. */
export const noteOff = (holder: string) => acquireLease("ksm-off", holder, {});

/** Gives all leases back. The last one takes merged pages apart where merging was off before. */
export async function giveBack(holder: string): Promise<Result<boolean, MtError>> {
  const scanning = await stopScanningHard(holder);
  if (scanning.isErr()) return scanning;
  const off = await releaseLease("ksm-off", (h) => h === holder);
  if (off.isErr()) return off;
  return releaseLease(
    "ksm",
    (h) => h === holder,
    async (saved) => {
      if (saved[path("run")] === "1") return ok(undefined);
      return unmerge();
    },
  );
}

/** Every merged page becomes several again: for that there must be memory, or the machine would choke on it. */
async function unmerge(): Promise<Result<void, MtError>> {
  const bytes = counter("pages_sharing") * pageSize();
  const available =
    Number(/^MemAvailable:\s+(\d+) kB/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1] ?? 0) * 1024;
  if (bytes > available * 0.9) {
    inform(
      `${toMib(bytes)} MiB stay merged: ${toMib(available)} MiB are free; they go apart as their processes write or end`,
    );
    return ok(undefined);
  }
  const { writeFile } = await import("node:fs/promises");
  await writeFile(path("run"), "2");
  return ok(undefined);
}
