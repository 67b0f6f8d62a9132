/**
 * A template: one guest of an image that has booted to the barrier and was stopped there, as two files. `ram` is its
 * memory, which clones map privately; `state` is that of its devices. Made once a machine for each set of what clones
 * cannot change, kept for the next launch, and made anew where the files are not as they were noted.
 */
import { createHash } from "node:crypto";
import {
  closeSync,
  fsync,
  ftruncateSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { err, ok, type Result } from "neverthrow";
import { type MtError, MtFailure, mtError, toMtError } from "../../../shared/errors.ts";
import { lock, startTime } from "../../../shared/host/lock.ts";
import { cacheDir } from "../../../shared/host/names.ts";
import { runOk } from "../../../shared/host/process.ts";
import { openOwn, ownDir, removeOwn, writeOwn } from "../../../shared/own-place.ts";
import type { Guest, Image } from "../../../shared/records/index.ts";
import { guestFiles } from "../machine/guest-files.ts";
import { connectMachine, consoleTail, type Machine, spawnQemu } from "../machine/machine.ts";
import { SAVE_S, STATE_SOCKET, saveState } from "../machine/migrate.ts";
import { endGuests, livingIn } from "../machine/processes.ts";
import type { Boot, Platform } from "../platforms/platform.ts";
import { platformOf } from "../platforms/platforms.ts";

/** A new number makes all templates anew: to be raised when what a template contains changes. */
const FORMAT = 2;
const MIB = 1024 * 1024;
/** Beyond the boot's own time: a second launch that wants the same template waits as long as the first may take. */
const LOCK_EXTRA_S = SAVE_S + 30;
/** Free space needed besides the memory itself. */
const SPARE_MIB = 64;

export interface Template {
  key: string;
  ram: string;
  state: string;
  /** Inode, size and time of change of both files; equal as long as the files are the same. */
  stamp: string;
}

/** Stands beside the two files; a template that differs from its note is not used. */
interface Note {
  format: number;
  qemu: string;
  image: string;
  cores: number;
  mem_mib: number;
  made: string;
  boot_s: number;
  ram: { bytes: number; changed: string };
  state: { bytes: number; sha256: string };
}

const templatesDir = () => join(cacheDir(), "templates");
/** Held by whoever makes or removes the template. */
const lockOf = (key: string) => join(templatesDir(), `${key}.lock`);
/** A template's directory, whole or in the making: all else in there is locks and what their waiters have. */
const KEY_OR_PART = /^([0-9a-f]{24})(?:\.new)?$/;
/** The file of a process that waits for a lock. */
const WAITER = /\.lock\.(\d+)\.\d+$/;
/** One look, and another one where the holder is dead. */
const GC_LOCK_S = 0.1;
/** Throws where one is missing. */
function filesOf(key: string): Template {
  const [ram, state] = ["ram", "state"].map((name) => join(templatesDir(), key, name)) as [string, string];
  const stamp = [ram, state].map((file) => {
    const { ino, size, mtimeNs } = statSync(file, { bigint: true });
    return [ino, size, mtimeNs].join(" ");
  });
  return { key, ram, state, stamp: stamp.join() };
}
const noteFile = (dir: string) => join(dir, "template.json");

/** `QEMU emulator version 7.2.x …`: device state of one version is not for another. */
export const qemuVersion = async (program: string): Promise<Result<string, MtError>> =>
  (await runOk(program, ["--version"], { timeout_s: 10 })).map(({ stdout }) => stdout.split("\n")[0]!);

/** The version that guests of an image run in; each program is asked once. */
export function qemuVersions(): (image: Image) => Promise<Result<string, MtError>> {
  const asked = new Map<string, Promise<Result<string, MtError>>>();
  return async (image) => {
    const platform = platformOf(image);
    if (platform.isErr()) return err(platform.error);
    const { qemu } = platform.value;
    const version = asked.get(qemu) ?? qemuVersion(qemu);
    asked.set(qemu, version);
    return version;
  };
}

/** The guest that becomes the template of `boot`: equal in all that a clone cannot change, without an identity. */
function prototypeOf(boot: Boot, key: string, dir: string): Boot {
  const guest: Guest = {
    ...boot.guest,
    id: "template",
    index: 2 ** 32 - 1,
    interfaces: boot.guest.interfaces.map(() => ({ segment: "none" })),
  };
  // No experiment can have this name, so its taps are made by QEMU, on no bridge, and go with it.
  const experiment = `template:${key}`;
  return { ...boot, experiment, guest, dir, memory: { path: join(dir, "ram"), role: "template" } };
}

/** The key of a template: a hash of the guest's whole command line, which names its files by digest, and QEMU's version. */
export function templateKey(boot: Boot, qemu: string): string {
  const argv = boot.platform.argv(prototypeOf(boot, "", ""));
  return createHash("sha256")
    .update(JSON.stringify([FORMAT, qemu, argv]))
    .digest("hex")
    .slice(0, 24);
}

/**
 * The template for a guest: as it is kept, or made now.
 * @param timeout_s how long its guest may take to the barrier
 */
export async function templateFor(
  boot: Boot,
  qemu: string,
  timeout_s: number,
): Promise<Result<Template, MtError>> {
  const key = templateKey(boot, qemu);
  const known = kept(key);
  if (known) return ok(known);
  let unlock: (() => void) | undefined;
  try {
    const what = `making a template of image ${boot.guest.image}`;
    const locked = await lock(lockOf(key), what, timeout_s + LOCK_EXTRA_S);
    if (locked.isErr()) return err(locked.error);
    unlock = locked.value;
    // Whoever had the lock before us may have made it.
    return ok(kept(key) ?? (await make(boot, key, qemu, timeout_s)));
  } catch (thrown) {
    return err(toMtError(thrown));
  } finally {
    unlock?.();
  }
}

/** Whether its files are still the same. */
export function unchanged(template: Template): boolean {
  try {
    return filesOf(template.key).stamp === template.stamp;
  } catch {
    return false;
  }
}

/** The template that is kept, where it agrees with its note. The memory is compared by size and time of change alone. */
function kept(key: string): Template | undefined {
  try {
    const template = filesOf(key);
    const note = JSON.parse(readFileSync(noteFile(join(templatesDir(), key)), "utf8")) as Note;
    const ram = statSync(template.ram, { bigint: true });
    const state = readFileSync(template.state);
    const same =
      note.format === FORMAT &&
      Number(ram.size) === note.ram.bytes &&
      String(ram.mtimeNs) === note.ram.changed &&
      state.length === note.state.bytes &&
      sha256(state) === note.state.sha256;
    return same ? template : undefined;
  } catch {
    return undefined;
  }
}

const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

/** Throws an MtFailure where it cannot be made. */
async function make(boot: Boot, key: string, qemu: string, timeout_s: number): Promise<Template> {
  const dir = join(templatesDir(), `${key}.new`);
  const { mem_mib } = boot.guest;
  // Left by a maker that was killed.
  await endGuests(livingIn(dir));
  removeOwn(dir);
  ownDir(dir);
  const { bavail, bsize } = statfsSync(dir);
  if (bavail * bsize < (mem_mib + SPARE_MIB) * MIB)
    throw new MtFailure(
      mtError(
        "io",
        `Cannot make a template: ${dir} has ${Math.floor((bavail * bsize) / MIB)} MiB free, it takes ${mem_mib + SPARE_MIB}`,
        "make room there, or set MT_CACHE to a directory that has it",
      ),
    );
  const prototype = prototypeOf(boot, key, dir);
  const began = Date.now();
  let pid: number | undefined;
  let ram_fd: number | undefined;
  // spawnQemu empties the directory, so the memory's file is made by its `prepare`.
  const ram_path = join(dir, "ram");
  const state_path = join(dir, "state");
  try {
    const spawned = spawnQemu(prototype, () => {
      ram_fd = openOwn(ram_path, "new");
      ftruncateSync(ram_fd, mem_mib * MIB);
      return undefined;
    });
    if (spawned.isErr()) throw new MtFailure(spawned.error);
    pid = spawned.value.pid;
    const held = await connectMachine(pid, dir, { timeout_s });
    if (held.isErr()) throw new MtFailure(await why(held.error, spawned.value.ended, dir));
    try {
      const saved = await bootAndSave(boot.platform, held.value, state_path, timeout_s);
      if (saved.isErr()) throw new MtFailure(await why(saved.error, spawned.value.ended, dir));
    } finally {
      held.value.close();
    }
    await endGuests([{ pid, dir }]);
    pid = undefined;
    // Not in step: on a busy disk it takes longer than a supervisor may be silent.
    await promisify(fsync)(ram_fd!);
    const ram = statSync(ram_path, { bigint: true });
    const state = readFileSync(state_path);
    const note: Note = {
      format: FORMAT,
      qemu,
      image: boot.guest.image,
      cores: boot.guest.cores,
      mem_mib,
      made: new Date().toISOString(),
      boot_s: Math.round((Date.now() - began) / 100) / 10,
      ram: { bytes: Number(ram.size), changed: String(ram.mtimeNs) },
      state: { bytes: state.length, sha256: sha256(state) },
    };
    for (const file of [...Object.values(guestFiles(dir)), join(dir, STATE_SOCKET)])
      rmSync(file, { force: true });
    writeOwn(noteFile(dir), `${JSON.stringify(note)}\n`);
    const whole = join(templatesDir(), key);
    removeOwn(whole);
    renameSync(dir, whole);
    return filesOf(key);
  } finally {
    if (pid !== undefined) await endGuests([{ pid, dir }]);
    if (ram_fd !== undefined) closeSync(ram_fd);
    rmSync(dir, { recursive: true, force: true });
  }
}

/** To the barrier, where the guest is stopped and the state of its devices is written to `path`. */
async function bootAndSave(
  platform: Platform,
  machine: Machine,
  path: string,
  timeout_s: number,
): Promise<Result<void, MtError>> {
  const at_barrier = await platform.reachBarrier(machine, timeout_s);
  if (at_barrier.isErr())
    return at_barrier.mapErr((e) =>
      e.code === "timeout" ? mtError("timeout", `no answer from its agent in ${timeout_s} s`) : e,
    );
  const prepared = await platform.prepareTemplate(machine, timeout_s);
  return prepared.isErr() ? prepared : saveState(machine.qmp, path, true);
}

async function why(error: MtError, ended: Promise<string>, dir: string): Promise<MtError> {
  const how = error.code === "lost" ? `its QEMU ${await ended}` : error.message;
  const message = `Cannot make a template for {id}: ${how}`;
  return mtError(error.code, message, error.hint ?? consoleTail(dir));
}

/**
 * Removes templates that no living QEMU has its memory from, and what makers left that were killed. One that is locked
 * is left alone, with whoever waits for it: it is being made, and will be used.
 */
export async function removeUnused(): Promise<{ removed: string[]; used: string[]; freed_mib: number }> {
  const out = { removed: [] as string[], used: [] as string[], freed_mib: 0 };
  let names: string[];
  try {
    names = readdirSync(templatesDir());
  } catch {
    return out;
  }
  for (const name of names) {
    const waiter = WAITER.exec(name)?.[1];
    if (waiter !== undefined && startTime(Number(waiter)) === undefined)
      rmSync(join(templatesDir(), name), { force: true });
    const key = KEY_OR_PART.exec(name)?.[1];
    if (key === undefined) continue;
    const unlock = await lock(lockOf(key), "mt-boot gc", GC_LOCK_S);
    try {
      const dir = join(templatesDir(), name);
      if (unlock.isErr() || livingIn(dir).length > 0) {
        out.used.push(name);
        continue;
      }
      try {
        out.freed_mib += (statSync(join(dir, "ram")).blocks * 512) / MIB;
      } catch {
        // Half a template: removed too.
      }
      rmSync(dir, { recursive: true, force: true });
      out.removed.push(name);
    } finally {
      if (unlock.isOk()) unlock.value();
    }
  }
  out.freed_mib = Math.round(out.freed_mib);
  return out;
}
