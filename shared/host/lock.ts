/**
 * Locks that die with their holder: a directory entry that names a living process, made in one step.
 * (flock needs FFI here; a name that is linked into place needs none.)
 */
import { linkSync, readFileSync, rmSync } from "node:fs";
import { ok, type Result } from "neverthrow";
import { fail, hasNoRoom, type MtError } from "../errors.ts";
import { checkOwn, writeNewOwn } from "../own-place.ts";
import { waitFor } from "./process.ts";
import { statOf } from "./processes.ts";

/** Who holds a lock: its process, told from a later one with the same pid by its start time. */
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

/** Who holds the lock now, as far as it can be seen. */
export function readHolder(path: string): Holder | undefined {
  try {
    const state = look(path);
    return state === "free" || state === "dead" ? undefined : state;
  } catch {
    return undefined;
  }
}

/**
 * Who holds the lock, told apart by one look at it: nobody, or one that is dead. (One that has just been let
 * go is not dead: by the time that it would be taken away, another's may stand there.)
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

/** Whether this process holds the lock still: its directory may have been taken away, and another's stand in its place. */
export function holdsStill(path: string): boolean {
  try {
    const state = look(path);
    return typeof state === "object" && state.pid === process.pid;
  } catch {
    // It cannot be read now, which does not mean that it is gone.
    return true;
  }
}

let calls = 0;

/**
 * Takes the lock, waiting up to `timeout_s`; gives the function that lets it go.
 * @param what what the holder is doing, for whoever has to wait
 * @param without_room for taking down, which must work on a full disk: where the lock cannot be written, goes on
 * without it once nobody holds it
 */
export async function lock(
  path: string,
  what: string,
  timeout_s = 30,
  without_room = false,
): Promise<Result<() => void, MtError>> {
  // A file of its own a call: two calls of one process must not share, and take away, each other's.
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
      // Where it could not be made, its error is the one to tell.
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

/** Writes the file that is linked into place. Its directory may go (with the last lease) just before. */
function noteHolder(mine: string, holder: Holder): void {
  for (let attempt = 1; ; attempt++) {
    try {
      return writeNewOwn(mine, JSON.stringify(holder));
    } catch (thrown) {
      const { code } = thrown as NodeJS.ErrnoException;
      if ((code !== "ENOENT" && code !== "EEXIST") || attempt === 20) throw thrown;
      // Of an earlier process with our pid, or a link that was to be followed.
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

/** Takes away the lock of one that is dead, where it is of one; whoever comes then finds it free. */
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
    // Without room nobody else can take it either, so that it is still the dead one's.
    if (!hasNoRoom(thrown)) throw thrown;
    if (look(path) === "dead") rmSync(path, { force: true });
  } finally {
    rmSync(mine, { force: true });
  }
}

/**
 * Only who holds the breaker may take a dead one's lock away, and looks again first: else one that saw the
 * dead holder could take away the lock of the one that came after it.
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
