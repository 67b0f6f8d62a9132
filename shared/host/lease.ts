/**
 * Leases on settings that the kernel has once for the machine (KSM, sysctls), shared by all its hosts: the first holder
 * saves the values, the last one restores them. Each is one file under one lock, so `down` restores after a crash too.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { fail, hasNoRoom, type MtError } from "../errors.ts";
import { overwriteOwn, readOwnJson, writeOwn } from "../own-place.ts";
import { clearDead, lock } from "./lock.ts";
import { leaseDir } from "./names.ts";
import { run } from "./process.ts";

/** Kernel settings: path under /sys or /proc/sys → value as text. */
export type Settings = Record<string, string>;

interface LeaseFile {
  /** The values before the first holder, by path. */
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
    // Removing a holder makes it shorter, which works on a full disk.
    if (!hasNoRoom(thrown) || !overwriteOwn(path, text)) throw thrown;
  }
}

/** Settings that have to be made in the machine's own network namespace: a host of `--via local` is in another. */
const inRootNetns = (path: string) => path.startsWith("/proc/sys/net/");

/**
 * The machine's own network namespace, as a path below /proc. kthreadd (pid 2) if init's cannot be read; our own if
 * neither is visible (in a container).
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

/** The chosen value where the kernel lists all: `[none] scan-time` → `none`. */
const chosen = (text: string) => /\[([^\]]+)\]/.exec(text)?.[1] ?? text.trim();

/** A setting's current value, in the form in which it is written. */
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
 * Takes a share in `resource` and makes the wanted settings. The same holder may come again with more. If the first
 * setting already fails, no share is taken. Errors: `busy` (the lock), and those of reading and writing settings.
 * @returns true if nobody held a share before
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
    // Noted before it is done: a crash in between only means that a value is restored needlessly.
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
 * Releases shares; with the last one the saved settings are restored. Doing it twice is fine. Errors as above.
 * @param goes which holders go: a predicate, so that a host can release all of its own
 * @param beforeRestore called before the settings are restored; an error of it ends the release
 * @returns true if the settings were restored
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
    // In reverse order: one setting may lock another (KSM's advisor its pages_to_scan).
    for (const [path, value] of Object.entries(lease.saved).reverse()) {
      const done = await writeSetting(path, value);
      if (done.isErr()) return err(done.error);
    }
    write(resource, lease);
    return ok(true);
  } finally {
    unlock.value();
    // Remove the directory with the last lease. Locks of dead holders do not keep it.
    try {
      if (!readdirSync(leaseDir()).some((f) => f.endsWith(".json")))
        for (const file of readdirSync(leaseDir()))
          if (file.endsWith(".lock")) clearDead(join(leaseDir(), file));
      const { rmdirSync } = await import("node:fs");
      rmdirSync(leaseDir());
    } catch {}
  }
}

/** Releases all shares of these holders, of every resource: for a host that is taken down. */
export async function releaseAllLeases(goes: (holder: string) => boolean): Promise<Result<void, MtError>> {
  // By file name, so that a lease laid over another (ksm-scan.json over ksm.json) goes first.
  const resources = existsSync(leaseDir()) ? readdirSync(leaseDir()).filter((f) => f.endsWith(".json")) : [];
  for (const file of resources.sort()) {
    const released = await releaseLease(file.slice(0, -".json".length), goes);
    if (released.isErr()) return err(released.error);
  }
  return ok(undefined);
}

/** The holders of a resource. */
export function leaseHolders(resource: string): string[] {
  return Object.keys(read(resource).holders);
}

/** All leases that are held: the file, the holders, and the settings that they rely on. */
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
