/**
 * `mt-route down`: ends the BIRDs that the plan names, when its `end` has come, or all of an experiment's
 * on this host. What has gone already is no failure: it works twice, and after a crash.
 */

import { dirname } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { experimentArg } from "../../../shared/cli/experiment-arg.ts";
import { runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { complain } from "../../../shared/cli/start.ts";
import { EXIT, fail, type MtError } from "../../../shared/errors.ts";
import { limiter } from "../../../shared/limiter.ts";
import type { Router } from "../../../shared/records/index.ts";
import { withoutFailure } from "../../../shared/stages.ts";
import { noRecords } from "../../../shared/stream/stdin.ts";
import { emptyView, failAll, noExperiment, obstacle, readInto } from "../converge/host-view.ts";
import { birdFiles, endBird, findBirds, removeEmptyDirs, routerDirs, routersDir } from "../engines/bird.ts";

const ENDS_AT_ONCE = 16;

export const down: Run = async (invocation) => {
  const { experiment } = invocation.args;
  const blocked = obstacle([]);
  if (typeof experiment === "string") {
    const id = experimentArg(experiment);
    if (id.isErr()) return complain(invocation.tool, id.error);
    if (blocked) return complain(invocation.tool, blocked);
    return downAll(invocation.tool, experiment);
  }
  const none = noRecords("mt-route down <abilene.plan, or mt-route down --experiment abilene");
  if (none) return complain(invocation.tool, none);
  const view = emptyView();
  const turn = limiter(ENDS_AT_ONCE);
  let birds = new Map<string, number>();
  const end = async (router: Router): Promise<Result<void, MtError>> => {
    if (view.experiment === undefined) return err(noExperiment(router));
    const { dir, config } = birdFiles(view.experiment, router.id);
    const pid = birds.get(config);
    return (await endBird(dir, pid)) ? ok(undefined) : notEnded(router.id, pid);
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
    onEnd: () => {
      if (view.experiment !== undefined) birds = findBirds(routersDir(view.experiment));
    },
    afterEnd: () => {
      if (view.experiment !== undefined) removeEmptyDirs(view.experiment);
    },
  });
};

async function downAll(tool: string, experiment: string): Promise<number> {
  const birds = findBirds(routersDir(experiment));
  const dirs = new Set([...routerDirs(experiment), ...[...birds.keys()].map(dirname)]);
  const byDir = new Map([...birds].map(([config, pid]) => [dirname(config), pid]));
  const turn = limiter(ENDS_AT_ONCE);
  const ended = await Promise.all(
    [...dirs].map((dir) =>
      turn(async () => {
        const pid = byDir.get(dir);
        return (await endBird(dir, pid)) ? undefined : notEnded(dir, pid);
      }),
    ),
  );
  removeEmptyDirs(experiment);
  const first = ended.find((e) => e !== undefined);
  return first?.isErr() ? complain(tool, first.error) : EXIT.ok;
}

const notEnded = (what: string, pid: number | undefined) =>
  fail(
    "failed",
    `Cannot end BIRD of ${what}: process ${pid} does not end`,
    `ps -p ${pid} says what it waits for`,
  );
