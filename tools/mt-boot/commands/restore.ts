/**
 * `mt-boot restore`: starts saved guests where they were saved, with their memory and the present time of day. Their
 * network must be there (mt-vnet up). A guest that cannot be restored comes out failed, and is not booted instead.
 */
import { resolve } from "node:path";
import { hostOf } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { startProgress } from "../../../shared/cli/progress.ts";
import { EXIT, type MtError, MtFailure, mtError, orThrow } from "../../../shared/errors.ts";
import { expandSet } from "../../../shared/nodeset/ranges.ts";
import type { Guest } from "../../../shared/records/index.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import { keptText, textOf } from "../client/came-as.ts";
import { ask, because } from "../client/client.ts";
import { foldGuests } from "../client/fold.ts";
import { jobsOf } from "../client/jobs.ts";
import { checkSaved, diskFile, readSaved, type SavedGuest } from "../persist/saved.ts";
import { qemuVersions } from "../persist/template.ts";
import type { GuestLine, UpRequest } from "../protocol.ts";
import type { spec } from "../spec.ts";

export const restore: Run<typeof spec, "restore"> = async (invocation) => {
  const { args, signal } = invocation;
  const jobs = jobsOf(args, 2);
  const ready_timeout_s = args["ready-timeout"];
  const answer_timeout_s = args["answer-timeout"];
  const reserve_mib = args["reserve-mib"];
  const dir = resolve(args.dir);
  const all = orThrow(readSaved(dir));
  const set = args.set ? new Set(orThrow(expandSet(args.set))) : undefined;
  const chosen = all.filter(({ record }) => set === undefined || set.has(record.id));
  for (const { record } of chosen) set?.delete(record.id);
  if (set !== undefined && set.size > 0)
    throw new MtFailure(mtError("failed", `Cannot restore ${[...set][0]}: it is not saved in ${dir}`));
  const host = hostOf(invocation);
  const versionOf = qemuVersions();
  const progress = startProgress("guests", args.progress);
  progress.grow(chosen.length);

  const restoreOne = async (note: SavedGuest): Promise<Guest> => {
    const { record, image, accel, boot_mode, paused, experiment } = note;
    const file = (await versionOf(image)).andThen((qemu) => checkSaved(dir, note, qemu));
    let line: GuestLine | undefined;
    let error: MtError | undefined = file.isErr() ? file.error : undefined;
    if (file.isOk()) {
      const request: UpRequest = {
        ...{
          guest: record,
          text: keptText(record),
          image,
          paused,
          accel,
          boot_mode,
          ready_timeout_s,
          answer_timeout_s,
          reserve_mib,
        },
        ...{
          jobs: jobs.count(),
          retries: 0,
          until_full: false,
          saved: {
            file: file.value,
            known: note.known,
            ...(note.disk_bytes === undefined ? {} : { disk: diskFile(dir, record.id) }),
          },
        },
      };
      const asked = await ask({ experiment, host, signal }, "up", request, (reply) => {
        if (reply.kind === "guest") line = reply;
      });
      error = asked.isErr() ? because("restore", asked.error, signal) : line?.error;
    }
    progress.step(1, error ? 1 : 0);
    const { state: _state, error: _error, ...guest } = record;
    return error
      ? { ...guest, host, state: "failed", error: { by: "mt-boot", ...error } }
      : { ...guest, host, state: line?.state ?? "failed" };
  };

  const guests = await Promise.all(chosen.map(restoreOne));
  progress.stop();
  const writer = new LineWriter();
  for (const guest of foldGuests(guests)) writer.line(textOf(guest));
  writer.flush();
  return guests.some(({ state }) => state === "failed") ? EXIT.failed : EXIT.ok;
};
