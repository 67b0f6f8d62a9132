/**
 * `mt-route down`: ends the daemons of the routers that the plan names, when its `end` has come, or all of an
 * experiment's on this host. Daemons that have ended already are no error, so it works twice, and after a crash.
 */
import { err, type Result } from "neverthrow";
import { runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { complain } from "../../../shared/cli/start.ts";
import { EXIT, type MtError } from "../../../shared/errors.ts";
import { limiter } from "../../../shared/limiter.ts";
import { removeOwn } from "../../../shared/own-place.ts";
import type { Router } from "../../../shared/records/index.ts";
import { withoutFailure } from "../../../shared/stages.ts";
import { noRecords } from "../../../shared/stream/stdin.ts";
import { emptyView, failAll, noExperiment, obstacle, readInto } from "../converge/host-view.ts";
import { engineOf } from "../engines/engines.ts";
import { type Daemon, dirOf, removeEmptyDirs, routerDirs, runningRouters } from "../engines/routers-here.ts";
import type { spec } from "../spec.ts";

const ENDS_AT_ONCE = 16;

export const down: Run<typeof spec, "down"> = async (invocation) => {
  const { experiment } = invocation.args;
  const blocked = obstacle([]);
  if (experiment !== undefined) {
    if (blocked) return complain(invocation.tool, blocked);
    return downAll(invocation.tool, experiment);
  }
  const none = noRecords("mt-route down <abilene.plan, or mt-route down --experiment abilene");
  if (none) return complain(invocation.tool, none);
  const view = emptyView();
  const turn = limiter(ENDS_AT_ONCE);
  let daemons = new Map<string, Daemon>();
  const end = async (router: Router): Promise<Result<void, MtError>> => {
    if (view.experiment === undefined) return err(noExperiment(router));
    const dir = dirOf(view.experiment, router.id);
    const daemon = daemons.get(dir);
    return (daemon?.engine ?? (await engineOf(router))).end(dir, daemon?.pid);
  };
  return runFilterCommand(invocation, {
    changes: true,
    reads: { experiment: readInto(view).experiment },
    owns: {
      router: (router, context) => {
        const { converged_s: _before, ...record } = withoutFailure(router);
        if (blocked) return failAll(record, blocked, context);
        return context.atEnd(async () => {
          const ended = await turn(() => end(record));
          return ended.isErr() ? context.failed(record, ended.error) : { ...record, state: "stopped" };
        });
      },
    },
    onEnd: async () => {
      if (view.experiment !== undefined) daemons = await runningRouters(view.experiment);
    },
    afterEnd: () => {
      if (view.experiment !== undefined) removeEmptyDirs(view.experiment);
    },
  });
};

async function downAll(tool: string, experiment: string): Promise<number> {
  const daemons = await runningRouters(experiment);
  const turn = limiter(ENDS_AT_ONCE);
  const ends = [...daemons.values()].map(({ engine, dir, pid }) => turn(() => engine.end(dir, pid)));
  const ended = await Promise.all(ends);
  // Directories that are left have no running daemon.
  for (const dir of routerDirs(experiment)) if (!daemons.has(dir)) removeOwn(dir);
  removeEmptyDirs(experiment);
  const first = ended.find((e) => e.isErr());
  return first?.isErr() ? complain(tool, first.error) : EXIT.ok;
}
