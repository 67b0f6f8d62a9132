/**
 * The processes whose memory may be merged, as the controller counts them: found once, then read from two small files
 * each. Those of all users of the machine count, since the kernel has one merging thread for all.
 */
import { readFileSync } from "node:fs";
import { allPids } from "../../../shared/host/processes.ts";
import type { ProcessPages } from "./controller.ts";

/** A new process is checked again for so long: a VMM marks its memory as mergeable some time after its start. */
const YOUNG_MS = 15_000;

/** A function that reads all of them now. */
export function processReader(): () => Map<number, ProcessPages> {
  const merges = new Set<number>();
  const firstSeen = new Map<number, number>();
  return () => {
    const out = new Map<number, ProcessPages>();
    const now = Date.now();
    const there = new Set<number>();
    for (const pid of allPids()) {
      there.add(pid);
      const since = firstSeen.get(pid) ?? now;
      if (since === now) firstSeen.set(pid, now);
      if (!merges.has(pid) && now - since > YOUNG_MS) continue;
      const pages = readProcess(pid, merges.has(pid));
      if (pages === undefined) continue;
      merges.add(pid);
      out.set(pid, pages);
    }
    for (const pid of firstSeen.keys())
      if (!there.has(pid)) {
        firstSeen.delete(pid);
        merges.delete(pid);
      }
    return out;
  };
}

/** Undefined where it has ended, or nothing of it may be merged. */
function readProcess(pid: number, sure: boolean): ProcessPages | undefined {
  try {
    const stat = ksmStat(readFileSync(`/proc/${pid}/ksm_stat`, "utf8"));
    if (!sure && !stat.mergeable) return undefined;
    // size resident shared(files) …
    const [, resident = 0, files = 0] = readFileSync(`/proc/${pid}/statm`, "utf8").split(" ").map(Number);
    return { anonymous: resident - files, merging: stat.merging };
  } catch {
    return undefined;
  }
}

/** `ksm_rmap_items 12`, `ksm_mergeable: yes`: what the kernel says of a process; older ones say less. */
export function ksmStat(text: string): {
  mergeable: boolean;
  known: number;
  merging: number;
  profit: number;
} {
  const field = (name: string) => Number(new RegExp(`^${name}:? (-?\\d+)`, "m").exec(text)?.[1] ?? 0);
  const known = field("ksm_rmap_items");
  const merging = field("ksm_merging_pages");
  return {
    mergeable: known > 0 || /^ksm_(mergeable|merge_any): yes/m.test(text),
    known,
    merging,
    profit: field("ksm_process_profit"),
  };
}
