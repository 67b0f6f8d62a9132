/**
 * mt-ksm down: gives this host's share in the settings back; at `end`, or at once with --experiment. Where the
 * kernel has no KSM nobody took any.
 */
import { hostOf, runFilterCommand } from "../../shared/cli/filter-command.ts";
import { complain, type Run } from "../../shared/cli/start.ts";
import { EXIT, mtError } from "../../shared/errors.ts";
import { leaseHolder } from "../../shared/names.ts";
import { isId } from "./experiment.ts";
import { has, whatIsMissing } from "./kernel.ts";
import { giveBack } from "./settings.ts";

export const down: Run = async (invocation) => {
  const { tool } = invocation;
  const host = hostOf(invocation);
  const nothing = !has("run");
  const missing = nothing ? undefined : whatIsMissing(true);
  const given = invocation.args.experiment;
  if (typeof given === "string") {
    if (!isId(given))
      return complain(
        tool,
        mtError(
          "usage",
          `Cannot use --experiment ${JSON.stringify(given)}: it is no id`,
          "letters, digits, . _ -, 40 at most",
        ),
      );
    if (missing) return complain(tool, missing);
    if (nothing) return EXIT.ok;
    return (await giveBack(leaseHolder(host, given))).match(
      () => EXIT.ok,
      (error) => complain(tool, error),
    );
  }
  if (process.stdin.isTTY)
    return complain(
      tool,
      mtError(
        "usage",
        "Cannot read records: stdin is a terminal",
        "pipe a plan in, or name an experiment with --experiment",
      ),
    );
  let experiment: string | undefined;
  return runFilterCommand(invocation, {
    changes: true,
    reads: {
      experiment: (e) => {
        experiment = e.id;
      },
    },
    onEnd: async (context) => {
      const error =
        experiment === undefined
          ? mtError("data", "Cannot give KSM back: no experiment record came")
          : missing;
      if (error) return context.note(error);
      if (nothing) return;
      const done = await giveBack(leaseHolder(host, experiment!));
      if (done.isErr()) context.note(done.error);
    },
  });
};
