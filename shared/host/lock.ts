/**
 * Locks that end with their holder: a file that names a living process, put into place by link(2) in one step.
 * (flock would need FFI.)
 */
import { linkSync, readFileSync, rmSync } from "node:fs";
import { ok, type Result } from "neverthrow";
import { fail, hasNoRoom, type MtError } from "../errors.ts";
import { checkOwn, writeNewOwn } from "../own-place.ts";
import { waitFor } from "./process.ts";
import { statOf } from "./processes.ts";

/** Who holds a lock: a process, told from a later one with its pid by its start time. */
export interface Holder {
  pid: number;
  started: string;
  since: string;
  what: string;
}

/** The kernel's start time of a process, in clock ticks since boot; undefined where there is none. */
export function startTime(pid: number): string | undefined {
  const stat = statOf(pid);
  return stat === undefined || stat.state === "Z" ? undefined : stat.started;
}

/** Who holds the lock now; undefined if it is free, its holder is dead, or it cannot be read. */
export function readHolder(path: string): Holder | undefined {
  try {
    const state = look(path);
    return state === "free" || state === "dead" ? undefined : state;
  } catch {
    return undefined;
  }
}

/**
 * Who holds the lock, from a single read: `free` and `dead` must not be confused, as a lock that was just released may
 * be another's by the time a dead one would be removed.
 */
function look(path: string): Holder | "free" | "dead" {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return "free";
    throw thrown;
  }
  try {
    const holder = JSON.parse(text) as Holder;
    return startTime(holder.pid) === holder.started ? holder : "dead";
  } catch {
    return "dead";
  }
}

/** Whether this process still holds the lock: its directory may have been removed, and the lock taken by another. */
export function holdsStill(path: string): boolean {
  try {
    const state = look(path);
    return typeof state === "object" && state.pid === process.pid;
  } catch {
    // It cannot be read now; that does not mean it is gone.
    return true;
  }
}

let calls = 0;

/**
 * Takes the lock, waiting up to `timeout_s`; then `busy`, with the holder. Throws if the lock cannot be written.
 * @param what what the holder does, for the message to whoever has to wait
 * @param without_room for `down`, which must work on a full disk: if the lock cannot be written, wait until nobody
 * holds it and go on without
 * @returns the function that releases it
 */
export async function lock(
  path: string,
  what: string,
  timeout_s = 30,
  without_room = false,
): Promise<Result<() => void, MtError>> {
  // One file per call: two calls of one process must not remove each other's.
  const mine = `${path}.${process.pid}.${calls++}`;
  checkOwn(path);
  const holder: Holder = {
    pid: process.pid,
    started: startTime(process.pid) ?? "0",
    since: new Date().toISOString(),
    what,
  };
  try {
    noteHolder(mine, holder);
    const got = await waitFor(() => (tryLock(path, mine) ? true : undefined), timeout_s, 10);
    if (got) return ok(() => rmSync(path, { force: true }));
    return held(path);
  } catch (thrown) {
    if (!without_room || !hasNoRoom(thrown)) throw thrown;
    const free = await waitFor(() => (readHolder(path) === undefined ? true : undefined), timeout_s, 10);
    return free ? ok(() => {}) : held(path);
  } finally {
    try {
      rmSync(mine, { force: true });
    } catch {
      // The error of making it is the one to report.
    }
  }
}

function held(path: string): Result<never, MtError> {
  const by = readHolder(path);
  return fail(
    "busy",
    `Cannot lock ${path}: ${by ? `${by.what} (pid ${by.pid}) holds it since ${by.since}` : "it stays held"}`,
    "wait for it, then try again",
  );
}

/** Writes the file that is linked into place. Its directory may be removed (with the last lease) meanwhile: then again. */
function noteHolder(mine: string, holder: Holder): void {
  for (let attempt = 1; ; attempt++) {
    try {
      return writeNewOwn(mine, JSON.stringify(holder));
    } catch (thrown) {
      const { code } = thrown as NodeJS.ErrnoException;
      if ((code !== "ENOENT" && code !== "EEXIST") || attempt === 20) throw thrown;
      // Left by an earlier process with our pid, or a link planted there.
      if (code === "EEXIST") rmSync(mine, { force: true });
    }
  }
}

function tryLock(path: string, mine: string): boolean {
  try {
    linkSync(mine, path);
    return true;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== "EEXIST") throw thrown;
  }
  if (look(path) === "dead") breakDead(path, mine);
  return false;
}

/** Removes the lock if its holder is dead. */
export function clearDead(path: string): void {
  if (look(path) !== "dead") return;
  const mine = `${path}.${process.pid}.${calls++}`;
  try {
    noteHolder(mine, {
      pid: process.pid,
      started: startTime(process.pid) ?? "0",
      since: new Date().toISOString(),
      what: "clearing away",
    });
    breakDead(path, mine);
  } catch (thrown) {
    // On a full disk nobody else can have taken it: it is still the dead holder's.
    if (!hasNoRoom(thrown)) throw thrown;
    if (look(path) === "dead") rmSync(path, { force: true });
  } finally {
    rmSync(mine, { force: true });
  }
}

/**
 * Removes a dead holder's lock. Only the holder of `.break` may, after reading the lock again: otherwise two processes
 * that both saw the dead holder could remove the lock of the next one.
 */
function breakDead(path: string, mine: string): void {
  const breaker = `${path}.break`;
  try {
    linkSync(mine, breaker);
  } catch {
    if (look(breaker) === "dead") rmSync(breaker, { force: true });
    return;
  }
  try {
    if (look(path) === "dead") rmSync(path, { force: true });
  } finally {
    rmSync(breaker, { force: true });
  }
}
