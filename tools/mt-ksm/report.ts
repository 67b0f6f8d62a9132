/** mt-ksm report: one `sample` of what merging saves on this machine and what the guests here take. */
import { hostOf, runFilterCommand } from "../../shared/cli/filter-command.ts";
import { complain, type Run } from "../../shared/cli/start.ts";
import { EXIT, mtError } from "../../shared/errors.ts";
import { experimentDir } from "../../shared/names.ts";
import { LineWriter } from "../../shared/stream/writer.ts";
import { isId } from "./experiment.ts";
import { ksmdCpuSeconds, savings, whatIsMissing } from "./kernel.ts";
import { guestMemory } from "./memory.ts";

export const report: Run = async (invocation) => {
  const host = hostOf(invocation);
  const missing = whatIsMissing(false);
  const given = invocation.args.experiment;
  if (typeof given === "string" && !isId(given))
    return complain(
      invocation.tool,
      mtError("usage", `Cannot use --experiment ${JSON.stringify(given)}: it is no id`),
    );
  if (typeof given === "string" || process.stdin.isTTY) {
    if (missing) return complain(invocation.tool, missing);
    const writer = new LineWriter();
    writer.line(JSON.stringify(sample(host, given as string | undefined)));
    writer.flush();
    return EXIT.ok;
  }
  let experiment: string | undefined;
  return runFilterCommand(invocation, {
    changes: false,
    // `</dev/null` is a fine way to ask without a plan.
    open: true,
    reads: {
      experiment: (e) => {
        experiment = e.id;
      },
    },
    afterEnd: (context) => {
      if (missing) return context.note(missing);
      context.emit(sample(host, experiment));
    },
  });
};

function sample(host: string, experiment: string | undefined) {
  const cpu = ksmdCpuSeconds();
  return {
    kind: "sample",
    id: "ksm",
    host,
    time: new Date().toISOString(),
    ...(experiment === undefined ? {} : { experiment }),
    ...savings(),
    ...(cpu === undefined ? {} : { ksmd_cpu_s: cpu }),
    ...(experiment === undefined ? {} : guestMemory(experimentDir(experiment))),
  };
}
