/**
 * The feedback controller of the kernel's merging thread, as a pure function: counters in, the next rate
 * out. It scans memory pass by pass (a pass is one scan of all of it): hard while fresh pages come in or passes
 * still gain, then each fruitless pass at half the speed of the last, down to next to nothing.
 */

/** One process whose memory may be merged, in pages. */
export interface ProcessPages {
  /** Resident memory of its own (merged or not; no files). */
  anonymous: number;
  /** Of it, what the kernel has merged. */
  merging: number;
}

/** The kernel's counters at one time. */
export interface Reading {
  /** Seconds of a monotonic clock. */
  time_s: number;
  /** Pages saved. */
  pages_sharing: number;
  pages_shared: number;
  /** Scanned, equal to no other. */
  pages_unshared: number;
  /** Changed between two scans, or scanned once. */
  pages_volatile: number;
  full_scans: number;
  /** Pages scanned since boot; absent on old kernels. */
  pages_scanned?: number;
  /** What is saved less the bookkeeping, in pages; absent on old kernels. */
  profit?: number;
  /** CPU seconds of the kernel's thread since boot; absent where it cannot be seen. */
  ksmd_cpu_s?: number;
  /** By pid. */
  processes: ReadonlyMap<number, ProcessPages>;
}

export interface Order {
  /** How many seconds one scan of all memory shall take. */
  pass_s: number;
  /** How many pages that is, as far as known. */
  pages: number;
}

export type Rest = "settled" | "nothing to merge";

export interface Control {
  order: Order;
  /** Fresh pages come in, or passes still gain. */
  hard: boolean;
  /** Set once the gain has stopped; gone when it begins again. */
  rest?: Rest;
  /** Pages that came since the last verdict. */
  fresh: number;
  /** Merged pages that went away with their processes since then. */
  gone: number;
  /** The counters at the last verdict. */
  mark: Reading;
  last: Reading;
  /** When the thread was last seen to scan a page. */
  looked_s: number;
  /** The counters when a gain was last seen while it scanned hard. */
  gained: Reading;
  /** How often in a row fresh pages turned out to equal no other, and until when fresh pages are ignored. */
  vain: number;
  ignored_until_s: number;
}

/** Duration of a pass while merging pays: faster ones find pages that are still being written. */
export const HARD_PASS_S = 0.1;
/** The first pass after a fruitless one, and the slowest of all. */
export const EASY_PASS_S = 8;
export const SLOWEST_PASS_S = 512;
/** A page is merged by the second scan at the earliest: the first notes its checksum. */
const LOOKS = 2;
/** Share of a core for easy passes: how long they take follows from it, however much memory there is. */
const EASY_CPU_SHARE = 0.01;
/** 1 MiB: smaller changes are noise, however little memory there is. */
const NOISE_PAGES = 256;
/** If no page was scanned for so long, no process has memory that may be merged. */
const IDLE_S = 3;
const FASTER = 4;
/** Fresh pages that bring no gain for VAIN_S equal no other, and are ignored for IGNORED_S, doubled each time. */
const VAIN_S = 6;
const IGNORED_S = 8;
const IGNORED_MOST_S = 128;

/** The smallest gain that counts: a share of what is saved, or of what could be. */
const worth = (gain: number, now: Reading) =>
  Math.max(NOISE_PAGES, gain * Math.max(now.pages_sharing, known(now) / 2));

/** Pages of a pass, as the last one counted them. */
export const known = (r: Reading) => r.pages_sharing + r.pages_shared + r.pages_unshared + r.pages_volatile;
const saved = (r: Reading) => r.profit ?? r.pages_sharing;
const looked = (r: Reading) => r.pages_scanned ?? r.full_scans;

/** The first step: scans hard. */
export function begin(first: Reading): Control {
  return {
    order: { pass_s: HARD_PASS_S, pages: pagesOf(first) },
    hard: true,
    fresh: 0,
    gone: 0,
    mark: first,
    last: first,
    looked_s: first.time_s,
    gained: first,
    vain: 0,
    ignored_until_s: 0,
  };
}

/**
 * The next step.
 * @param gain what a pass must add to go on, as a share of the pages saved
 */
