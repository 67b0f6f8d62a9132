/**
 * The guests that a command is for: a set on the command line (`g[0-3],gw`), or the guest records on stdin, which go
 * out unchanged. Each guest's result is a record of its own, written as it comes.
 */
import { type FilterCall, hostOf, runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Progress } from "../../../shared/cli/progress.ts";
import { EXIT, type MtError, MtFailure, mtError, orThrow } from "../../../shared/errors.ts";
import { expandSet } from "../../../shared/nodeset/ranges.ts";
import type { Exit, Guest } from "../../../shared/records/index.ts";
import { guestMembers } from "../../../shared/records/members.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";
import { noRecords } from "../../../shared/stream/stdin.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import { hasLedger } from "../persist/ledger.ts";
import type { Target } from "../protocol.ts";
import { type Asking, ask, supervisorPid, theExperiment } from "./client.ts";
import type { Jobs } from "./jobs.ts";

/** Guests of one experiment that are worked on together, and where their results go. */
export interface Group extends Asking {
  signal: AbortSignal;
  targets: Target[];
  emit(record: object): void;
}

/** A command with flags that name guests. */
interface Guests extends FilterCall {
  args: FilterCall["args"] & { experiment?: string };
}

export interface OverGuests {
  /** Guests by name; empty: those of the records on stdin. */
  set: string;
  /** Whether it changes anything: see Filter. */
  changes: boolean;
  /** A correct command line, for the error where stdin is a terminal. */
  example: string;
  /** Shown this host's record, where there is a stream. */
  jobs?: Jobs;
  /** Does the work; gives the worst exit code. */
  work(group: Group): Promise<number>;
  /** When the whole stream has come, or the set is done. */
  finish?(emit: (record: object) => void): Promise<void>;
}

/** Runs the work over the guests; gives the exit code. */
export async function overGuests(invocation: Guests, what: OverGuests): Promise<number> {
  if (what.set !== "") return overSet(invocation, what);
  const none = noRecords(what.example);
  if (none) throw new MtFailure(none);
  return overStream(invocation, what);
}

async function overSet(invocation: Guests, { set, work, finish }: OverGuests): Promise<number> {
  const { args, signal } = invocation;
  const targets = orThrow(expandSet(set)).map((id) => ({ id }));
  const experiment = orThrow(await theExperiment(args.experiment));
  const writer = new LineWriter();
  const emit = (record: object) => {
    writer.line(JSON.stringify(record));
    writer.flush();
  };
  const code = await work({ experiment, host: hostOf(invocation), signal, targets, emit });
  await finish?.(emit);
  return code;
}

/**
 * One request at a time: guests that come meanwhile are asked for together in the next one. Otherwise --jobs would be
 * a limit for each record, and a plan of many records would have all of its guests at work at once.
 */
function oneAtATime() {
  type Work = (targets: Target[]) => Promise<number>;
  let waiting: { targets: Target[]; done: (code: number) => void; failed: (thrown: unknown) => void }[] = [];
  let busy = false;
  const workOff = async (work: Work) => {
    busy = true;
    while (waiting.length > 0) {
      // Wait for the other records of the same chunk of the stream.
      await new Promise((resolve) => setImmediate(resolve));
      const now = waiting;
      waiting = [];
      try {
        const code = await work(now.flatMap(({ targets }) => targets));
        for (const { done } of now) done(code);
      } catch (thrown) {
        for (const { failed } of now) failed(thrown);
      }
    }
    busy = false;
  };
  return (targets: Target[], work: Work): Promise<number> =>
    new Promise((done, failed) => {
      waiting.push({ targets, done, failed });
      if (!busy) void workOff(work);
    });
}

async function overStream(invocation: Guests, what: OverGuests): Promise<number> {
  const { args } = invocation;
  let { experiment } = args;
  let worst: number = EXIT.ok;
  const together = oneAtATime();
  const onGuest = async (record: Guest, { host, signal, emit }: FilterContext): Promise<undefined> => {
    const named = await theExperiment(experiment);
    const members = guestMembers(record);
    const error = named.isErr() ? named.error : members.isErr() ? members.error : undefined;
    if (error) {
      worst = Math.max(worst, EXIT.failed);
      emit(failedExit(record.id, host, error));
      return;
    }
    const targets = members._unsafeUnwrap().map((member) => ({ id: member.id, record: member }));
    const group = { experiment: named._unsafeUnwrap(), host, signal, emit };
    worst = Math.max(worst, await together(targets, (all) => what.work({ ...group, targets: all })));
  };
  const code = await runFilterCommand(invocation, {
    changes: what.changes,
    reads: {
      experiment: (record) => {
        experiment ??= record.id;
      },
      host: (record, context) => {
        what.jobs?.see(record, context.host);
      },
    },
    owns: { guest: onGuest },
    afterEnd: (context) => what.finish?.(context.emit),
  });
  return code === EXIT.ok ? worst : code;
}

/**
 * Asks the supervisor for an `exit` record for each guest. Every target gets one, whatever happens. Never asks twice: a
 * command may have run.
 * @param verb as in "Cannot run a command"
 * @returns EXIT.ok where all ended with 0, EXIT.io where this host's disk failed, else EXIT.failed
 */
export async function askExits(
  group: Group,
  verb: string,
  name: string,
  body: object,
  progress: Progress,
): Promise<number> {
  const missing = new Map(group.targets.map((target) => [target.id, target]));
  progress.grow(missing.size);
  let worst: number = EXIT.ok;
  const take = (exit: Exit) => {
    missing.delete(exit.id);
    const good = exit.state !== "failed" && exit.code === 0;
    if (!good) worst = Math.max(worst, exit.error?.code === "io" ? EXIT.io : EXIT.failed);
    progress.step(1, good ? 0 : 1);
    group.emit(exit);
  };
  let error: MtError = mtError("failed", `Cannot ${verb}: the guest is not there`, "mt-boot up");
  if (hasLedger(group.experiment) || supervisorPid(group.experiment) !== undefined) {
    const each = (line: { kind: string }) => void (line.kind === "exit" && take(line as Exit));
    const asked = await ask(group, name, { ...body, targets: group.targets }, each, false);
    error = group.signal.aborted
      ? mtError("failed", `Cannot ${verb}: interrupted`)
      : asked.isErr()
        ? asked.error
        : mtError("bug", `Cannot ${verb}: the supervisor did not say what became of it`);
  }
  for (const { id } of missing.values()) take(failedExit(id, group.host, error));
  return worst;
}

/** The record of a guest in which nothing could be done; `id` may be a range. */
export const failedExit = (id: string, host: string, error: MtError): Exit => ({
  kind: "exit",
  id,
  host,
  ...(id.includes("[") ? {} : { guest: id }),
  state: "failed",
  error: { by: "mt-boot", ...error },
});
