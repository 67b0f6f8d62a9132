/** `mt-boot resume`: when the whole plan has come, its paused guests on this host go on, in waves. */
import { runFilterCommand } from "../../shared/cli/filter-command.ts";
import { numberArg } from "../../shared/cli/parse.ts";
import { startProgress } from "../../shared/cli/progress.ts";
import type { Run } from "../../shared/cli/start.ts";
import { type MtError, mtError, orThrow } from "../../shared/errors.ts";
import type { Guest } from "../../shared/records/index.ts";
import { guestMembers, type Outcome } from "../../shared/records/members.ts";
import { failedEarlier, withoutFailure } from "../../shared/stages.ts";
import { ask, because, supervisorPid } from "./client.ts";
import { foldNamed } from "./fold.ts";
import { jobsOf } from "./jobs.ts";
import { hasLedger } from "./ledger.ts";
import type { GuestLine, ResumeRequest } from "./protocol.ts";

/** One that does not come to itself is booted anew so often. */
const RETRIES = 3;

export const resume: Run = async (invocation) => {
  const { args } = invocation;
  const jobs = orThrow(jobsOf(args, 2));
  const ready_timeout_s = orThrow(numberArg(args, "ready-timeout", { min: 1, max: 86_400 }));
  const progress = await startProgress("guests", args.progress === true);
  const ids: string[] = [];
  const outcomes = new Map<string, GuestLine>();
  let experiment: string | undefined;
  let failure: MtError | undefined;

  const code = await runFilterCommand(invocation, {
    changes: true,
    reads: {
      experiment: (record) => {
        experiment = record.id;
      },
      host: (record, context) => {
        jobs.see(record, context.host);
      },
    },
    owns: {
      guest: (record, context) => {
        if (failedEarlier(record, "mt-boot")) return undefined;
        const guest = withoutFailure(record);
        const members = guestMembers(guest);
        if (members.isErr()) return context.failed(guest, members.error);
        for (const { id } of members.value) ids.push(id);
        return context.atEnd(() => orThrow(foldNamed(guest, members.value.map(outcomeOf))));
      },
    },
    onEnd: async (context) => {
      if (ids.length === 0) return;
      if (experiment === undefined)
        failure = mtError("data", "Cannot resume {id}: no experiment record came before it");
      else if (!hasLedger(experiment) && supervisorPid(experiment) === undefined)
        failure = mtError("failed", "Cannot resume {id}: it is not there", "mt-boot up --paused");
      else {
        progress.grow(ids.length);
        const request: ResumeRequest = { ids, jobs: jobs.count(), retries: RETRIES, ready_timeout_s };
        const asked = await ask(
          { experiment, host: context.host, signal: context.signal },
          "resume",
          request,
          (line) => {
            if (line.kind !== "guest" || outcomes.has(line.id)) return;
            outcomes.set(line.id, line);
            progress.step(1, line.state === "failed" ? 1 : 0);
          },
        );
        if (asked.isErr()) failure = because("resume", asked.error, context.signal);
      }
    },
  });
  progress.stop();
  return code;

  function outcomeOf({ id }: Guest): Outcome {
    const line = outcomes.get(id);
    const state = line?.state ?? "failed";
    if (state !== "failed") return { state };
    const error =
      line?.error ??
      failure ??
      mtError("bug", "Cannot resume {id}: the supervisor did not say what became of it");
    return { state, error: { by: "mt-boot", ...error } };
  }
};
