/**
 * mt-vnet up: acts on every record as it comes. One `switch` record a segment goes out when the stream is
 * read.
 */
import { runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { startProgress } from "../../../shared/cli/progress.ts";
import type { End } from "../../../shared/records/index.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";
import { Network } from "../fabric/network.ts";
import type { spec } from "../spec.ts";

export const up: Run<typeof spec, "up"> = async (invocation) => {
  const network = new Network(invocation, startProgress("ports", invocation.args.progress));
  const report = (context: FilterContext, end?: End) => network.report(context, end);
  return runFilterCommand(invocation, {
    changes: true,
    reads: {
      experiment: (e) => {
        network.experiment = e.id;
      },
      segment: (s, context) => {
        network.segment(s, context);
      },
    },
    owns: {
      router: (r, context) => network.router(r, context),
      guest: (g, context) => network.guest(g, context),
    },
    onEnd: report,
    onCutOff: report,
  });
};
