/**
 * `mt-boot up`: starts or resumes the plan's guests of this host; those that run are left alone. Each is begun when its
 * record comes; the state on its record is the one at the end, when the last guest is there.
 */
import { runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { startProgress } from "../../../shared/cli/progress.ts";
import { inform } from "../../../shared/cli/stderr.ts";
import { type MtError, mtError, orThrow } from "../../../shared/errors.ts";
import { findProgram } from "../../../shared/host/process.ts";
import type { Experiment, Guest, Image } from "../../../shared/records/index.ts";
import { guestMembers, type Outcome } from "../../../shared/records/members.ts";
import { failedEarlier, withoutFailure } from "../../../shared/stages.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";
import { keptText, withText } from "../client/came-as.ts";
import { ask, because } from "../client/client.ts";
import { foldNamed } from "../client/fold.ts";
import { jobsOf } from "../client/jobs.ts";
import { availableMib } from "../machine/room.ts";
import { platformOf } from "../platforms/platforms.ts";
import { type GuestLine, nameGuest, type StatsLine, type UpRequest } from "../protocol.ts";
import type { spec } from "../spec.ts";
import { bootInBatches } from "./batches.ts";

export const up: Run<typeof spec, "up"> = async (invocation) => {
  const { args } = invocation;
  const jobs = jobsOf(args, 2);
  const { retries, batch } = args;
  const ready_timeout_s = args["ready-timeout"];
  const answer_timeout_s = args["answer-timeout"];
  const reserve_mib = args["reserve-mib"];
  const between = args.between || undefined;
  const until_full = args["until-full"];
  const progress = startProgress("guests", args.progress, () => `${availableMib()} MiB free`);
  const images = new Map<string, Image>();
  /** The latest outcome of each guest, by id. */
  const outcomes = new Map<string, GuestLine>();
  const counted = new Set<string>();
  /** Why the supervisor said nothing about a guest. */
  let silence: MtError | undefined;
  const later: Guest[] = [];
  let experiment: Experiment | undefined;
  const asked_for: string[] = [];
  let began: number | undefined;
  let last_done = 0;

  /** Asks for the guests of a record, and waits until all have the wanted state or are given up. */
  const bootRecord = async (guest: Guest, context: FilterContext): Promise<void> => {
    const request: UpRequest = {
      guest,
      text: keptText(guest),
      image: images.get(guest.image)!,
      paused: args.paused,
      jobs: jobs.count(),
      retries,
      ready_timeout_s,
      answer_timeout_s,
      accel: args.accel,
      boot_mode: args.boot,
      reserve_mib,
      until_full,
    };
    const { host, signal } = context;
    const asked = await ask({ experiment: experiment!.id, host, signal }, "up", request, (line) => {
      if (line.kind !== "guest") return;
      if (!counted.has(line.id)) progress.step(1, line.state === "failed" ? 1 : 0);
      counted.add(line.id);
      outcomes.set(line.id, line);
    });
    if (asked.isErr()) silence = because("boot", asked.error, signal);
    last_done = performance.now();
  };

  const outcomeOf = ({ id }: Pick<Guest, "id">): Outcome => {
    const line = outcomes.get(id);
    const unsaid =
      silence ?? mtError("bug", "Cannot boot {id}: the supervisor did not say what became of it");
    const known = line ?? { state: "failed" as const, error: unsaid };
    const { state, error } = known;
    if (state === "ready" || state === "paused") return { state };
    const late = mtError("timeout", "Cannot keep {id} running: it came up, died, and was not back in time");
    return {
      state: state === "planned" ? "planned" : "failed",
      error: { by: "mt-boot", ...(error ?? late) },
    };
  };

  const boot = async (record: Guest, context: FilterContext) => {
    if (failedEarlier(record, "mt-boot")) return undefined;
    const { error: _refused, ...guest } = withText(withoutFailure(record), context.text);
    const members = guestMembers(guest);
    if (members.isErr()) return context.failed(guest, members.error);
    began ??= performance.now();
    const count = members.value.length;
    for (const { id } of members.value) asked_for.push(id);
    progress.grow(count);
    const missing = whatIsMissing(guest);
    if (missing) {
      last_done = performance.now();
      for (const { id } of members.value)
        outcomes.set(id, { kind: "guest", id, state: "failed", error: missing });
      progress.step(count, count);
      if (missing.code === "unavailable") context.note(missing);
      return context.failed(guest, missing);
    }
    if (batch === undefined) await bootRecord(guest, context);
    else later.push(guest);
    const fold = () => orThrow(foldNamed(guest, members.value.map(outcomeOf)));
    // The stream was cut off: the guests that came are told all the same.
    return (await context.atEnd(fold)) ?? (batch === undefined ? fold() : undefined);
  };

  const whatIsMissing = (guest: Guest): MtError | undefined => {
    if (experiment === undefined)
      return mtError("data", `Cannot boot ${guest.id}: no experiment record came before it`);
    const image = images.get(guest.image);
    if (image === undefined)
      return mtError(
        "data",
        `Cannot boot ${guest.id}: no image record ${guest.image} came before it`,
        "mt-topo place closes a plan",
      );
    const installed = platformOf(image).andThen(({ qemu }) => findProgram(qemu));
    return installed.isErr() ? nameGuest(installed.error, guest.id) : undefined;
  };

  const code = await runFilterCommand(invocation, {
    changes: true,
    reads: {
      experiment: (record) => {
        experiment = record;
      },
      image: (record) => {
        images.set(record.id, record);
      },
      host: (record, context) => {
        jobs.see(record, context.host);
      },
    },
    owns: { guest: boot },
    onEnd: async (context) => {
      if (experiment === undefined) return;
      if (batch !== undefined)
        await bootInBatches(later, { batch, between, experiment, outcomes, context, boot: bootRecord });
      // A guest may have died since it came up: wait for it again.
      const ids = [...outcomes.values()].filter(({ state }) => state === "ready" || state === "paused");
      if (ids.length === 0) return;
      const { host, signal } = context;
      await ask(
        { experiment: experiment.id, host, signal },
        "confirm",
        { ids: ids.map(({ id }) => id), timeout_s: 2 * ready_timeout_s },
        (line) => void (line.kind === "guest" && outcomes.set(line.id, line)),
      );
      last_done = performance.now();
    },
    afterEnd: async (context) => {
      if (experiment === undefined || began === undefined) return;
      const seconds = round(Math.max(0, last_done - began) / 1000);
      const tally = { ready: 0, paused: 0, failed: 0, planned: 0 };
      for (const id of asked_for) {
        const { state } = outcomeOf({ id });
        if (state !== undefined && state in tally) tally[state as keyof typeof tally]++;
      }
      let stats: StatsLine | undefined;
      if (tally.ready + tally.paused > 0)
        await ask(
          { experiment: experiment.id, host: context.host, signal: context.signal },
          "stats",
          undefined,
          (line) => {
            if (line.kind === "stats") stats = line;
          },
        );
      const up = tally.ready + tally.paused;
      if (until_full && tally.planned > 0)
        inform(`${up} of ${asked_for.length} guests fit on ${context.host}`);
      const { planned, ...told } = tally;
      context.emit({
        kind: "sample",
        id: "boot",
        host: context.host,
        time: new Date().toISOString(),
        experiment: experiment.id,
        guests: asked_for.length,
        ...told,
        ...(planned > 0 ? { planned } : {}),
        seconds,
        guests_per_s: seconds > 0 ? round(up / seconds) : 0,
        ...(stats === undefined ? {} : { forked: stats.forked }),
        ...(stats?.restored_ms === undefined ? {} : { restored_ms: round(stats.restored_ms) }),
        ...(stats?.rss_mib === undefined ? {} : { rss_mib: stats.rss_mib, pss_mib: stats.pss_mib }),
        ...(stats === undefined ? {} : { supervisor_cpu_s: round(stats.supervisor_cpu_s) }),
      });
    },
  });
  progress.stop();
  return code;
};

const round = (x: number) => Math.round(x * 1000) / 1000;
