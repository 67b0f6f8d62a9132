/**
 * mt-ksm settle: at `end`, merges as fast as it can until the kernel's counters say that a whole scan
 * gained nothing more, then leaves merging on at a low rate. Emits one `sample`. Where the kernel lets
 * nobody here set it, says so once a machine and goes on.
 */
import { setTimeout } from "node:timers/promises";
import { hostOf, runFilterCommand } from "../../shared/cli/filter-command.ts";
import { numberArg } from "../../shared/cli/parse.ts";
import type { Run } from "../../shared/cli/start.ts";
import { inform } from "../../shared/cli/stderr.ts";
import { type MtError, mtError, orThrow } from "../../shared/errors.ts";
import { leaseHolder } from "../../shared/names.ts";
import { parseRange, rangeCount } from "../../shared/ranges.ts";
import type { FilterContext } from "../../shared/stream/filter.ts";
import { type Counters, type Rest, watchForRest } from "./converge.ts";
import { counter, has, ksmdCpuSeconds, savings, whatIsMissing, whyNotOurs } from "./kernel.ts";
import { mergeSlowly, noteOff, scanHard, scansHard, stopScanningHard } from "./settings.ts";

const SAMPLE_EVERY_MS = 500;
const SAY_EVERY_S = 5;

export const settle: Run = async (invocation) => {
  const host = hostOf(invocation);
  const timeout_s = orThrow(numberArg(invocation.args, "timeout", { integer: false }));
  const gain = orThrow(numberArg(invocation.args, "gain", { integer: false, max: 100 })) / 100;
  const tells = invocation.args.progress === true || process.stderr.isTTY === true;
  let experiment: string | undefined;
  let guests = 0;
  return runFilterCommand(invocation, {
    changes: true,
    reads: {
      experiment: (e) => {
        experiment = e.id;
      },
      guest: (g) => {
        if (g.host === host) guests += parseRange(g.id).map(rangeCount).unwrapOr(0);
      },
    },
    onEnd: async (context) => {
      const began = new Date();
      const base = { kind: "sample", id: "ksm", host, experiment, guests };
      const fail = (error: MtError) => {
        context.note(error);
        context.emit({
          ...base,
          time: began.toISOString(),
          state: "failed",
          error: { by: context.by, ...error },
        });
      };
      const missing =
        experiment === undefined
          ? mtError("data", "Cannot settle: no experiment record came")
          : whatIsMissing(true);
      if (missing) return fail(missing);
      const why = whyNotOurs();
      if (why !== undefined) {
        const first = await noteOff(leaseHolder(host, experiment!));
        if (first.isErr()) return fail(first.error);
        if (first.value) inform(`memory is not merged: ${why}; guests take what they take without it`);
        return context.emit({ ...base, time: began.toISOString(), ...savings(), merging: "off", why });
      }
      const cpu = ksmdCpuSeconds();
      const result = await mergeUntilRest(leaseHolder(host, experiment!), {
        timeout_s,
        gain,
        tells,
        context,
      });
      if (result.error) return fail(result.error);
      const after = ksmdCpuSeconds();
      context.emit({
        ...base,
        time: new Date().toISOString(),
        ...savings(),
        ...(cpu === undefined || after === undefined
          ? {}
          : { ksmd_cpu_s: Math.round((after - cpu) * 100) / 100 }),
        seconds: Math.round((Date.now() - began.getTime()) / 10) / 100,
        settled: result.rest !== undefined,
      });
    },
  });
};

interface How {
  timeout_s: number;
  gain: number;
  tells: boolean;
  context: FilterContext;
}

async function mergeUntilRest(
  holder: string,
  { timeout_s, gain, tells, context }: How,
): Promise<{ rest: Rest; error?: MtError }> {
  const taken = await mergeSlowly(holder);
  if (taken.isErr()) return { rest: undefined, error: taken.error };
  const hard = await scanHard(holder);
  if (hard.isErr()) return { rest: undefined, error: hard.error };
  let rest: Rest;
  try {
    const isAtRest = watchForRest(read(), gain);
    const began = Date.now();
    let said = 0;
    for (;;) {
      const left_ms = Math.max(0, began + timeout_s * 1000 - Date.now());
      await pause(Math.min(SAMPLE_EVERY_MS, left_ms), context.signal);
      const seconds = (Date.now() - began) / 1000;
      const now = read();
      rest = isAtRest(now, seconds);
      if (rest || context.signal.aborted) break;
      if (seconds >= timeout_s) {
        inform(
          `not settled after ${timeout_s} s: scan ${now.full_scans}, ${savings().saved_mib} MiB saved so far; merging goes on slowly`,
        );
        break;
      }
      // Another host of this machine may have begun meanwhile, at the low rate.
      if (!scansHard()) orThrow(await scanHard(holder));
      if (tells && seconds - said >= SAY_EVERY_S) {
        said = seconds;
        inform(`scan ${now.full_scans}, ${savings().saved_mib} MiB saved`);
      }
    }
    if (tells && rest) inform(`${rest}: ${savings().saved_mib} MiB saved`);
  } finally {
    const slow = await stopScanningHard(holder);
    if (slow.isErr()) context.note(slow.error);
  }
  return { rest };
}

const read = (): Counters => ({
  pages_sharing: counter("pages_sharing"),
  full_scans: counter("full_scans"),
  pages_scanned: has("pages_scanned") ? counter("pages_scanned") : undefined,
});

/** Ends early where the signal comes. */
const pause = (ms: number, signal: AbortSignal) =>
  setTimeout(ms, undefined, { signal }).catch(() => undefined);
