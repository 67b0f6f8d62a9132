/** What the QEMU processes of an experiment take on this host: found by their guest directory in argv. */
import { readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { toMib } from "./kernel.ts";

export interface GuestMemory {
  /** QEMU processes found. */
  processes: number;
  /** What their guests were given. */
  nominal_mib: number;
  rss_mib: number;
  /** Each page divided by how many processes map it: these add up to what is really used. */
  pss_mib: number;
  /** Resident pages that more than one process maps. */
  shared_mib: number;
  /** Resident pages that KSM has merged; absent on kernels that do not tell. */
  ksm_mib?: number;
}

/** @param dir the experiment's directory; every guest of it has a directory below */
export function guestMemory(dir: string): GuestMemory {
  const sum = { processes: 0, nominal: 0, rss: 0, pss: 0, shared: 0, ksm: 0 };
  let tellsKsm = false;
  for (const pid of readdirSync("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    let words: string[];
    let rollup: Record<string, number>;
    try {
      words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      if (!basename(words[0] ?? "").startsWith("qemu-system") || !words.some((w) => w.includes(`${dir}/`)))
        continue;
      rollup = kibFields(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
    } catch {
      // It has ended meanwhile.
      continue;
    }
    sum.processes++;
    sum.nominal += nominalMib(words);
    sum.rss += rollup.Rss ?? 0;
    sum.pss += rollup.Pss ?? 0;
    sum.shared += (rollup.Shared_Clean ?? 0) + (rollup.Shared_Dirty ?? 0);
    if (rollup.KSM !== undefined) {
      tellsKsm = true;
      sum.ksm += rollup.KSM;
    }
  }
  const { processes, nominal } = sum;
  const mib = (kib: number) => toMib(kib * 1024);
  return {
    processes,
    nominal_mib: nominal,
    rss_mib: mib(sum.rss),
    pss_mib: mib(sum.pss),
    shared_mib: mib(sum.shared),
    ...(tellsKsm ? { ksm_mib: mib(sum.ksm) } : {}),
  };
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
