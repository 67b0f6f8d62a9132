/**
 * mt-ksm settle: at `end`, scans hard until another scan of all memory gains nothing, by the kernel's counters. Emits
 * one `sample`. Where KSM cannot be set here, says so once a machine and goes on.
 */
import { hostOf, runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { inform } from "../../../shared/cli/stderr.ts";
import type { MtError } from "../../../shared/errors.ts";
import { parseRange, rangeCount } from "../../../shared/nodeset/ranges.ts";
import { isTerminal } from "../../../shared/stream/descriptors.ts";
import type { Rest } from "../merging/controller.ts";
import { ksmdCpuSeconds, savings } from "../merging/kernel.ts";
import { takeShare } from "../merging/share.ts";
import { steer } from "../merging/steer.ts";
import type { spec } from "../spec.ts";

const SAY_EVERY_S = 5;

export const settle: Run<typeof spec, "settle"> = async (invocation) => {
  const host = hostOf(invocation);
  const { timeout: timeout_s } = invocation.args;
  const gain = invocation.args.gain / 100;
  const tells = invocation.args.progress || isTerminal(2);
  let experiment: string | undefined;
  let guests = 0;
  return runFilterCommand(invocation, {
    changes: true,
    reads: {
      experiment: (e) => {
        experiment = e.id;
      },
      guest: (g, context) => {
        if (g.host !== host) return;
        const range = parseRange(g.id);
        if (range.isErr()) context.note(range.error);
        else guests += rangeCount(range.value);
      },
    },
    onEnd: async (context) => {
      const base = { kind: "sample", id: "ksm", host, experiment, guests };
      const began = new Date();
      const fail = (error: MtError) => {
        context.note(error);
        const time = began.toISOString();
        context.emit({ ...base, time, state: "failed", error: { by: context.by, ...error } });
      };
      const cpu_s = ksmdCpuSeconds();
      const begun = await takeShare(host, experiment);
      if ("error" in begun) return fail(begun.error);
      if ("off" in begun)
        return context.emit({
          ...base,
          time: began.toISOString(),
          ...savings(),
          merging: "off",
          why: begun.off,
        });
      let rest: Rest | undefined;
      let said = 0;
      const problem = await steer(begun.holder, {
        gain,
        timeout_s,
        signal: context.signal,
        enough: ({ control, seconds }) => {
          rest = control.rest;
          if (rest || seconds >= timeout_s) return true;
          if (tells && seconds - said >= SAY_EVERY_S) {
            said = seconds;
            inform(`scan ${control.last.full_scans}, ${savings().saved_mib} MiB saved`);
          }
          return false;
        },
      });
      if (problem) return fail(problem);
      const saved = savings();
      if (tells && rest) inform(`${rest}: ${saved.saved_mib} MiB saved`);
      if (!rest && !context.signal.aborted)
        inform(
          `not settled after ${timeout_s} s: scan ${saved.full_scans}, ${saved.saved_mib} MiB saved so far; merging goes on slowly`,
        );
      const after_s = ksmdCpuSeconds();
      context.emit({
        ...base,
        time: new Date().toISOString(),
        ...saved,
        ...(cpu_s === undefined || after_s === undefined
          ? {}
          : { ksmd_cpu_s: Math.round((after_s - cpu_s) * 100) / 100 }),
        seconds: Math.round((Date.now() - began.getTime()) / 10) / 100,
        settled: rest !== undefined,
      });
    },
  });
};
