/**
 * What `save` does in the supervisor: all of the guests are stopped, then each is written, then they go on, so that the
 * network is saved as it was at one moment. An `exit` record a guest.
 */
import { renameSync, rmSync, statSync } from "node:fs";
import { err, ok, type Result } from "neverthrow";
import { type MtError, mtError, toMtError } from "../../../shared/errors.ts";
import type { Exit } from "../../../shared/records/index.ts";
import { copyDisk, overlayOf } from "../machine/disk.ts";
import { saveState } from "../machine/migrate.ts";
import { platformOf } from "../platforms/platforms.ts";
import { nameGuest, type SaveRequest } from "../protocol.ts";
import type { Entry } from "../supervisor/entry.ts";
import { Slots } from "../supervisor/slots.ts";
import { diskFile, stateFile, writeNote } from "./saved.ts";
import { qemuVersions } from "./template.ts";

/** How long a guest may take to answer when it goes on. */
const FRESH_S = 60;

export async function saveGuests(
  { entries, experiment, host }: { entries: ReadonlyMap<string, Entry>; experiment: string; host: string },
  { targets, dir, jobs }: SaveRequest,
  send: (exit: Exit) => void,
): Promise<void> {
  const began = performance.now();
  const exit = (id: string, done: Result<number, MtError>): Exit => ({
    kind: "exit",
    id,
    host,
    guest: id,
    ...(done.isOk()
      ? { code: 0, bytes: done.value }
      : { state: "failed" as const, error: { by: "mt-boot", ...nameGuest(done.error, id)! } }),
    seconds: Math.round(performance.now() - began) / 1000,
  });
  const here: Entry[] = [];
  for (const { id } of targets) {
    const entry = entries.get(id);
    const there = entry?.machine && !entry.driving && (entry.state === "ready" || entry.state === "paused");
    if (entry && there) here.push(entry);
    else {
      const state = entry ? entry.state : "not there";
      send(exit(id, err(mtError("failed", `Cannot save {id}: the guest is ${state}`, "mt-boot up"))));
    }
  }
  const versionOf = qemuVersions();
  const qemus = await Promise.all(here.map(({ image }) => versionOf(image)));
  // All are stopped before the first is written: none has received what another has not sent yet.
  for (const entry of here) entry.savingBegan();
  await Promise.all(here.map((entry) => entry.machine?.qmp.call("stop")));
  const slots = new Slots(jobs);
  const saved = await Promise.all(
    here.map((entry, n) =>
      slots.take(async (): Promise<Result<number, MtError>> => {
        const qemu = qemus[n]!;
        return qemu.isErr() ? err(qemu.error) : saveOne(entry, experiment, dir, qemu.value);
      }),
    ),
  );
  await Promise.all(
    here.map(async (entry, n) => {
      const goes = await goOn(entry);
      entry.savingEnded();
      send(exit(entry.record.id, goes.isErr() ? err(goes.error) : saved[n]!));
    }),
  );
}

/** Lets a guest that was ready go on, with new random state: a guest restored from its file begins with the old one. */
async function goOn({ state, machine, image }: Entry): Promise<Result<unknown, MtError>> {
  if (state !== "ready" || !machine) return ok(undefined);
  const platform = platformOf(image);
  if (platform.isErr()) return err(platform.error);
  const fresh = platform.value.makeFresh(machine, "goes on", FRESH_S);
  const goes = await machine.qmp.call("cont");
  const made = goes.isErr() ? goes : await fresh;
  return made.mapErr((error) => ({
    ...error,
    message: `Cannot let {id} go on after it was saved: ${error.message}`,
  }));
}

async function saveOne(
  entry: Entry,
  experiment: string,
  dir: string,
  qemu: string,
): Promise<Result<number, MtError>> {
  const { record, image, accel, boot_mode, state, machine } = entry;
  if (!machine) return err(mtError("lost", "Cannot save {id}: its QEMU has ended"));
  const path = stateFile(dir, record.id);
  const part = `${path}.part`;
  try {
    rmSync(part, { force: true });
    const written = await saveState(machine.qmp, part, false, entry.dir);
    if (written.isErr())
      return err({ ...written.error, message: `Cannot save {id}: ${written.error.message}` });
    renameSync(part, path);
    const bytes = statSync(path).size;
    // QEMU has flushed the disk, and does not write to it until the guest goes on.
    const disk_bytes =
      image.files?.disk === undefined
        ? undefined
        : await copyDisk(overlayOf(experiment, entry.dir), diskFile(dir, record.id));
    const paused = state === "paused";
    const known = entry.known;
    const time = new Date().toISOString();
    writeNote(dir, {
      ...{ experiment, qemu, record, image, accel, boot_mode, paused, known, bytes, saved: time },
      ...(disk_bytes === undefined ? {} : { disk_bytes }),
    });
    return ok(bytes + (disk_bytes ?? 0));
  } catch (thrown) {
    const error = toMtError(thrown);
    return err({ ...error, message: `Cannot save {id}: ${error.message}` });
  } finally {
    rmSync(part, { force: true });
  }
}
