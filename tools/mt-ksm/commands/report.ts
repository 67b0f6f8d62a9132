/**
 * mt-ksm report: one `sample` of what merging saves and costs on this machine, and of the memory that the guests here
 * use; with --each one more for every guest.
 */
import { hostOf, runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { complain } from "../../../shared/cli/start.ts";
import { EXIT } from "../../../shared/errors.ts";
import { noStdin } from "../../../shared/stream/descriptors.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import { ksmdCpuSeconds, savings, whatIsMissing } from "../merging/kernel.ts";
import { guestMemory, inAll } from "../merging/memory.ts";
import type { spec } from "../spec.ts";

export const report: Run<typeof spec, "report"> = async (invocation) => {
  const host = hostOf(invocation);
  const { each, experiment: named } = invocation.args;
  const missing = whatIsMissing(false);
  if (named !== undefined || noStdin()) {
    if (missing) return complain(invocation.tool, missing);
    const writer = new LineWriter();
    for (const sample of samples(host, named, each)) writer.line(JSON.stringify(sample));
    writer.flush();
    return EXIT.ok;
  }
  let experiment: string | undefined;
  return runFilterCommand(invocation, {
    changes: false,
    // Without a plan (`</dev/null`) it reports the machine alone.
    open: true,
    reads: {
      experiment: (e) => {
        experiment = e.id;
      },
    },
    afterEnd: (context) => {
      if (missing) return context.note(missing);
      for (const sample of samples(host, experiment, each)) context.emit(sample);
    },
  });
};

function samples(host: string, experiment: string | undefined, each: boolean): object[] {
  const cpu = ksmdCpuSeconds();
  const base = {
    kind: "sample",
    host,
    time: new Date().toISOString(),
    ...(experiment ? { experiment } : {}),
  };
  const guests = experiment === undefined ? undefined : guestMemory(experiment);
  const all = {
    ...base,
    id: "ksm",
    ...savings(),
    ...(cpu === undefined ? {} : { ksmd_cpu_s: cpu }),
    ...(guests === undefined ? {} : inAll(guests.values())),
  };
  if (!each || guests === undefined) return [all];
  const one = [...guests].map(([guest, memory]) => ({ ...base, id: guest, guest, ...memory }));
  return [...one.sort((a, b) => a.guest.localeCompare(b.guest, "en", { numeric: true })), all];
}
