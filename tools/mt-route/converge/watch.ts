/**
 * Watches the kernel tables of routers until each is whole: one loop for all of them, which reads
 * /proc and starts no process. Times are told from the start of each router's BIRD.
 */

import { isAlive } from "../../../shared/host/process.ts";
import { writeOwn } from "../../../shared/own-place.ts";
import type { Router } from "../../../shared/records/index.ts";
import { ageOf, type BirdFiles, readFirstLine, reasonIn } from "../engines/bird.ts";
import { isConverged, type Seen } from "./goal.ts";
import { readTable } from "./table.ts";

const POLL_MS = 100;
/** A pass over many tables costs something: leave the cores to the routers. */
const POLL_MS_PER_ROUTER = 2;

export type Watched =
  | { is: "converged"; seconds: number | undefined }
  | { is: "ended"; why: string | undefined }
  | { is: "late"; table: Set<string> | undefined };

interface Entry {
  router: Router;
  pid: number;
  files: BirdFiles;
  /** Whether it was started or changed now, so that its age says how long it took. */
  fresh: boolean;
  /** Milliseconds since the epoch; unknown until the end record has come. */
  until: number;
  done: (watched: Watched) => void;
}

/** @param seen prefixes of the segments that were seen; read anew at every look */
export function watchTables(seen: Seen, signal: AbortSignal) {
  const entries = new Set<Entry>();
  let ended = false;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const look = (entry: Entry): Watched | undefined => {
    const table = readTable(entry.pid);
    // Without `reaches` the plan must have been seen whole to know what is wanted.
    if (table && (entry.router.reaches || ended) && isConverged(entry.router, table, seen)) {
      const seconds = entry.fresh ? round(ageOf(entry.pid)) : undefined;
      if (seconds !== undefined) remember(entry.files, seconds);
      return { is: "converged", seconds: seconds ?? remembered(entry.files) };
    }
    if (!isAlive(entry.pid, entry.files.config)) return { is: "ended", why: reasonIn(entry.files.log) };
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
    /** Watches from now on; the promise is kept once it has converged or ended, or is late. */
    add(router: Router, pid: number, files: BirdFiles, fresh: boolean): Promise<Watched> {
      return new Promise((done) => {
        entries.add({ router, pid, files, fresh, until: Number.POSITIVE_INFINITY, done });
        timer ??= setTimeout(pass, POLL_MS);
      });
    },
    /** The plan is whole: from now on there is a limit. */
    end(timeout_s: number): void {
      ended = true;
      for (const entry of entries) entry.until = Date.now() + timeout_s * 1000;
      if (timer) clearTimeout(timer);
      pass();
    },
    /** Looks no more. */
    stop(): void {
      if (timer) clearTimeout(timer);
      entries.clear();
    },
  };
}

/** For whoever asks later; where it cannot be written (no room, taken down meanwhile) they are not told how long. */
function remember({ converged }: BirdFiles, seconds: number): void {
  try {
    writeOwn(converged, `${seconds}\n`);
  } catch {}
}

/** What an earlier run measured. */
export function remembered(files: BirdFiles): number | undefined {
  const seconds = Number(readFirstLine(files.converged) || Number.NaN);
  return Number.isNaN(seconds) ? undefined : seconds;
}

const round = (seconds: number | undefined) =>
  seconds === undefined ? undefined : Math.round(seconds * 100) / 100;
