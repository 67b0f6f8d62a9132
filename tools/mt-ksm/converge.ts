/**
 * When merging has come to rest, from the kernel's counters alone. A page is merged at the second look at
 * the earliest (the first notes its checksum), so two scans of all memory come before any verdict.
 */
export interface Counters {
  pages_sharing: number;
  full_scans: number;
  /** Pages looked at since boot; absent on old kernels, whose full_scans must do. */
  pages_scanned?: number;
}

export type Rest = "settled" | "nothing to merge" | undefined;

const SCANS_LEAST = 2;
/** Without a page looked at for so long, no process has memory that may be merged. */
const IDLE_S = 3;

/**
 * A function to be called with every sample, in order; it says when it is enough.
 * @param gain what a scan must add to the pages saved to go on, as a share of them
 */
export function watchForRest(first: Counters, gain: number): (now: Counters, seconds: number) => Rest {
  let atScan = { scans: first.full_scans, sharing: first.pages_sharing };
  let looked = lookedAt(first);
  let lookedAt_s = 0;
  return (now, seconds) => {
    if (lookedAt(now) !== looked) {
      looked = lookedAt(now);
      lookedAt_s = seconds;
    } else if (seconds - lookedAt_s >= IDLE_S)
      return now.pages_sharing === 0 ? "nothing to merge" : "settled";
    if (now.full_scans < atScan.scans + SCANS_LEAST) return undefined;
    const grown = now.pages_sharing - atScan.sharing;
    if (
      now.full_scans >= first.full_scans + 2 * SCANS_LEAST &&
      grown <= gain * Math.max(now.pages_sharing, 1)
    )
      return "settled";
    atScan = { scans: now.full_scans, sharing: now.pages_sharing };
    return undefined;
  };
}

const lookedAt = (c: Counters) => c.pages_scanned ?? c.full_scans;
