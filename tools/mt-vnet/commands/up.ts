/**
 * mt-vnet up: makes what each record needs as it comes. When the stream has been read, prints one `switch` record
 * a segment.
 */
import { runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { startProgress } from "../../../shared/cli/progress.ts";
import type { End } from "../../../shared/records/index.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";
import { fabricHere } from "../fabric/fabrics.ts";
import { Network } from "../fabric/network.ts";
import { shaperHere } from "../shape/shapers.ts";
import type { spec } from "../spec.ts";

export const up: Run<typeof spec, "up"> = async (invocation) => {
  const progress = startProgress("ports", invocation.args.progress);
  const network = new Network(invocation, progress, await fabricHere(), await shaperHere());
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
