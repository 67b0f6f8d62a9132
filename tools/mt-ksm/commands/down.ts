/**
 * mt-ksm down: releases all that mt-ksm holds for an experiment on this host, at `end`, or at once with
 * --experiment. Where the kernel has no KSM there is no lease to release.
 */
import { ok, type Result } from "neverthrow";
import { hostOf, runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { complain } from "../../../shared/cli/start.ts";
import { EXIT, fail, type MtError, mtError } from "../../../shared/errors.ts";
import { clearDead, readHolder } from "../../../shared/host/lock.ts";
import { leaseHolder } from "../../../shared/host/names.ts";
import { oomFile } from "../../../shared/host/oom.ts";
import { endProcess } from "../../../shared/host/process.ts";
import { noRecords } from "../../../shared/stream/stdin.ts";
import { has, whatIsMissing } from "../merging/kernel.ts";
import { giveBack, watchLock } from "../merging/settings.ts";
import { removeCgroup } from "../protection/cgroup.ts";
import { removeFiles, watchLog } from "../protection/files.ts";
import type { spec } from "../spec.ts";

export const down: Run<typeof spec, "down"> = async (invocation) => {
  const { tool } = invocation;
  const host = hostOf(invocation);
  const named = invocation.args.experiment;
  if (named !== undefined) {
    const done = await endAll(host, named);
    return done.isErr() ? complain(tool, done.error) : EXIT.ok;
  }
  const none = noRecords("pipe a plan in, or name an experiment with --experiment");
  if (none) return complain(tool, none);
  let experiment: string | undefined;
  return runFilterCommand(invocation, {
    changes: true,
    reads: {
      experiment: (e) => {
        experiment = e.id;
      },
    },
    onEnd: async (context) => {
      if (experiment === undefined)
        return context.note(mtError("data", "Cannot give KSM back: no experiment record came"));
      const done = await endAll(host, experiment);
      if (done.isErr()) context.note(done.error);
    },
  });
};

/** Ends the watch and releases the leases of an experiment on this host. Works twice, and after a crash. */
async function endAll(host: string, experiment: string): Promise<Result<unknown, MtError>> {
  removeFiles(experiment, [oomFile(experiment)]);
  const group = await removeCgroup(experiment);
  if (group) return fail(group.code, group.message);
  if (!has("run")) return ok(undefined);
  const missing = whatIsMissing(true);
  if (missing) return fail(missing.code, missing.message, missing.hint);
  const holder = leaseHolder(host, experiment);
  // The watch ends before the lease: it must not set anything after the settings are restored.
  const watch = readHolder(watchLock(holder));
  if (watch !== undefined && !(await endProcess(watch.pid, "watch")))
    return fail("failed", `Cannot end mt-ksm watch: pid ${watch.pid} is still there after SIGKILL`);
  clearDead(watchLock(holder));
  removeFiles(experiment, [watchLog(experiment)]);
  return giveBack(holder);
}
