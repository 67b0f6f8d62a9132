/** `mt-boot exec`: runs a command in guests through their agents; writes an `exit` record for each when it ends. */
import { err, ok, type Result } from "neverthrow";
import type { Run } from "../../../shared/cli/invocation.ts";
import { startProgress } from "../../../shared/cli/progress.ts";
import { fail, type MtError, orThrow } from "../../../shared/errors.ts";
import type { Exit } from "../../../shared/records/index.ts";
import { noRecords, readStdin } from "../../../shared/stream/stdin.ts";
import { foldExits } from "../client/fold-exits.ts";
import { jobsOf } from "../client/jobs.ts";
import { askExits, type Group, overGuests } from "../client/targets.ts";
import type { spec } from "../spec.ts";

/** The agent keeps several copies of a command's stdin in the guest's memory. */
const STDIN_BYTES_MAX = 1024 * 1024;

export const exec: Run<typeof spec, "exec"> = async (invocation) => {
  const { args, rest: argv } = invocation;
  const jobs = jobsOf(args, 4);
  const { timeout: timeout_s, set = "" } = args;
  const stdin_base64 = args.stdin
    ? orThrow(await commandInput(invocation.signal)).toString("base64")
    : undefined;
  const progress = startProgress("guests", args.progress);
  const kept: Exit[] = [];
  const keep = (group: Group): Group => ({ ...group, emit: (exit) => void kept.push(exit as Exit) });
  const code = await overGuests(invocation, {
    set,
    changes: true,
    example: "mt-boot exec 'g[0-3]' -- CMD",
    jobs,
    work: (group) =>
      askExits(
        args.fold ? keep(group) : group,
        "run a command",
        "exec",
        { argv, literal: args.literal, jobs: jobs.count(), timeout_s, stdin_base64 },
        progress,
      ),
    finish: async (emit) => {
      for (const exit of foldExits(kept.splice(0))) emit(exit);
    },
  });
  progress.stop();
  return code;
};

/** The stdin of each command: all of our own. */
async function commandInput(signal: AbortSignal): Promise<Result<Buffer, MtError>> {
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
