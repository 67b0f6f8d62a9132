/** `mt-route check`: what is true of each router now, by its process and its kernel table. Changes nothing. */
import { runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { mtError } from "../../../shared/errors.ts";
import { routerNamespace, tunnelPort } from "../../../shared/host/names.ts";
import { limiter } from "../../../shared/limiter.ts";
import type { Router } from "../../../shared/records/index.ts";
import { failedEarlier, withoutFailure } from "../../../shared/stages.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";
import { diagnose } from "../converge/diagnose.ts";
import { isConverged, progressOf } from "../converge/goal.ts";
import { emptyView, failAll, noExperiment, obstacle, readInto } from "../converge/host-view.ts";
import { converged, emitSample, emptyTally } from "../converge/report.ts";
import { readTable } from "../converge/table.ts";
import { remembered } from "../converge/watch.ts";
import { birdFiles, findBirds, isInNamespace, routersDir } from "../engines/bird.ts";

const DIAGNOSES_AT_ONCE = 4;

export const check: Run = async (invocation) => {
  const blocked = obstacle([]);
  const view = emptyView();
  const tally = emptyTally();
  const turn = limiter(DIAGNOSES_AT_ONCE);
  let birds = new Map<string, number>();

  const look = async (record: Router, context: FilterContext): Promise<Router> => {
    if (view.experiment === undefined) return context.failed(record, noExperiment(record));
    const files = birdFiles(view.experiment, record.id);
    const pid = birds.get(files.config);
    const table = pid === undefined ? undefined : readTable(pid);
    if (pid === undefined || table === undefined)
      return context.failed(
        record,
        mtError("failed", `Cannot confirm router ${record.id}: BIRD does not run`, "mt-route up"),
      );
    if (!isInNamespace(pid, routerNamespace(context.host, view.experiment, record.id)))
      return context.failed(
        record,
        mtError(
          "failed",
          `Cannot confirm router ${record.id}: BIRD runs in a namespace that was replaced`,
          "mt-route up",
        ),
      );
    tally.pids.push(pid);
    if (isConverged(record, table, view.prefixes)) return converged(tally, record, remembered(files));
    const { count, rest } = progressOf(record, table, view.prefixes, view.origins);
    const netns = routerNamespace(context.host, view.experiment, record.id);
    const port = tunnelPort(view.experiment);
    const { says, hint } = await turn(() => diagnose(record, files, netns, port));
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
    onEnd: () => {
      if (view.experiment !== undefined) birds = findBirds(routersDir(view.experiment));
    },
    afterEnd: (context) => emitSample(tally, view.experiment, context),
  });
};
