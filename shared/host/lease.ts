/**
 * The lease on what the kernel has only once (KSM's settings, sysctls), for all hosts of this machine:
 * the first user saves what was there, the last one puts it back. Kept in one file under one lock, so
 * that `down` restores after a crash too.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { fail, hasNoRoom, type MtError } from "../errors.ts";
import { overwriteOwn, readOwnJson, writeOwn } from "../own-place.ts";
import { clearDead, lock } from "./lock.ts";
import { leaseDir } from "./names.ts";
import { run } from "./process.ts";

/** Kernel settings: a path under /sys or /proc/sys → its text. */
export type Settings = Record<string, string>;

interface LeaseFile {
  /** What was there before the first holder, by path. */
  saved: Settings;
  /** Which paths each holder relies on. A holder is "host:experiment" or whatever names one user. */
  holders: Record<string, string[]>;
}

const leaseFile = (resource: string) => join(leaseDir(), `${resource}.json`);

function read(resource: string): LeaseFile {
  const lease = readOwnJson(leaseFile(resource)) as Partial<LeaseFile> | undefined;
  return { saved: lease?.saved ?? {}, holders: lease?.holders ?? {} };
}

function write(resource: string, lease: LeaseFile): void {
  const path = leaseFile(resource);
  if (Object.keys(lease.holders).length === 0) return rmSync(path, { force: true });
  const text = JSON.stringify(lease);
  try {
    writeOwn(path, text);
  } catch (thrown) {
    // One that goes makes it shorter: that needs no room.
    if (!hasNoRoom(thrown) || !overwriteOwn(path, text)) throw thrown;
  }
}

/** Those of other namespaces must be set from the machine's own: a host of `--via local` is not in it. */
const inRootNetns = (path: string) => path.startsWith("/proc/sys/net/");

/**
 * The machine's own namespace, as the namespace of some process. Where init does not let itself be looked
 * at, kthreadd (pid 2) does; where neither is in sight (a container), our own is all there is.
 */
function rootNetns(): string {
  for (const pid of ["1", "2"]) {
    try {
      readlinkSync(`/proc/${pid}/ns/net`);
      return `/proc/${pid}/ns/net`;
    } catch {}
  }
  return "/proc/self/ns/net";
}

/** What is chosen, where the kernel shows all choices: `[none] scan-time` → `none`. */
const chosen = (text: string) => /\[([^\]]+)\]/.exec(text)?.[1] ?? text.trim();

/** What a setting is now, as it would be written. */
export async function readSetting(path: string): Promise<Result<string, MtError>> {
  if (inRootNetns(path)) {
    const got = await run("cat", [path], { netns: rootNetns() });
    return got.andThen((f) =>
      f.code === 0
        ? ok(f.stdout.trim())
        : fail<string>("unavailable", `Cannot read ${path}: ${f.stderr.trim()}`),
    );
  }
  try {
    return ok(chosen(readFileSync(path, "utf8")));
  } catch {
    return fail("unavailable", `Cannot read ${path}: the kernel does not have it`);
  }
}

async function writeSetting(path: string, value: string): Promise<Result<void, MtError>> {
  if (inRootNetns(path)) {
    const done = await run("tee", [path], { netns: rootNetns(), input: value });
    return done.andThen((f) =>
      f.code === 0
        ? ok(undefined)
        : fail<void>("permission", `Cannot set ${path}: ${f.stderr.trim()}`, "run it as root"),
    );
  }
  try {
    writeFileSync(path, value);
    return ok(undefined);
  } catch (thrown) {
    return fail(
      "permission",
      `Cannot set ${path} to ${value}: ${(thrown as NodeJS.ErrnoException).code}`,
      "run it as root",
    );
  }
}

/**
 * Takes a share in `resource` and sets what it asks for. The same holder may come again with more. Where the
 * kernel lets nothing be set, no share is taken: there is nothing to put back.
 * @returns true where nobody held a share before
 */