export function step(was: Control, now: Reading, gain: number): Control {
  const { fresh, gone } = moved(was.last, now);
  const is: Control = { ...was, last: now, fresh: was.fresh + fresh, gone: was.gone + gone };
  if (looked(now) !== looked(was.last)) is.looked_s = now.time_s;
  const enough = worth(gain, now);
  if (is.hard && saved(now) - saved(is.gained) > enough) {
    is.gained = now;
    is.vain = 0;
  }
  if (is.fresh >= enough && now.time_s >= is.ignored_until_s) {
    if (!is.hard || !inVain(is, now)) return hard(is, now);
    const ignored_s = Math.min(IGNORED_MOST_S, IGNORED_S * 2 ** is.vain);
    return ease(
      { ...is, vain: is.vain + 1, ignored_until_s: now.time_s + ignored_s },
      now,
      easyPass(is, now),
      "settled",
    );
  }
  if (is.hard && now.time_s - is.looked_s >= IDLE_S)
    return ease(is, now, EASY_PASS_S, now.pages_sharing === 0 ? "nothing to merge" : "settled");
  if (now.full_scans < is.mark.full_scans + (is.hard ? LOOKS : 1)) return ordered(is, is.order.pass_s, now);
  // Pages that went away with their processes are no loss of merging.
  const won = saved(now) - saved(is.mark) + is.gone;
  if (is.hard) return won > enough ? hard(is, now) : ease(is, now, easyPass(is, now), "settled");
  if (Math.abs(won) <= enough) return ease(is, now, is.order.pass_s * 2, is.rest);
  // After a loss it scans faster, but never hard: memory that is written all the time does not stay merged.
  const faster = is.order.pass_s / FASTER;
  return won > 0 && faster < easyPass(is, now)
    ? hard(is, now)
    : ease(is, now, Math.max(easyPass(is, now), faster), is.rest);
}

const pagesOf = (now: Reading, fresh = 0) => known(now) + fresh;

function ordered(is: Control, pass_s: number, now: Reading): Control {
  return { ...is, order: { pass_s, pages: pagesOf(now, is.fresh) } };
}

/** Hard for a while and for whole passes, and nothing gained. */
const inVain = ({ gained }: Control, now: Reading) =>
  now.time_s - gained.time_s >= VAIN_S && now.full_scans >= gained.full_scans + 2 * LOOKS;

function hard(is: Control, now: Reading): Control {
  const pages = pagesOf(now, is.fresh);
  const gained = is.hard ? is.gained : now;
  return { ...verdict(is, now), gained, hard: true, rest: undefined, order: { pass_s: HARD_PASS_S, pages } };
}

function ease(is: Control, now: Reading, pass_s: number, rest: Rest | undefined): Control {
  const order = { pass_s: Math.min(pass_s, SLOWEST_PASS_S), pages: pagesOf(now) };
  return { ...verdict(is, now), hard: false, rest, order };
}

const verdict = (is: Control, now: Reading): Control => ({ ...is, mark: now, fresh: 0, gone: 0 });

/** How long the fastest easy pass takes: the CPU time of the last ones, spread to EASY_CPU_SHARE of a core. */
function easyPass({ mark }: Control, now: Reading): number {
  const passes = now.full_scans - mark.full_scans;
  const cpu_s = (now.ksmd_cpu_s ?? 0) - (mark.ksmd_cpu_s ?? 0);
  if (passes <= 0) return EASY_PASS_S;
  return Math.min(SLOWEST_PASS_S, Math.max(EASY_PASS_S, cpu_s / passes / EASY_CPU_SHARE));
}

/** Pages that processes got since, and merged pages that went away with their processes. */
function moved(before: Reading, now: Reading): { fresh: number; gone: number } {
  let fresh = 0;
  let gone = 0;
  for (const [pid, { anonymous }] of now.processes)
    fresh += Math.max(0, anonymous - (before.processes.get(pid)?.anonymous ?? 0));
  for (const [pid, { merging, anonymous }] of before.processes) {
    const left = now.processes.get(pid);
    if (left === undefined) gone += merging;
    else if (left.anonymous < anonymous) gone += Math.max(0, merging - left.merging);
  }
  return { fresh, gone };
}
