/**
 * `mt-status left`: counts what is on this machine now and was not at the snapshot. Writes the number into the verdicts
 * on stdin, or prints it as a `sample`; exits 1 where something is left or a verdict is not wholly true.
 */
import { resolve } from "node:path";
import { hostOf } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { warn } from "../../../shared/cli/stderr.ts";
import { orThrow } from "../../../shared/errors.ts";
import { waitFor } from "../../../shared/host/process.ts";
import type { Verdict } from "../../../shared/records/index.ts";
import { noStdin } from "../../../shared/stream/descriptors.ts";
import { runFilter } from "../../../shared/stream/filter.ts";
import { stdinChunks } from "../../../shared/stream/stdin.ts";
import { lookAtMachine, whatIsNew } from "../left/machine.ts";
import type { spec } from "../spec.ts";
import { inOrder, notTrue, untruths } from "../verdict/truth.ts";
import { remember } from "./history.ts";
import { readSnapshot, SNAPSHOT_ID } from "./snapshot.ts";

const POLL_MS = 200;
const LEFT_TOLD_MAX = 20;

export const left: Run<typeof spec, "left"> = async (invocation) => {
  const { args, signal } = invocation;
  const { since: file, grace: grace_s } = args;
  const before = orThrow(readSnapshot(file));

  const look = () => whatIsNew(before, lookAtMachine()).filter((thing) => thing !== `file ${resolve(file)}`);
  const measure = async () => {
    const clean = await waitFor(() => (look().length === 0 ? true : undefined), grace_s, POLL_MS, signal);
    const things = clean ? [] : look();
    const seconds = Math.round((Date.now() - Date.parse(before.time)) / 100) / 10;
    const told = things.length === 0 ? {} : { left: things.slice(0, LEFT_TOLD_MAX) };
    return { left_behind: things.length, seconds, ...told };
  };
  let measured: ReturnType<typeof measure> | undefined;

  const { code, error } = await runFilter(
    {
      by: invocation.tool,
      host: hostOf(invocation),
      only: args.only,
      anyHost: true,
      changes: false,
      open: true,
      owns: {
        verdict: async (verdict, context) => {
          measured ??= measure();
          const whole: Verdict = inOrder({ ...verdict, ...(await measured) });
          const what = untruths(whole);
          // The error of an earlier stage stays: it says more.
          if (what.length > 0) whole.error ??= { by: context.by, ...notTrue(whole.id, what) };
          if (whole.error) context.note(notTrue(whole.id, what.length > 0 ? what : [whole.error.message]));
          await remember(whole);
          return whole;
        },
      },
      afterEnd: async (context) => {
        if (measured) return;
        const found = await measure();
        const time = new Date().toISOString();
        context.emit({
          kind: "sample",
          id: SNAPSHOT_ID,
          host: context.host,
          time,
          since: before.time,
          ...found,
        });
        if (found.left_behind > 0)
          context.note(notTrue("this machine", [`${found.left_behind} things are left behind`]));
      },
    },
    { input: noStdin() ? nothing() : stdinChunks(), signal },
  );
  if (error && !signal.aborted) warn(error);
  return code;
};

async function* nothing(): AsyncGenerator<Buffer> {}