export async function acquireLease(
  resource: string,
  holder: string,
  wanted: Settings,
): Promise<Result<boolean, MtError>> {
  const unlock = await lock(join(leaseDir(), `${resource}.lock`), `the lease on ${resource}`);
  if (unlock.isErr()) return err(unlock.error);
  try {
    const lease = read(resource);
    const before = structuredClone(lease);
    const first = Object.keys(lease.holders).length === 0;
    for (const path of Object.keys(wanted)) {
      if (path in lease.saved) continue;
      const was = await readSetting(path);
      if (was.isErr()) return err(was.error);
      lease.saved[path] = was.value;
    }
    lease.holders[holder] = [...new Set([...(lease.holders[holder] ?? []), ...Object.keys(wanted)])];
    // First noted, then done: a crash in between costs a restore of what is already there.
    write(resource, lease);
    for (const [n, [path, value]] of Object.entries(wanted).entries()) {
      const done = await writeSetting(path, value);
      if (done.isOk()) continue;
      if (n === 0) write(resource, before);
      return err(done.error);
    }
    return ok(first);
  } finally {
    unlock.value();
  }
}

/**
 * Gives a share back; the last one puts back what the first one found. Twice is fine.
 * @param holders which holders go; by a predicate, so that a host can drop all of its own
 * @returns true where the settings were put back
 */
export async function releaseLease(
  resource: string,
  goes: (holder: string) => boolean,
  beforeRestore?: (saved: Settings) => Promise<Result<void, MtError>>,
): Promise<Result<boolean, MtError>> {
  if (!existsSync(leaseFile(resource))) return ok(false);
  const unlock = await lock(join(leaseDir(), `${resource}.lock`), `the lease on ${resource}`, 30, true);
  if (unlock.isErr()) return err(unlock.error);
  try {
    const lease = read(resource);
    for (const holder of Object.keys(lease.holders)) if (goes(holder)) delete lease.holders[holder];
    if (Object.keys(lease.holders).length > 0) {
      write(resource, lease);
      return ok(false);
    }
    const before = await beforeRestore?.(lease.saved);
    if (before?.isErr()) return err(before.error);
    // The other way round than they were set: one may lock another (KSM's advisor its pages_to_scan).
    for (const [path, value] of Object.entries(lease.saved).reverse()) {
      const done = await writeSetting(path, value);
      if (done.isErr()) return err(done.error);
    }
    write(resource, lease);
    return ok(true);
  } finally {
    unlock.value();
    // The directory goes with the last lease; another one's files keep it, but for locks of the dead.
    try {
      if (!readdirSync(leaseDir()).some((f) => f.endsWith(".json")))
        for (const file of readdirSync(leaseDir()))
          if (file.endsWith(".lock")) clearDead(join(leaseDir(), file));
      const { rmdirSync } = await import("node:fs");
      rmdirSync(leaseDir());
    } catch {}
  }
}

/** Gives back every share of these holders, whatever the resource: a host that is switched off. */
export async function releaseAllLeases(goes: (holder: string) => boolean): Promise<Result<void, MtError>> {
  // In order of name, so that one laid over another ("ksm-scan" over "ksm") goes before it.
  const resources = existsSync(leaseDir()) ? readdirSync(leaseDir()).filter((f) => f.endsWith(".json")) : [];
  for (const file of resources.sort()) {
    const released = await releaseLease(file.slice(0, -".json".length), goes);
    if (released.isErr()) return err(released.error);
  }
  return ok(undefined);
}

export function leaseHolders(resource: string): string[] {
  return Object.keys(read(resource).holders);
}

/** What is held now: who shares a resource, and which settings they rely on. */
export function heldLeases(): { file: string; holders: string[]; paths: string[] }[] {
  const files = existsSync(leaseDir()) ? readdirSync(leaseDir()).filter((f) => f.endsWith(".json")) : [];
  return files.map((file) => {
    const lease = read(file.slice(0, -".json".length));
    return {
      file: join(leaseDir(), file),
      holders: Object.keys(lease.holders),
      paths: Object.keys(lease.saved),
    };
  });
}
