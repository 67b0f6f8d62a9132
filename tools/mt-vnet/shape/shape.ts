/**
 * Delay, loss and rate of segments, on the host's end of each port: a frame is delayed once, where it
 * leaves the bridge towards its receiver, so `delay_ms` is one way. What this kernel can do is tried, once.
 */
import { type MtError, mtError } from "../../../shared/errors.ts";
import { findProgram, run } from "../../../shared/host/process.ts";
import type { SegmentPlan } from "../fabric/segment-plan.ts";

/** Which queueing disciplines there are; undefined: not yet asked for. */
export interface Shaper {
  netem?: boolean;
  tbf?: boolean;
}

const PROBES = {
  netem: ["delay", "1ms"],
  tbf: ["rate", "1mbit", "burst", "16kb", "latency", "50ms"],
} as const;
/** Packets that netem holds: 100 ms of 10 Gbit/s. */
const NETEM_LIMIT = 100_000;
/** Bytes that tbf lets through at once: 10 ms of the rate, and at least a large segment. */
const burstBytes = (rate_mbit: number) => Math.max(16_384, Math.ceil((rate_mbit * 1e6) / 8 / 100));

/** What tc can hold: below, a frame takes seconds; above, its burst leaves 32 bits. */
const RATE_MBIT_MIN = 0.001;
const RATE_MBIT_MAX = 1_000_000;

/** Why no kernel can do what the segment asks for. */
export function unshapeable({ id, rate_mbit }: SegmentPlan): MtError | undefined {
  if (rate_mbit === undefined || (rate_mbit >= RATE_MBIT_MIN && rate_mbit <= RATE_MBIT_MAX)) return undefined;
  return mtError(
    "data",
    `Cannot limit segment ${id} to ${rate_mbit} Mbit/s: rates go from ${RATE_MBIT_MIN} to ${RATE_MBIT_MAX}`,
    "set its rate_mbit within that, or leave it out",
  );
}

const wantsNetem = (s: SegmentPlan) => s.delay_ms !== undefined || s.loss !== undefined;

/** Tries what the segments need, in a namespace that goes with the process. */
export async function probe(shaper: Shaper, segments: readonly SegmentPlan[]): Promise<void> {
  if (segments.some(wantsNetem)) shaper.netem ??= await tryQdisc("netem");
  if (segments.some((s) => s.rate_mbit !== undefined)) shaper.tbf ??= await tryQdisc("tbf");
}

async function tryQdisc(kind: keyof typeof PROBES): Promise<boolean> {
  const done = await run("unshare", [
    "--net",
    findProgram("tc").unwrapOr("tc"),
    "qdisc",
    "add",
    "dev",
    "lo",
    "root",
    kind,
    ...PROBES[kind],
  ]);
  return done.isOk() && done.value.code === 0;
}

/** What of the segment's wishes the kernel fulfils; undefined where it has none. */
export function applied(s: SegmentPlan, shaper: Shaper): Record<string, boolean> | undefined {
  const out: Record<string, boolean> = {};
  if (s.delay_ms !== undefined) out.delay_ms = shaper.netem === true;
  if (s.loss !== undefined) out.loss = shaper.netem === true;
  if (s.rate_mbit !== undefined)
    out.rate_mbit = (wantsNetem(s) && shaper.netem === true) || shaper.tbf === true;
  return Object.keys(out).length > 0 ? out : undefined;
}

/** The line of `tc -batch` for one port. */
export function shapeLine(port: string, s: SegmentPlan, shaper: Shaper): string | undefined {
  const rate = s.rate_mbit === undefined ? undefined : `rate ${Math.round(s.rate_mbit * 1e6)}bit`;
  if (wantsNetem(s) && shaper.netem) {
    const words = [`qdisc replace dev ${port} root netem limit ${NETEM_LIMIT}`];
    if (s.delay_ms !== undefined) words.push(`delay ${Math.round(s.delay_ms * 1000)}us`);
    if (s.loss !== undefined) words.push(`loss ${(s.loss * 100).toFixed(4)}%`);
    if (rate !== undefined) words.push(rate);
    return words.join(" ");
  }
  if (rate !== undefined && shaper.tbf)
    return `qdisc replace dev ${port} root tbf ${rate} burst ${burstBytes(s.rate_mbit!)} latency 50ms`;
  return undefined;
}
