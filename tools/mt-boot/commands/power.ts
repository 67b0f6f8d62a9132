/**
 * `mt-boot pause`, `resume`, `reset`: pauses, resumes or restarts guests: those of a set on the command line, which are
 * printed as records, or those of the plan, when all of it has come.
 */
import { hostOf, runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Invocation, Run } from "../../../shared/cli/invocation.ts";
import { type Progress, startProgress } from "../../../shared/cli/progress.ts";
import { EXIT, type MtError, MtFailure, mtError, orThrow } from "../../../shared/errors.ts";
import { expandSet, fold } from "../../../shared/nodeset/ranges.ts";
import type { Guest } from "../../../shared/records/index.ts";
import { guestMembers, type Outcome } from "../../../shared/records/members.ts";
import { failedEarlier, withoutFailure } from "../../../shared/stages.ts";
import { noRecords } from "../../../shared/stream/stdin.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import { textOf } from "../client/came-as.ts";
import { type Asking, ask, because, supervisorPid, theExperiment } from "../client/client.ts";
import { foldGuests, foldNamed } from "../client/fold.ts";
import { jobsOf } from "../client/jobs.ts";
import { failedExit } from "../client/targets.ts";
import { whoIsHere } from "../client/who-is-here.ts";
import { hasLedger } from "../persist/ledger.ts";
import type { GuestLine, ResumeRequest } from "../protocol.ts";
import type { spec } from "../spec.ts";

type Verb = "pause" | "resume" | "reset";

/** How often a guest that does not become ready is booted again. */
const RETRIES = 3;
const HINT = { pause: "mt-boot up", resume: "mt-boot up --paused", reset: "mt-boot up" };

export const pause: Run<typeof spec, "pause"> = (invocation) => power("pause", invocation);
export const resume: Run<typeof spec, "resume"> = (invocation) => power("resume", invocation);
export const reset: Run<typeof spec, "reset"> = (invocation) => power("reset", invocation);

async function power(verb: Verb, invocation: Invocation<typeof spec, Verb>): Promise<number> {
  const { args } = invocation;
  const { set = "" } = args;
  const jobs = jobsOf(args, 2);
  const ready_timeout_s = args["ready-timeout"];
  const none = set === "" ? noRecords(`mt-boot ${verb} 'g[0-3]'`) : undefined;
  if (none) throw new MtFailure(none);
  const progress = startProgress("guests", args.progress);
  const wish = () => ({ jobs: jobs.count(), retries: RETRIES, ready_timeout_s });
  const code = await (set === "" ? overStream() : overSet(verb, invocation, set, wish(), progress));
  progress.stop();
  return code;

  async function overStream(): Promise<number> {
    const ids: string[] = [];
    let outcomeOf: (id: string) => Outcome;
    let { experiment } = args;
    return runFilterCommand(invocation, {
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
        guest: (record, context) => {
          if (failedEarlier(record, "mt-boot")) return undefined;
          const guest = withoutFailure(record);
          const members = guestMembers(guest);
          if (members.isErr()) return context.failed(guest, members.error);
          for (const { id } of members.value) ids.push(id);
          return context.atEnd(() =>
            orThrow(
              foldNamed(
                guest,
                members.value.map(({ id }) => outcomeOf(id)),
              ),
            ),
          );
        },
      },
      onEnd: async ({ host, signal }) => {
        if (ids.length > 0) outcomeOf = await turn(verb, { experiment, host, signal }, ids, wish(), progress);
      },
    });
  }
}

type Wish = Omit<ResumeRequest, "ids">;

/** Asks the supervisor, and returns the outcome of each guest; error messages contain {id}. */
async function turn(
  verb: Verb,
  { experiment, host, signal }: Omit<Asking, "experiment"> & { experiment?: string },
  ids: readonly string[],
  wish: Wish,
  progress: Progress,
): Promise<(id: string) => Outcome> {
  const outcomes = new Map<string, GuestLine>();
  let failure: MtError | undefined;
  if (experiment === undefined)
    failure = mtError("data", `Cannot ${verb} {id}: no experiment record came before it`);
  else if (!hasLedger(experiment) && supervisorPid(experiment) === undefined)
    failure = mtError("failed", `Cannot ${verb} {id}: it is not there`, HINT[verb]);
  else {
    progress.grow(ids.length);
    const asked = await ask({ experiment, host, signal }, verb, { ids, ...wish }, (line) => {
      if (line.kind !== "guest" || outcomes.has(line.id)) return;
      outcomes.set(line.id, line);
      progress.step(1, line.state === "failed" ? 1 : 0);
    });
    if (asked.isErr()) failure = because(verb, asked.error, signal ?? new AbortController().signal);
  }
  return (id) => {
    const line = outcomes.get(id);
    const state = line?.state ?? "failed";
    if (state !== "failed") return { state };
    const error =
      line?.error ??
      failure ??
      mtError("bug", `Cannot ${verb} {id}: the supervisor did not say what became of it`);
    return { state, error: { by: "mt-boot", ...error } };
  };
}

/** Known guests are printed as records; for each name that is not known, an `exit` record says so. */
async function overSet(
  verb: Verb,
  invocation: Invocation<typeof spec, Verb>,
  set: string,
  wish: Wish,
  progress: Progress,
): Promise<number> {
  const { args, signal } = invocation;
  const ids = orThrow(expandSet(set));
  const experiment = orThrow(await theExperiment(args.experiment));
  const asking = { experiment, host: hostOf(invocation), signal };
  const known = new Map<string, Guest>();
  if (hasLedger(experiment) || supervisorPid(experiment) !== undefined)
    orThrow(
      await ask(asking, "ls", undefined, (line) => {
        if (line.kind === "list") known.set(line.guest.id, line.guest);
      }),
    );
  const here = ids.filter((id) => known.has(id));
  const outcomeOf = here.length === 0 ? undefined : await turn(verb, asking, here, wish, progress);
  const guests = here
    .map((id): Guest => {
      const { state: _state, error: _error, ...guest } = known.get(id)!;
      return { ...guest, ...outcomeOf!(id) } as Guest;
    })
    .sort((a, b) => a.index - b.index);
  const writer = new LineWriter();
  for (const guest of foldGuests(guests)) writer.line(textOf(guest));
  for (const id of fold(ids.filter((each) => !known.has(each)))) {
    const error = mtError(
      "failed",
      `Cannot ${verb} ${id}: the guest is not there`,
      whoIsHere(id, known.keys()),
    );
    writer.line(JSON.stringify(failedExit(id, asking.host, error)));
  }
  writer.flush();
  const good = here.length === ids.length && guests.every((guest) => guest.state !== "failed");
  return good ? EXIT.ok : EXIT.failed;
}
