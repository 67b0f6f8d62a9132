/**
 * Saved guests in a directory: for each a state file with its memory, and a note that describes it. The note is written
 * last and atomically: a guest without one was not saved.
 */
import { existsSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import { shortName } from "../../../shared/host/names.ts";
import type { Guest, Image } from "../../../shared/records/index.ts";
import { validate } from "../../../shared/records/validate.ts";
import { fromKept, keptText } from "../client/came-as.ts";
import type { AcceleratorWish, BootMode } from "./ledger.ts";

const FORMAT = 1;

export interface SavedGuest {
  format: number;
  experiment: string;
  qemu: string;
  record: Guest;
  image: Image;
  accel: AcceleratorWish;
  boot_mode: BootMode;
  paused: boolean;
  /** Whether it had its identity. */
  known: boolean;
  bytes: number;
  /** Size of its disk's overlay, where it has one. */
  disk_bytes?: number;
  saved: string;
}

export const diskFile = (dir: string, id: string) => join(dir, `${shortName(id)}.qcow2`);
export const stateFile = (dir: string, id: string) => join(dir, `${shortName(id)}.state`);
const noteFile = (dir: string, id: string) => join(dir, `${shortName(id)}.json`);

export function writeNote(dir: string, note: Omit<SavedGuest, "format">): void {
  const path = noteFile(dir, note.record.id);
  writeFileSync(
    `${path}.new`,
    `${JSON.stringify({ format: FORMAT, ...note, text: keptText(note.record) })}\n`,
    { mode: 0o600 },
  );
  renameSync(`${path}.new`, path);
}

/** All that are saved there, in the plan's order. Errors: data, where one cannot be read; io. */
export function readSaved(dir: string): Result<SavedGuest[], MtError> {
  let names: string[];
  try {
    names = readdirSync(dir).filter((name) => name.endsWith(".json"));
  } catch (thrown) {
    return fail(
      "data",
      `Cannot restore from ${dir}: ${(thrown as NodeJS.ErrnoException).code}`,
      "mt-boot save DIR",
    );
  }
  if (names.length === 0)
    return fail("data", `Cannot restore from ${dir}: no guest is saved there`, "mt-boot save DIR");
  const saved: SavedGuest[] = [];
  for (const name of names) {
    const note = readNote(join(dir, name));
    if (!note) return fail("data", `Cannot restore from ${dir}: ${name} is no note of a saved guest`);
    saved.push(note);
  }
  return ok(saved.sort((a, b) => a.record.index - b.record.index));
}

function readNote(path: string): SavedGuest | undefined {
  try {
    // Notes of earlier versions say `way` for `boot_mode`.
    const { text, way, ...read } = JSON.parse(readFileSync(path, "utf8")) as SavedGuest & {
      text?: string;
      way?: BootMode;
    };
    const note = { ...read, boot_mode: read.boot_mode ?? way ?? "auto" };
    const good =
      note.format === FORMAT &&
      validate("guest", note.record).isOk() &&
      validate("image", note.image).isOk() &&
      path.endsWith(`/${shortName(note.record.id)}.json`);
    return good ? { ...note, record: fromKept(note.record, text) } : undefined;
  } catch {
    return undefined;
  }
}

/** Gives the state file of a saved guest, where it is whole and of this version of QEMU. */
export function checkSaved(dir: string, note: SavedGuest, qemu: string): Result<string, MtError> {
  const { id } = note.record;
  for (const [path, saved] of [
    [stateFile(dir, id), note.bytes],
    [diskFile(dir, id), note.disk_bytes],
  ] as const) {
    const bytes = existsSync(path) ? statSync(path).size : undefined;
    if (bytes !== saved)
      return fail(
        "data",
        `Cannot restore {id}: ${path} ${bytes === undefined ? "is missing" : `has ${bytes} bytes, ${saved ?? 0} were saved`}`,
        "mt-boot up boots it anew",
      );
  }
  if (note.qemu !== qemu)
    return fail(
      "data",
      `Cannot restore {id}: it was saved by ${note.qemu}, here is ${qemu}`,
      "mt-boot up boots it anew",
    );
  return ok(stateFile(dir, id));
}
