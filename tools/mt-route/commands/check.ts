/** `mt-route check`: the state of each router now, from its daemon and its kernel table. Changes nothing. */
import { runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { mtError } from "../../../shared/errors.ts";
import { routerNamespace, tunnelPort } from "../../../shared/host/names.ts";
import { isInNamespace } from "../../../shared/host/netns.ts";
import { limiter } from "../../../shared/limiter.ts";
import type { Router } from "../../../shared/records/index.ts";
import { failedEarlier, withoutFailure } from "../../../shared/stages.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";
import { diagnose } from "../converge/diagnose.ts";
import { isConverged, progressOf } from "../converge/goal.ts";
import { emptyView, failAll, noExperiment, obstacle, readInto } from "../converge/host-view.ts";
import { converged, emitSample, emptyTally } from "../converge/report.ts";
import { readTable } from "../converge/table.ts";
import { keptTime } from "../converge/watch.ts";
import { engineOf } from "../engines/engines.ts";
import { type Daemon, dirOf, runningRouters } from "../engines/routers-here.ts";
import type { spec } from "../spec.ts";

const DIAGNOSES_AT_ONCE = 4;

export const check: Run<typeof spec, "check"> = async (invocation) => {
  const blocked = obstacle([]);
  const view = emptyView();
  const tally = emptyTally();
  const turn = limiter(DIAGNOSES_AT_ONCE);
  let daemons = new Map<string, Daemon>();

  const look = async (record: Router, context: FilterContext): Promise<Router> => {
    if (view.experiment === undefined) return context.failed(record, noExperiment(record));
    const dir = dirOf(view.experiment, record.id);
    const netns = routerNamespace(context.host, view.experiment, record.id);
    const engine = await engineOf(record);
    const daemon = daemons.get(dir);
    const table = daemon && readTable(daemon.pid);
    const cannot = (why: string) =>
      context.failed(record, mtError("failed", `Cannot confirm router ${record.id}: ${why}`, "mt-route up"));
    if (!daemon || !table || daemon.engine !== engine) return cannot(`${engine.title} does not run`);
    if (!isInNamespace(daemon.pid, netns))
      return cannot(`${engine.title} runs in a namespace that was replaced`);
    tally.pids.push(daemon.pid);
    if (isConverged(record, table, view.prefixes)) return converged(tally, record, keptTime(dir));
    const { count, rest } = progressOf(record, table, view.prefixes, view.origins);
    const port = tunnelPort(view.experiment);
    const { says, hint } = await turn(() => diagnose(record, daemon, netns, port));
    const why = says.map((clause) => `; ${clause}`).join("");
    context.note(mtError("failed", `Cannot confirm router ${record.id}: ${count}${rest}${why}`, hint));
    return { ...record, state: "running" };
  };

  return runFilterCommand(invocation, {
    changes: false,
    reads: readInto(view),
    owns: {
      router: (router, context) => {
        tally.routers++;
        if (failedEarlier(router, context.by)) return undefined;
        const { converged_s: _before, ...record } = withoutFailure(router);
        if (blocked) return failAll(record, blocked, context);
        return context.atEnd(() => look(record, context));
      },
    },
    onEnd: async () => {
      if (view.experiment !== undefined) daemons = await runningRouters(view.experiment);
    },
    afterEnd: (context) => emitSample(tally, view.experiment, context),
  });
};
