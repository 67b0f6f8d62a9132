/**
 * `mt-boot down`: ends the plan's guests of this host and removes their files. Goes through the supervisor if one
 * answers, else ends what /proc shows. Works twice, and after a crash.
 */
import { existsSync, rmSync } from "node:fs";
import { err, ok, type Result } from "neverthrow";
import { runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { fail, type MtError, MtFailure, orThrow } from "../../../shared/errors.ts";
import { lock } from "../../../shared/host/lock.ts";
import { disksDir, experimentDir, guestDir } from "../../../shared/host/names.ts";
import { waitFor } from "../../../shared/host/process.ts";
import type { Guest } from "../../../shared/records/index.ts";
import { guestMembers } from "../../../shared/records/members.ts";
import { noRecords } from "../../../shared/stream/stdin.ts";
import { askOnce, supervisorPid } from "../client/client.ts";
import { endGuests, endSupervisors, livingGuests, livingSupervisors } from "../machine/processes.ts";
import { removeDirectory, removeFiles, removeGuest, startLock, supervisorLock } from "../persist/files.ts";
import { dropFromLedger } from "../persist/ledger.ts";
import type { spec } from "../spec.ts";

const SUPERVISOR_END_S = 5;

export const down: Run<typeof spec, "down"> = async (invocation) => {
  const { args } = invocation;
  if (args.experiment !== undefined) {
    orThrow(await endExperiment(args.experiment));
    return 0;
  }
  const none = noRecords("mt-boot down <abilene.plan, or mt-boot down --experiment ID");
  if (none) throw new MtFailure(none);
  const ids: string[] = [];
  let experiment: string | undefined;
  let ended: Result<void, MtError> = ok(undefined);
  return runFilterCommand(invocation, {
    changes: true,
    reads: {
      experiment: (record) => {
        experiment = record.id;
      },
    },
    owns: {
      guest: (record, context) => {
        const members = guestMembers(record);
        if (members.isErr()) return context.failed(record, members.error);
        for (const { id } of members.value) ids.push(id);
        const { state: _state, error: _error, ...guest } = record;
        return context.atEnd(() =>
          ended.isErr()
            ? context.failed(guest, ended.error)
            : ({ ...guest, state: "stopped" } satisfies Guest),
        );
      },
    },
    onEnd: async () => {
      if (ids.length === 0) return;
      if (experiment === undefined)
        ended = fail("data", "Cannot stop the guests: no experiment record came before them");
      else ended = await endExperiment(experiment, ids);
    },
  });
};

/** Ends guests of an experiment on this host; without ids, all of them, and removes all that mt-boot keeps of it. */
async function endExperiment(experiment: string, ids?: readonly string[]): Promise<Result<void, MtError>> {
  const kept = [experimentDir(experiment), disksDir(experiment)].some((dir) => existsSync(dir));
  const runs = () => livingGuests(experiment).length > 0 || livingSupervisors(experiment).length > 0;
  if (!kept && !runs()) return ok(undefined);
  const supervisor = supervisorPid(experiment);
  if (supervisor !== undefined) {
    const asked = await askOnce({ experiment }, "down", { ids }, () => {});
    if (asked.isOk() && asked.value.left > 0) return ok(undefined);
    // It ends by itself with the last guest; if it does not answer, it is ended below.
    if (asked.isOk())
      await waitFor(() => (supervisorPid(experiment) === undefined ? true : undefined), SUPERVISOR_END_S, 10);
  }
  return endWithout(experiment, ids);
}

/**
 * Where no supervisor answers: ends the supervisors and guests that /proc shows, then removes their files, which frees
 * room, then their ledger entries. So neither a full disk nor a damaged ledger keeps a guest alive.
 */
async function endWithout(experiment: string, ids?: readonly string[]): Promise<Result<void, MtError>> {
  const unlock = await lock(startLock(experiment), `stopping ${experiment}`, 40, true);
  if (unlock.isErr()) return err(unlock.error);
  let empty = true;
  try {
    // Supervisors first: they would restart the guests. One whose directory was removed is not found by its lock.
    const held = await endSupervisors(livingSupervisors(experiment));
    if (held.length > 0)
      return fail("failed", `Cannot end supervisor ${held.join(", ")}: still there after SIGKILL`);
    const dirs = ids && new Set(ids.map((id) => guestDir(experiment, id)));
    const left = await endGuests(
      livingGuests(experiment).filter(({ dir }) => dirs === undefined || dirs.has(dir)),
    );
    if (left.length > 0)
      return fail(
        "failed",
        `Cannot end QEMU ${left.map(({ pid }) => pid).join(", ")}: still there after SIGKILL`,
      );
    for (const dir of dirs ?? []) removeGuest(experiment, dir);
    if (ids !== undefined) {
      const others = await dropFromLedger(experiment, ids);
      if (others.isErr()) return err(others.error);
      empty = !others.value && livingGuests(experiment).length === 0;
    }
    if (ids === undefined) rmSync(disksDir(experiment), { recursive: true, force: true });
    if (empty) {
      removeFiles(experiment);
      rmSync(supervisorLock(experiment), { force: true });
    }
    return ok(undefined);
  } finally {
    unlock.value();
    if (empty) removeDirectory(experiment);
  }
}
