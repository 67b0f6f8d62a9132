/**
 * `mt-route up`: a router's BIRD is started when its record comes, and left alone where it runs with the
 * same configuration; when `end` has come, waits until every table is whole.
 */
import { readFileSync } from "node:fs";
import { err, ok, type Result } from "neverthrow";
import { runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { numberArg } from "../../../shared/cli/parse.ts";
import { startProgress } from "../../../shared/cli/progress.ts";
import { fail, type MtError, mtError, orThrow } from "../../../shared/errors.ts";
import { routerNamespace, tunnelPort } from "../../../shared/host/names.ts";
import { namespaceInode } from "../../../shared/host/netns.ts";
import { endProcess, isAlive } from "../../../shared/host/process.ts";
import { limiter } from "../../../shared/limiter.ts";
import type { Router } from "../../../shared/records/index.ts";
import { failedEarlier, withoutFailure } from "../../../shared/stages.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";
import { diagnose } from "../converge/diagnose.ts";
import { notConverged, progressOf } from "../converge/goal.ts";
import { emptyView, failAll, noExperiment, obstacle, readInto } from "../converge/host-view.ts";
import { converged, emitSample, emptyTally } from "../converge/report.ts";
import { watchTables } from "../converge/watch.ts";
import {
  type BirdFiles,
  birdFiles,
  findBirds,
  isInNamespace,
  reloadBird,
  routersDir,
  startBird,
} from "../engines/bird.ts";
import { birdConfig } from "../engines/config.ts";

const STARTS_AT_ONCE = 4;

interface Running {
  pid: number;
  /** Started or reloaded by this run. */
  fresh: boolean;
}

export const up: Run = async (invocation) => {
  const timeout_s = orThrow(numberArg(invocation.args, "timeout", { min: 1, max: 86_400 }));
  const blocked = obstacle(["nsenter", "bird", "birdc"]);
  const progress = startProgress("routers", invocation.args.progress === true);
  const view = emptyView();
  const tally = emptyTally();
  const turn = limiter(STARTS_AT_ONCE);
  const watch = watchTables(view.prefixes, invocation.signal);
  let birds: Map<string, number> | undefined;

  /** Makes one BIRD run with the configuration of its record. */
  const ensure = async (router: Router, host: string): Promise<Result<Running, MtError>> => {
    if (view.experiment === undefined) return err(noExperiment(router));
    const netns = routerNamespace(host, view.experiment, router.id);
    if (namespaceInode(netns) === undefined)
      return fail(
        "failed",
        `Cannot start router ${router.id}: its namespace ${netns} is not there`,
        "mt-vnet up",
      );
    birds ??= findBirds(routersDir(view.experiment));
    const files = birdFiles(view.experiment, router.id);
    const config = birdConfig(view.experiment, router, view.delays);
    const pid = birds.get(files.config);
    if (pid !== undefined && isAlive(pid, files.config)) {
      if (isInNamespace(pid, netns)) {
        if (readText(files.config) === config) return ok({ pid, fresh: false });
        return (await reloadBird(files, config)).map(() => ({ pid, fresh: false }));
      }
      // Its namespace was made anew: it runs where no link is any more.
      await endProcess(pid, files.config);
    }
    return (await startBird(files, netns, config)).map((started) => ({ pid: started, fresh: true }));
  };

  const diagnosed = (router: Router, files: BirdFiles, host: string) =>
    diagnose(router, files, routerNamespace(host, view.experiment!, router.id), tunnelPort(view.experiment!));

  const own = async (router: Router, context: FilterContext) => {
    tally.routers++;
    if (failedEarlier(router, context.by)) return undefined;
    const record = withoutFailure(router);
    if (blocked) return failAll(record, blocked, context);
    progress.grow(1);
    const running = await turn(async () =>
      context.signal.aborted ? undefined : await ensure(record, context.host),
    );
    if (running === undefined) return undefined;
    if (running.isErr()) {
      progress.step(1, 1);
      return context.failed(record, running.error);
    }
    const { pid, fresh } = running.value;
    tally.pids.push(pid);
    const files = birdFiles(view.experiment!, record.id);
    const watched = watch.add(record, pid, files, fresh);
    return (
      (await context.atEnd(async () => {
        const seen = await watched;
        progress.step(1, seen.is === "converged" ? 0 : 1);
        if (seen.is === "converged") return converged(tally, record, seen.seconds);
        if (seen.is === "ended")
          return context.failed(
            record,
            mtError(
              "failed",
              `Cannot keep router ${record.id} up: BIRD ended (${seen.why ?? "its log has no reason: killed, or out of memory"})`,
              `${files.log} has all that it said`,
            ),
          );
        if (context.signal.aborted) return { ...record, state: "running" };
        const why = await turn(() => diagnosed(record, files, context.host));
        const far = progressOf(record, seen.table ?? new Set(), view.prefixes, view.origins);
        return context.failed(record, notConverged(record, far, timeout_s, why));
      })) ?? { ...record, state: "running" }
    );
  };

  try {
    return await runFilterCommand(invocation, {
      changes: true,
      reads: readInto(view),
      owns: { router: own },
      onEnd: () => watch.end(timeout_s),
      afterEnd: (context) => emitSample(tally, view.experiment, context),
    });
  } finally {
    watch.stop();
    progress.stop();
  }
};

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}
