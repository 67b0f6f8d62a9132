/**
 * Watches the kernel tables of routers until each has converged: one loop for all of them, which reads
 * /proc and starts no process. Times count from the start of each router's daemon.
 */
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ageOf } from "../../../shared/host/processes.ts";
import { writeOwn } from "../../../shared/own-place.ts";
import type { Router } from "../../../shared/records/index.ts";
import type { Daemon } from "../engines/routers-here.ts";
import { isConverged, type Seen } from "./goal.ts";
import { readTable } from "./table.ts";

const POLL_MS = 100;
/** Reading many tables takes CPU time that the routers need. */
const POLL_MS_PER_ROUTER = 2;

export type Watched =
  | { is: "converged"; seconds: number | undefined }
  | { is: "ended"; why: string | undefined }
  | { is: "late"; table: Set<string> | undefined };

interface Entry {
  router: Router;
  daemon: Daemon;
  /** Whether it was started by this run, so that its age says how long convergence took. */
  fresh: boolean;
  /** Milliseconds since the epoch; unknown until the end record has come. */
  until: number;
  done: (watched: Watched) => void;
}

/** @param seen prefixes of the segments that were seen; may grow while this watches */
export function watchTables(seen: Seen, signal: AbortSignal) {
  const entries = new Set<Entry>();
  let ended = false;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const look = (entry: Entry): Watched | undefined => {
    const { engine, dir, pid } = entry.daemon;
    const table = readTable(pid);
    // Without `reaches`, what is wanted is known only once all segments have come.
    if (table && (entry.router.reaches || ended) && isConverged(entry.router, table, seen)) {
      const seconds = entry.fresh ? round(ageOf(pid)) : undefined;
      if (seconds !== undefined) keepTime(dir, seconds);
      return { is: "converged", seconds: seconds ?? keptTime(dir) };
    }
    if (!engine.isRunning(dir, pid)) return { is: "ended", why: engine.lastError(dir) };
    if (Date.now() >= entry.until || signal.aborted) return { is: "late", table };
    return undefined;
  };
  const pass = () => {
    timer = undefined;
    for (const entry of entries) {
      const watched = look(entry);
      if (!watched) continue;
      entries.delete(entry);
      entry.done(watched);
    }
    if (entries.size > 0) timer = setTimeout(pass, Math.max(POLL_MS, entries.size * POLL_MS_PER_ROUTER));
  };

  return {
    /** Watches from now on; resolves once the router has converged, its daemon has ended, or it is late. */
    add(router: Router, daemon: Daemon, fresh: boolean): Promise<Watched> {
      return new Promise((done) => {
        entries.add({ router, daemon, fresh, until: Number.POSITIVE_INFINITY, done });
        timer ??= setTimeout(pass, POLL_MS);
      });
    },
    /** All records have come: from now on there is a time limit. */
    end(timeout_s: number): void {
      ended = true;
      for (const entry of entries) entry.until = Date.now() + timeout_s * 1000;
      if (timer) clearTimeout(timer);
      pass();
    },
    /** Stops watching. */
    stop(): void {
      if (timer) clearTimeout(timer);
      entries.clear();
    },
  };
}

const timeFile = (dir: string) => join(dir, "converged_s");

/** For later runs. Where it cannot be written (disk full, taken down meanwhile), they do not say how long it took. */
function keepTime(dir: string, seconds: number): void {
  try {
    writeOwn(timeFile(dir), `${seconds}\n`);
  } catch {}
}

/** How long a router took to converge, as an earlier run measured it. */
export function keptTime(dir: string): number | undefined {
  try {
    const seconds = Number(readFileSync(timeFile(dir), "utf8").trim() || Number.NaN);
    return Number.isNaN(seconds) ? undefined : seconds;
  } catch {
    return undefined;
  }
}

/** It is started again, or configured anew: what was measured no longer holds. */
export const forgetTime = (dir: string): void => rmSync(timeFile(dir), { force: true });

const round = (seconds: number | undefined) =>
  seconds === undefined ? undefined : Math.round(seconds * 100) / 100;
