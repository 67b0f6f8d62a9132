/** `mt-boot exec`: runs a command in guests through their agents; an `exit` record a guest, as they come. */
import { err, ok, type Result } from "neverthrow";
import type { Run } from "../../../shared/cli/invocation.ts";
import { numberArg } from "../../../shared/cli/parse.ts";
import { startProgress } from "../../../shared/cli/progress.ts";
import { fail, type MtError, orThrow } from "../../../shared/errors.ts";
import type { Exit } from "../../../shared/records/index.ts";
import { noRecords, readStdin } from "../../../shared/stream/stdin.ts";
import { foldExits } from "../client/fold-exits.ts";
import { jobsOf } from "../client/jobs.ts";
import { askExits, type Group, overGuests } from "../client/targets.ts";

/** The agent keeps what the command reads in the guest's memory, several times over. */
const STDIN_BYTES_MAX = 1024 * 1024;

export const exec: Run = async (invocation) => {
  const { args, rest: argv } = invocation;
  const jobs = orThrow(jobsOf(args, 4));
  const timeout_s = orThrow(numberArg(args, "timeout", { min: 1, max: 86_400 }));
  const set = String(args.set ?? "");
  const stdin_base64 =
    args.stdin === true ? orThrow(await commandInput(set, invocation.signal)).toString("base64") : undefined;
  const progress = startProgress("guests", args.progress === true);
  const kept: Exit[] = [];
  const keep = (group: Group): Group => ({ ...group, emit: (exit) => void kept.push(exit as Exit) });
  const code = await overGuests(invocation, {
    set,
    changes: true,
    example: "mt-boot exec 'g[0-3]' -- CMD",
    jobs,
    work: (group) =>
      askExits(
        args.fold === true ? keep(group) : group,
        "run a command",
        "exec",
        { argv, literal: args.literal === true, jobs: jobs.count(), timeout_s, stdin_base64 },
        progress,
      ),
    finish: async (emit) => {
      for (const exit of foldExits(kept.splice(0))) emit(exit);
    },
  });
  progress.stop();
  return code;
};

/** What each command gets on its stdin: all of ours. */
async function commandInput(set: string, signal: AbortSignal): Promise<Result<Buffer, MtError>> {
  if (set === "")
    return fail(
      "usage",
      "Cannot use --stdin without SET: the records are on stdin",
      "mt-boot exec --stdin 'g[0-3]' -- CMD <FILE",
    );
  const none = noRecords("mt-boot exec --stdin … <FILE", "read for the command");
  if (none) return err(none);
  const bytes = await readStdin(signal);
  if (bytes.length <= STDIN_BYTES_MAX) return ok(bytes);
  return fail(
    "usage",
    `Cannot give ${bytes.length} bytes to a command in a guest: its agent takes ${STDIN_BYTES_MAX}`,
    "mt-boot copy brings files into guests",
  );
}
