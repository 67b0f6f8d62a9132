/**
 * Locks that die with their holder: a directory entry that names a living process, made in one step.
 * (flock needs FFI here; a name that is linked into place needs none.)
 */
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "./errors.ts";
import { waitFor } from "./process.ts";

/** Who holds a lock: its process, told from a later one with the same pid by its start time. */
export interface Holder {
  pid: number;
  started: string;
  since: string;
  what: string;
}

/** The kernel's start time of a process, in clock ticks since boot; undefined where there is none. */
export function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

export function readHolder(path: string): Holder | undefined {
  try {
    const holder = JSON.parse(readFileSync(path, "utf8")) as Holder;
    return startTime(holder.pid) === holder.started ? holder : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Takes the lock, waiting up to `timeout_s`; gives the function that lets it go.
 * @param what what the holder is doing, for whoever has to wait
 */
export async function lock(path: string, what: string, timeout_s = 30): Promise<Result<() => void, MtError>> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const mine = `${path}.${process.pid}`;
  const holder: Holder = { pid: process.pid, started: startTime(process.pid) ?? "0", since: new Date().toISOString(), what };
  writeFileSync(mine, JSON.stringify(holder), { mode: 0o600 });
  try {
    const got = await waitFor(() => (tryLock(path, mine) ? true : undefined), timeout_s, 10);
    if (got) return ok(() => rmSync(path, { force: true }));
    const by = readHolder(path);
    return fail("busy", `Cannot lock ${path}: ${by ? `${by.what} (pid ${by.pid}) holds it since ${by.since}` : "it stays held"}`, "wait for it, then try again");
  } finally {
    rmSync(mine, { force: true });
  }
}

function tryLock(path: string, mine: string): boolean {
  try {
    linkSync(mine, path);
    return true;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== "EEXIST") throw thrown;
  }
  if (readHolder(path)) return false;
  // Its holder is dead. Only one of those who see that may take it away: a rename succeeds once.
  try {
    const dead = `${mine}.dead`;
    renameSync(path, dead);
    const revived = readHolder(dead);
    if (revived) linkSync(dead, path);
    rmSync(dead, { force: true });
  } catch {}
  return false;
}
