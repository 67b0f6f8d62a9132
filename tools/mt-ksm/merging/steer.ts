/**
 * Applies the controller's orders. One process a machine, the holder of a lock, sets the rate of the kernel's thread;
 * the others follow the same counters, so they know as much and can take over when it dies.
 */
import { setTimeout } from "node:timers/promises";
import { ok, type Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import { lock, readHolder } from "../../../shared/host/lock.ts";
import { begin, type Control, type Order, type Reading, step } from "./controller.ts";
import { counter, has, ksmdCpuSeconds, pageSize } from "./kernel.ts";
import { processReader } from "./processes.ts";
import { setRate, steeringLock, stopSetting } from "./settings.ts";

/** How often counters are read: while it scans hard, and at rest. */
const HARD_MS = 500;
const EASY_MS = 2000;
/** How long the kernel's thread sleeps between two batches. */
const HARD_SLEEP_MS = 10;
const EASY_SLEEP_MS = 200;
/** The smallest batch of hard scanning, before the size of the memory is known: 2 GiB a second. */
const LEAST_HARD_PAGES = 5000;

/** Tells the process that steers to scan hard again: somebody waits for the gain to stop. */
const AGAIN = "SIGUSR2";

export interface Tick {
  control: Control;
  /** Whether it is this process that steers. */
  steers: boolean;
  seconds: number;
}

export interface How {
  gain: number;
  signal: AbortSignal;
  /** Called with every look at the counters. */
  enough: (tick: Tick) => boolean;
  /** `enough` is called after timeout_s at the latest, and at least every every_s. */
  timeout_s?: number;
  every_s?: number;
}

/**
 * Steers, or follows the counters, until `enough` returns true or the signal is aborted. Then the settings are those
 * of the "ksm" lease again.
 * @param holder who holds the "ksm" lease
 */
export async function steer(holder: string, how: How): Promise<MtError | undefined> {
  const processes = processReader();
  const began = performance.now();
  let control = begin(read(processes));
  let unlock: (() => void) | undefined;
  let problem: MtError | undefined;
  const again = () => {
    control = begin(control.last);
    wake.abort();
  };
  let wake = new AbortController();
  process.on(AGAIN, again);
  askToScanHard();
  try {
    for (;;) {
      if (!unlock) {
        const got = await tryToSteer();
        if (got.isErr()) {
          problem = got.error;
          break;
        }
        unlock = got.value;
      }
      if (unlock) {
        const set = await setRate(holder, rateOf(control.order, control.hard));
        if (set.isErr()) {
          problem = set.error;
          break;
        }
      }
      wake = new AbortController();
      const wait_ms = untilNext((performance.now() - began) / 1000, control.hard, how);
      await pause(wait_ms, how.signal, wake.signal);
      control = step(control, read(processes), how.gain);
      const seconds = (performance.now() - began) / 1000;
      if (how.enough({ control, steers: unlock !== undefined, seconds }) || how.signal.aborted) break;
    }
  } finally {
    process.off(AGAIN, again);
    if (unlock) {
      const back = await stopSetting();
      if (back.isErr()) problem ??= back.error;
      unlock();
    }
  }
  return problem;
}

/** Milliseconds until the counters are read again. */
function untilNext(
  seconds: number,
  hard: boolean,
  { timeout_s = Number.POSITIVE_INFINITY, every_s }: How,
): number {
  const turn_s = every_s ? every_s - (seconds % every_s) : Number.POSITIVE_INFINITY;
  return Math.max(0, Math.min(hard ? HARD_MS : EASY_MS, 1000 * Math.min(turn_s, timeout_s - seconds)));
}

/** A process that steers and is at rest would keep a new one waiting for its slowest passes. */
function askToScanHard(): void {
  const steers = readHolder(steeringLock());
  try {
    if (steers) process.kill(steers.pid, AGAIN);
  } catch {
    // It has just ended: then we steer.
  }
}

/** Undefined where another process of this machine steers. */
async function tryToSteer(): Promise<Result<(() => void) | undefined, MtError>> {
  if (readHolder(steeringLock())) return ok(undefined);
  const got = await lock(steeringLock(), "steering KSM", 0);
  return got.isErr() && got.error.code === "busy" ? ok(undefined) : got;
}

/** The controller's order as settings of the kernel. */
export function rateOf(
  { pass_s, pages }: Order,
  hard: boolean,
): { pages_to_scan: number; sleep_millisecs: number } {
  const sleep_millisecs = hard ? HARD_SLEEP_MS : EASY_SLEEP_MS;
  const batch = Math.ceil((pages / pass_s) * (sleep_millisecs / 1000));
  return { pages_to_scan: Math.max(batch, hard ? LEAST_HARD_PAGES : 1), sleep_millisecs };
}

function read(processes: () => Reading["processes"]): Reading {
  return {
    time_s: performance.now() / 1000,
    pages_sharing: counter("pages_sharing"),
    pages_shared: counter("pages_shared"),
    pages_unshared: counter("pages_unshared"),
    pages_volatile: counter("pages_volatile"),
    full_scans: counter("full_scans"),
    ...(has("pages_scanned") ? { pages_scanned: counter("pages_scanned") } : {}),
    ...(has("general_profit") ? { profit: counter("general_profit") / pageSize() } : {}),
    ...(ksmdCpuSeconds() === undefined ? {} : { ksmd_cpu_s: ksmdCpuSeconds() }),
    processes: processes(),
  };
}

/** Ends early where one of the signals comes. */
const pause = (ms: number, ...signals: AbortSignal[]) =>
  setTimeout(ms, undefined, { signal: AbortSignal.any(signals) }).catch(() => undefined);
