/** `mt-boot up`: the plan's guests of this host are there: started, resumed, or left alone as they run. */
import { runFilterCommand } from "../../shared/cli/filter-command.ts";
import { numberArg } from "../../shared/cli/parse.ts";
import { startProgress } from "../../shared/cli/progress.ts";
import type { Run } from "../../shared/cli/start.ts";
import { type MtError, mtError, orThrow } from "../../shared/errors.ts";
import { findProgram } from "../../shared/process.ts";
import type { Guest, Image } from "../../shared/records/index.ts";
import { guestMembers, type Outcome } from "../../shared/records/members.ts";
import { failedEarlier, withoutFailure } from "../../shared/stages.ts";
import type { FilterContext } from "../../shared/stream/filter.ts";
import { QEMU } from "./argv.ts";
import { ask, because } from "./client.ts";
import { foldNamed } from "./fold.ts";
import { jobsOf } from "./jobs.ts";
import type { AcceleratorWish } from "./ledger.ts";
import type { GuestLine, StatsLine, UpRequest } from "./protocol.ts";

export const up: Run = async (invocation) => {
  const { args } = invocation;
  const jobs = orThrow(jobsOf(args, 2));
  const retries = orThrow(numberArg(args, "retries", { max: 1000 }));
  const ready_timeout_s = orThrow(numberArg(args, "ready-timeout", { min: 1, max: 86_400 }));
  const progress = await startProgress("guests", args.progress === true);
  const images = new Map<string, Image>();
  const tally = { guests: 0, ready: 0, paused: 0, failed: 0 };
  let experiment: string | undefined;
  let began: number | undefined;
  let last_done = 0;

  const boot = async (
    record: Guest,
    context: FilterContext,
  ): Promise<object | readonly object[] | undefined> => {
    if (failedEarlier(record, "mt-boot")) return undefined;
    const guest = withoutFailure(record);
    const members = guestMembers(guest);
    if (members.isErr()) return context.failed(guest, members.error);
    began ??= performance.now();
    const count = members.value.length;
    tally.guests += count;
    progress.grow(count);
    const allFailed = (error: MtError) => {
      last_done = performance.now();
      tally.failed += count;
      progress.step(count, count);
      return context.failed(guest, error);
    };
    if (experiment === undefined)
      return allFailed(mtError("data", `Cannot boot ${guest.id}: no experiment record came before it`));
    const image = images.get(guest.image);
    if (!image)
      return allFailed(
        mtError(
          "data",
          `Cannot boot ${guest.id}: no image record ${guest.image} came before it`,
          "mt-topo place closes a plan",
        ),
      );
    const installed = findProgram(QEMU);
    if (installed.isErr()) {
      context.note(installed.error);
      return allFailed(installed.error);
    }
    const request: UpRequest = {
      guest,
      image,
      paused: args.paused === true,
      jobs: jobs.count(),
      retries,
      ready_timeout_s,
      accel: args.accel as AcceleratorWish,
    };
    const outcomes = new Map<string, GuestLine>();
    const asked = await ask(
      { experiment, host: context.host, signal: context.signal },
      "up",
      request,
      (line) => {
        if (line.kind !== "guest" || outcomes.has(line.id)) return;
        outcomes.set(line.id, line);
        progress.step(1, line.state === "failed" ? 1 : 0);
      },
    );
    last_done = performance.now();
    const results = members.value.map(({ id }): Outcome => {
      const line = outcomes.get(id);
      const why = asked.isErr()
        ? because("boot", asked.error, context.signal)
        : mtError("bug", "Cannot boot {id}: the supervisor did not say what became of it");
      const error = line ? line.error : why;
      const state = line?.state ?? "failed";
      if (state === "failed" || state === "ready" || state === "paused") tally[state]++;
      return error && state === "failed" ? { state, error: { by: "mt-boot", ...error } } : { state };
    });
    return orThrow(foldNamed(guest, results));
  };

  const code = await runFilterCommand(invocation, {
    changes: true,
    reads: {
      experiment: (record) => {
        experiment = record.id;
      },
      image: (record) => {
        images.set(record.id, record);
      },
      host: (record, context) => {
        jobs.see(record, context.host);
      },
    },
    owns: { guest: boot },
    afterEnd: async (context) => {
      if (experiment === undefined || began === undefined) return;
      const seconds = round((last_done - began) / 1000);
      let stats: StatsLine | undefined;
      if (tally.ready + tally.paused > 0)
        await ask({ experiment, host: context.host, signal: context.signal }, "stats", undefined, (line) => {
          if (line.kind === "stats") stats = line;
        });
      context.emit({
        kind: "sample",
        id: "boot",
        host: context.host,
        time: new Date().toISOString(),
        experiment,
        ...tally,
        seconds,
        guests_per_s: seconds > 0 ? round((tally.ready + tally.paused) / seconds) : 0,
        ...(stats?.rss_mib === undefined ? {} : { rss_mib: stats.rss_mib, pss_mib: stats.pss_mib }),
        ...(stats === undefined ? {} : { supervisor_cpu_s: round(stats.supervisor_cpu_s) }),
      });
    },
  });
  progress.stop();
  return code;
};

const round = (x: number) => Math.round(x * 1000) / 1000;
