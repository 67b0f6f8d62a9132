/** `mt-boot exec`: runs a command in guests through their agents; an `exit` record a guest, as they come. */
import { hostOf, runFilterCommand } from "../../shared/cli/filter-command.ts";
import { numberArg } from "../../shared/cli/parse.ts";
import { type Progress, startProgress } from "../../shared/cli/progress.ts";
import type { Invocation, Run } from "../../shared/cli/start.ts";
import { EXIT, type MtError, MtFailure, mtError, orThrow } from "../../shared/errors.ts";
import { expandSet } from "../../shared/ranges.ts";
import type { Exit, Guest } from "../../shared/records/index.ts";
import { guestMembers } from "../../shared/records/members.ts";
import { LineWriter } from "../../shared/stream/writer.ts";
import { ask, supervisorPid, theExperiment } from "./client.ts";
import { type Jobs, jobsOf } from "./jobs.ts";
import { hasLedger } from "./ledger.ts";
import type { ExecRequest } from "./protocol.ts";

export const exec: Run = async (invocation) => {
  const { args } = invocation;
  const jobs = orThrow(jobsOf(args, 4));
  const timeout_s = orThrow(numberArg(args, "timeout", { min: 1, max: 86_400 }));
  if (typeof args.set === "string" && args.set !== "") return execSet(invocation, args.set, jobs, timeout_s);
  if (process.stdin.isTTY)
    throw new MtFailure(
      mtError("usage", "Cannot read records: stdin is a terminal", "mt-boot exec 'g[0-3]' -- CMD"),
    );
  return execStream(invocation, jobs, timeout_s);
};

const isGood = (exit: Exit) => exit.state !== "failed" && exit.code === 0;

async function execSet(invocation: Invocation, set: string, jobs: Jobs, timeout_s: number): Promise<number> {
  const { args, rest: argv, signal } = invocation;
  const host = hostOf(invocation);
  const targets = orThrow(expandSet(set)).map((id) => ({ id }));
  const experiment = orThrow(await theExperiment(args.experiment as string | undefined));
  const writer = new LineWriter();
  const progress = await startProgress("guests", args.progress === true);
  const done = await execIn(
    { experiment, host, signal },
    { targets, argv, jobs: jobs.count(), timeout_s },
    progress,
    (exit) => {
      writer.line(JSON.stringify(exit));
      writer.flush();
    },
  );
  progress.stop();
  return done ? EXIT.ok : EXIT.failed;
}

async function execStream(invocation: Invocation, jobs: Jobs, timeout_s: number): Promise<number> {
  const { args, rest: argv } = invocation;
  let experiment =
    typeof args.experiment === "string" && args.experiment !== "" ? args.experiment : undefined;
  let all_good = true;
  const progress = await startProgress("guests", args.progress === true);
  const code = await runFilterCommand(invocation, {
    changes: true,
    reads: {
      experiment: (record) => {
        experiment ??= record.id;
      },
      host: (record, context) => {
        jobs.see(record, context.host);
      },
    },
    owns: {
      guest: async (record, { host, signal, emit }) => {
        const named = await theExperiment(experiment);
        const members = guestMembers(record);
        const error = named.isErr() ? named.error : members.isErr() ? members.error : undefined;
        if (error) {
          all_good = false;
          emit(failedExit(record, host, error));
        } else {
          const targets = members._unsafeUnwrap().map((member) => ({ id: member.id, record: member }));
          const request = { targets, argv, jobs: jobs.count(), timeout_s };
          if (!(await execIn({ experiment: named._unsafeUnwrap(), host, signal }, request, progress, emit)))
            all_good = false;
        }
        return undefined;
      },
    },
  });
  progress.stop();
  return code === EXIT.ok && !all_good ? EXIT.failed : code;
}

/** Runs it in the targets; true where all ended with 0. Every target gets its exit record, whatever happens. */
async function execIn(
  asking: { experiment: string; host: string; signal: AbortSignal },
  request: ExecRequest,
  progress: Progress,
  emit: (exit: Exit) => void,
): Promise<boolean> {
  const missing = new Map(request.targets.map((target) => [target.id, target]));
  progress.grow(missing.size);
  let good = true;
  const take = (exit: Exit) => {
    missing.delete(exit.id);
    if (!isGood(exit)) good = false;
    progress.step(1, isGood(exit) ? 0 : 1);
    emit(exit);
  };
  let error: MtError = mtError("failed", "Cannot run a command: the guest is not there", "mt-boot up");
  if (hasLedger(asking.experiment) || supervisorPid(asking.experiment) !== undefined) {
    // A command is not repeated: it may have run.
    const asked = await ask(
      asking,
      "exec",
      request,
      (line) => void (line.kind === "exit" && take(line)),
      false,
    );
    error = asked.isErr()
      ? asked.error
      : mtError("bug", "Cannot run a command: the supervisor did not say what became of it");
  }
  for (const { id } of missing.values()) take(failedExit({ id }, asking.host, error));
  return good;
}

const failedExit = ({ id }: Pick<Guest, "id">, host: string, error: MtError): Exit => ({
  kind: "exit",
  id,
  host,
  ...(id.includes("[") ? {} : { guest: id }),
  state: "failed",
  error: { by: "mt-boot", ...error },
});
