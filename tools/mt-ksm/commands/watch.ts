/**
 * mt-ksm watch: steers merging while the experiment is up, in the foreground with a `sample` every few seconds, or
 * (--daemon) as a background process. Only one process a machine steers; the others follow the same counters and take
 * over when it ends. Ends on a signal, or by `mt-ksm down`.
 */
import { hostOf, runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Invocation, Run } from "../../../shared/cli/invocation.ts";
import { EXIT, type MtError, MtFailure, mtError } from "../../../shared/errors.ts";
import { leaseHolders } from "../../../shared/host/lease.ts";
import { lock, readHolder } from "../../../shared/host/lock.ts";
import { startDaemon, toolCommand, waitFor } from "../../../shared/host/process.ts";
import { noRecords } from "../../../shared/stream/stdin.ts";
import { LineWriter, StdoutClosed } from "../../../shared/stream/writer.ts";
import { ksmdCpuSeconds, savings } from "../merging/kernel.ts";
import { watchLock } from "../merging/settings.ts";
import { takeShare } from "../merging/share.ts";
import { steer } from "../merging/steer.ts";
import { watchLog } from "../protection/files.ts";
import type { spec } from "../spec.ts";

const START_S = 20;

export const watch: Run<typeof spec, "watch"> = async (invocation) => {
  const { args, signal } = invocation;
  const host = hostOf(invocation);
  const watching = {
    host,
    every_s: args.every,
    gain: args.gain / 100,
  };
  const named = args.experiment;
  if (named === undefined) {
    const none = noRecords("pipe a plan in, or name one with --experiment", "watch");
    if (none) throw new MtFailure(none);
  } else {
    const writer = new LineWriter();
    const emit = (record: object) => {
      writer.line(JSON.stringify(record));
      writer.flush();
    };
    const work = args.daemon
      ? ensureWatch(invocation, named)
      : follow({ ...watching, experiment: named, signal, emit });
    const problem = await work.catch((thrown) => {
      if (thrown instanceof StdoutClosed) return mtError("io", "Cannot write to stdout: nobody reads it");
      throw thrown;
    });
    if (problem === undefined) return EXIT.ok;
    if ("code" in problem) throw new MtFailure(problem);
    emit(problem);
    return EXIT.ok;
  }
  let experiment: string | undefined;
  let left: object | undefined;
  return runFilterCommand(invocation, {
    changes: true,
    reads: {
      experiment: async (e, context) => {
        experiment = e.id;
        if (!args.daemon) return;
        const done = await ensureWatch(invocation, e.id);
        if (done !== undefined && "code" in done) context.note(done as MtError);
        else left = done;
      },
    },
    afterEnd: async (context) => {
      if (left) context.emit(left);
      if (args.daemon) return;
      if (experiment === undefined)
        return context.note(mtError("data", "Cannot watch: no experiment record came"));
      const { signal, emit } = context;
      const problem = await follow({ ...watching, experiment, signal, emit });
      if (problem && "code" in problem) context.note(problem);
      else if (problem) emit(problem);
    },
  });
};

interface Following {
  host: string;
  experiment: string;
  every_s: number;
  gain: number;
  signal: AbortSignal;
  emit: (record: object) => void;
}

/** Watches until it is told to stop. Returns an error, or the sample that says that KSM cannot be set here. */
async function follow(how: Following): Promise<MtError | { kind: "sample" } | undefined> {
  const { host, experiment, every_s, gain, signal, emit } = how;
  const base = { kind: "sample" as const, id: "ksm", host, experiment };
  const begun = await takeShare(host, experiment);
  if ("error" in begun) return begun.error;
  if ("off" in begun) return off(base, begun.off);
  const unlock = await lock(watchLock(begun.holder), `mt-ksm watch of ${experiment}`, 0);
  if (unlock.isErr()) {
    if (unlock.error.code !== "busy") return unlock.error;
    const pid = readHolder(watchLock(begun.holder))?.pid;
    return mtError("busy", `Cannot watch ${experiment}: ${pid ? `pid ${pid} does` : "another does"} already`);
  }
  const cpu_s = ksmdCpuSeconds();
  let told = Number.NEGATIVE_INFINITY;
  try {
    return await steer(begun.holder, {
      gain,
      signal,
      every_s,
      enough: ({ control, steers, seconds }) => {
        if (every_s > 0 && seconds - told >= every_s * 0.9) {
          told = seconds;
          const now_s = ksmdCpuSeconds();
          emit({
            ...base,
            time: new Date().toISOString(),
            ...savings(),
            ...(cpu_s === undefined || now_s === undefined ? {} : { ksmd_cpu_s: hundredths(now_s - cpu_s) }),
            processes: control.last.processes.size,
            pass_s: hundredths(control.order.pass_s),
            settled: control.rest !== undefined,
            steers,
          });
        }
        // Somebody released our lease, as taking down a whole host does.
        return !leaseHolders("ksm").includes(begun.holder);
      },
    });
  } finally {
    unlock.value();
  }
}

const hundredths = (n: number) => Math.round(n * 100) / 100;

const off = (base: { kind: "sample"; id: string; host: string; experiment: string }, why: string) => ({
  ...base,
  time: new Date().toISOString(),
  ...savings(),
  merging: "off",
  why,
});

/** Makes sure that one background watch of this experiment runs. Returns the sample that says so. */
async function ensureWatch(
  invocation: Invocation<typeof spec, "watch">,
  experiment: string,
): Promise<MtError | { kind: "sample" }> {
  const host = hostOf(invocation);
  const base = { kind: "sample" as const, id: "ksm", host, experiment };
  const begun = await takeShare(host, experiment);
  if ("error" in begun) return begun.error;
  if ("off" in begun) return off(base, begun.off);
  const watching = () => readHolder(watchLock(begun.holder))?.pid;
  if (watching() === undefined) {
    const [file, ...words] = toolCommand("mt-ksm");
    const flags = [
      "--host",
      host,
      "--experiment",
      experiment,
      "--every",
      "0",
      "--gain",
      `${invocation.args.gain}`,
    ];
    const started = startDaemon(file!, [...words, "watch", ...flags], { log: watchLog(experiment) });
    if (started.isErr()) return started.error;
    if ((await waitFor(watching, START_S)) === undefined)
      return mtError(
        "failed",
        `Cannot watch ${experiment}: no process of it after ${START_S} s`,
        `see ${watchLog(experiment)}`,
      );
  }
  return { ...base, time: new Date().toISOString(), ...savings(), watch_pid: watching() } as {
    kind: "sample";
  };
}
