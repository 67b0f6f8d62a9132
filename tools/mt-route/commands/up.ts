/**
 * `mt-route up`: starts a router's daemon when its record comes; one that runs with the same configuration is left alone.
 * When `end` has come, waits until every router has converged.
 */
import { err, ok, type Result } from "neverthrow";
import { runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { startProgress } from "../../../shared/cli/progress.ts";
import { fail, type MtError, mtError } from "../../../shared/errors.ts";
import { routerNamespace, tunnelPort } from "../../../shared/host/names.ts";
import { isInNamespace, namespaceInode } from "../../../shared/host/netns.ts";
import { limiter } from "../../../shared/limiter.ts";
import { ownDir } from "../../../shared/own-place.ts";
import type { Router } from "../../../shared/records/index.ts";
import { failedEarlier, withoutFailure } from "../../../shared/stages.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";
import { diagnose } from "../converge/diagnose.ts";
import { notConverged, progressOf } from "../converge/goal.ts";
import { emptyView, failAll, noExperiment, obstacle, readInto } from "../converge/host-view.ts";
import { converged, emitSample, emptyTally } from "../converge/report.ts";
import { forgetTime, watchTables } from "../converge/watch.ts";
import type { Engine } from "../engines/engine.ts";
import { engineOf } from "../engines/engines.ts";
import { type Daemon, dirOf, runningRouters } from "../engines/routers-here.ts";
import type { spec } from "../spec.ts";

const STARTS_AT_ONCE = 4;

interface Ensured {
  daemon: Daemon;
  /** Started by this run, so that its age says how long convergence took. */
  fresh: boolean;
}

export const up: Run<typeof spec, "up"> = async (invocation) => {
  const { timeout: timeout_s } = invocation.args;
  const progress = startProgress("routers", invocation.args.progress);
  const view = emptyView();
  const tally = emptyTally();
  const turn = limiter(STARTS_AT_ONCE);
  const watch = watchTables(view.prefixes, invocation.signal);
  let daemons: Promise<Map<string, Daemon>> | undefined;

  /** Makes a router's daemon run with the configuration of its record. */
  const ensure = async (router: Router, engine: Engine, host: string): Promise<Result<Ensured, MtError>> => {
    if (view.experiment === undefined) return err(noExperiment(router));
    const netns = routerNamespace(host, view.experiment, router.id);
    if (namespaceInode(netns) === undefined)
      return fail(
        "failed",
        `Cannot start router ${router.id}: its namespace ${netns} is not there`,
        "mt-vnet up",
      );
    daemons ??= runningRouters(view.experiment);
    const dir = dirOf(view.experiment, router.id);
    const config = engine.config(view.experiment, router, view.delays);
    const there = (await daemons).get(dir);
    if (there?.engine.isRunning(dir, there.pid)) {
      if (there.engine === engine && isInNamespace(there.pid, netns)) {
        if (engine.current(dir) === config) return ok({ daemon: there, fresh: false });
        forgetTime(dir);
        return (await engine.reload(dir, config)).map(() => ({ daemon: there, fresh: false }));
      }
      // It is of another engine, or its namespace was replaced, so that it has no links.
      const ended = await there.engine.end(dir, there.pid);
      if (ended.isErr()) return err(ended.error);
    }
    ownDir(dir);
    forgetTime(dir);
    const started = await engine.start(dir, netns, config);
    return started.map((pid) => ({ daemon: { engine, dir, pid }, fresh: true }));
  };

  const diagnosed = (router: Router, daemon: Daemon, host: string) =>
    diagnose(
      router,
      daemon,
      routerNamespace(host, view.experiment!, router.id),
      tunnelPort(view.experiment!),
    );

  const own = async (router: Router, context: FilterContext) => {
    tally.routers++;
    if (failedEarlier(router, context.by)) return undefined;
    const record = withoutFailure(router);
    const engine = await engineOf(record);
    const blocked = obstacle(["nsenter", ...engine.programs]);
    if (blocked) return failAll(record, blocked, context);
    progress.grow(1);
    const ensured = await turn(async () =>
      context.signal.aborted ? undefined : await ensure(record, engine, context.host),
    );
    if (ensured === undefined) return undefined;
    if (ensured.isErr()) {
      progress.step(1, 1);
      return context.failed(record, ensured.error);
    }
    const { daemon, fresh } = ensured.value;
    tally.pids.push(daemon.pid);
    const watched = watch.add(record, daemon, fresh);
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
              `Cannot keep router ${record.id} up: ${engine.title} ended (${seen.why ?? "its log gives no reason: killed, or out of memory"})`,
              `${engine.log(daemon.dir)} has all that it said`,
            ),
          );
        if (context.signal.aborted) return { ...record, state: "running" };
        const why = await turn(() => diagnosed(record, daemon, context.host));
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
