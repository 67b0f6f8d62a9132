/** How much memory the QEMU processes of an experiment use on this host, each and in all. */
import { readFileSync } from "node:fs";
import { MtFailure, mtError } from "../../../shared/errors.ts";
import { guestQemus } from "../protection/qemu.ts";
import { toMib } from "./kernel.ts";
import { ksmStat } from "./processes.ts";

/** One guest's QEMU, VMM included, in MiB. */
export interface QemuMemory {
  /** What its guest was given. */
  nominal_mib: number;
  rss_mib: number;
  /** Each page divided by how many processes map it: these add up to what is really used. */
  pss_mib: number;
  /** Resident pages that more than one process maps. */
  shared_mib: number;
  /** Resident pages that KSM has merged; absent on kernels that do not tell. */
  ksm_mib?: number;
  /** What merging its pages saves, less the bookkeeping for them; absent on kernels that do not tell. */
  profit_mib?: number;
}

/** The guests' QEMUs, by name. @param experiment its id */
export function guestMemory(experiment: string): Map<string, QemuMemory> {
  const out = new Map<string, QemuMemory>();
  for (const { pid, words, name } of guestQemus(experiment)) {
    try {
      const rollup = kibFields(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
      const mib = (kib = 0) => toMib(kib * 1024);
      const shared = (rollup.Shared_Clean ?? 0) + (rollup.Shared_Dirty ?? 0);
      out.set(name, {
        nominal_mib: nominalMib(words),
        rss_mib: mib(rollup.Rss),
        pss_mib: mib(rollup.Pss),
        shared_mib: mib(shared),
        ...(rollup.KSM === undefined ? {} : { ksm_mib: mib(rollup.KSM) }),
        ...profit(pid),
      });
    } catch (thrown) {
      const { code } = thrown as NodeJS.ErrnoException;
      // It ended meanwhile.
      if (code === "ENOENT" || code === "ESRCH") continue;
      throw new MtFailure(
        mtError(
          "permission",
          `Cannot measure guest ${name}: ${code ?? thrown} at /proc/${pid}`,
          "run it as root",
        ),
      );
    }
  }
  return out;
}

function profit(pid: number): { profit_mib?: number } {
  try {
    return { profit_mib: toMib(ksmStat(readFileSync(`/proc/${pid}/ksm_stat`, "utf8")).profit) };
  } catch {
    return {};
  }
}

const FIELDS = ["nominal_mib", "rss_mib", "pss_mib", "shared_mib", "ksm_mib", "profit_mib"] as const;

/** In all, and a guest: the least, the median and the most. */
export function inAll(guests: Iterable<QemuMemory>): Record<string, unknown> {
  const all = [...guests];
  const sums: Record<string, number> = {};
  const spread: Record<string, { min: number; median: number; max: number }> = {};
  for (const field of FIELDS) {
    const values = all.flatMap((g) => g[field] ?? []).sort((a, b) => a - b);
    if (values.length === 0 && all.length > 0) continue;
    sums[field] = Math.round(values.reduce((a, b) => a + b, 0) * 10) / 10;
    if (values.length > 0)
      spread[field] = { min: values[0]!, median: values[values.length >> 1]!, max: values.at(-1)! };
  }
  return { processes: all.length, ...sums, ...(all.length > 0 ? { a_guest: spread } : {}) };
}

/** `Rss:   1234 kB` lines as numbers. */
export function kibFields(text: string): Record<string, number> {
  return Object.fromEntries([...text.matchAll(/^(\w+):\s+(\d+) kB$/gm)].map((m) => [m[1]!, Number(m[2])]));
}

/** A guest's memory from QEMU's `-m 128`, `-m 1G`, `-m size=128M,…`; 0 where it is not said. */
export function nominalMib(words: readonly string[]): number {
  const m = /^(?:size=)?(\d+)([kmgt]?)/i.exec(words[words.indexOf("-m") + 1] ?? "");
  if (!words.includes("-m") || !m) return 0;
  return (
    Number(m[1]) *
    { k: 1 / 1024, m: 1, g: 1024, t: 1024 * 1024, "": 1 }[m[2]!.toLowerCase() as "k" | "m" | "g" | "t" | ""]
  );
}
