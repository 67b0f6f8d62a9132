/** Shaping by the kernel's queueing disciplines: netem for delay and loss, netem or tbf for the rate. */
import { err, ok, type Result } from "neverthrow";
import { type MtError, mtError } from "../../../../shared/errors.ts";
import { findProgram, run } from "../../../../shared/host/process.ts";
import { type Command, runBatch } from "../../kernel/batch.ts";
import type { Shape, ShapedPort, Shaper } from "../shaper.ts";

/** Which queueing disciplines this kernel has; undefined: not tried yet. */
export interface Qdiscs {
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

/** What tc can hold: below, a frame takes seconds; above, the burst does not fit in 32 bits. */
const RATE_MBIT_MIN = 0.001;
const RATE_MBIT_MAX = 1_000_000;

export function tc(): Shaper {
  const have: Qdiscs = {};
  return {
    impossible,
    probe: (shapes) => probe(have, shapes),
    applied: (shape) => applied(shape, have),
    apply: (ports) => apply(have, ports),
  };
}

function impossible({ id, rate_mbit }: Shape): MtError | undefined {
  if (rate_mbit === undefined || (rate_mbit >= RATE_MBIT_MIN && rate_mbit <= RATE_MBIT_MAX)) return undefined;
  return mtError(
    "data",
    `Cannot limit segment ${id} to ${rate_mbit} Mbit/s: rates go from ${RATE_MBIT_MIN} to ${RATE_MBIT_MAX}`,
    "set its rate_mbit within that, or leave it out",
  );
}

const wantsNetem = (s: Shape) => s.delay_ms !== undefined || s.loss !== undefined;

async function probe(have: Qdiscs, shapes: readonly Shape[]): Promise<string[]> {
  const notes: string[] = [];
  if (have.netem === undefined && shapes.some(wantsNetem)) {
    const tried = await tryQdisc("netem");
    have.netem = tried.unwrapOr(false);
    const why = tried.isErr() ? tried.error.message : "this kernel has no netem (CONFIG_NET_SCH_NETEM)";
    if (!have.netem) notes.push(`delay_ms and loss are not applied: ${why}`);
  }
  if (have.tbf === undefined && shapes.some((s) => s.rate_mbit !== undefined)) {
    const tried = await tryQdisc("tbf");
    have.tbf = tried.unwrapOr(false);
    if (tried.isErr()) notes.push(`rate_mbit is not applied: ${tried.error.message}`);
  }
  return notes;
}

/** Tries it in a network namespace that goes with the process. */
async function tryQdisc(kind: keyof typeof PROBES): Promise<Result<boolean, MtError>> {
  const program = findProgram("tc");
  if (program.isErr()) return err(program.error);
  const words = ["--net", program.value, "qdisc", "add", "dev", "lo", "root", kind, ...PROBES[kind]];
  const done = await run("unshare", words);
  return done.isErr() ? err(done.error) : ok(done.value.code === 0);
}

export function applied(s: Shape, have: Qdiscs): Record<string, boolean> | undefined {
  const out: Record<string, boolean> = {};
  if (s.delay_ms !== undefined) out.delay_ms = have.netem === true;
  if (s.loss !== undefined) out.loss = have.netem === true;
  if (s.rate_mbit !== undefined) out.rate_mbit = (wantsNetem(s) && have.netem === true) || have.tbf === true;
  return Object.keys(out).length > 0 ? out : undefined;
}

async function apply(have: Qdiscs, ports: readonly ShapedPort[]): Promise<void> {
  const commands = ports.flatMap(({ name, shape, shaped, failed }): Command[] => {
    const line = shapeLine(name, shape, have) ?? (shaped ? `qdisc del dev ${name} root` : undefined);
    return line === undefined ? [] : [{ line, failed }];
  });
  await runBatch("tc", commands);
}

/** The line of `tc -batch` for one port; undefined where it is not shaped. */
export function shapeLine(port: string, s: Shape, have: Qdiscs): string | undefined {
  const rate = s.rate_mbit === undefined ? undefined : `rate ${Math.round(s.rate_mbit * 1e6)}bit`;
  if (wantsNetem(s) && have.netem) {
    const words = [`qdisc replace dev ${port} root netem limit ${NETEM_LIMIT}`];
    if (s.delay_ms !== undefined) words.push(`delay ${Math.round(s.delay_ms * 1000)}us`);
    if (s.loss !== undefined) words.push(`loss ${(s.loss * 100).toFixed(4)}%`);
    if (rate !== undefined) words.push(rate);
    return words.join(" ");
  }
  if (rate !== undefined && have.tbf)
    return `qdisc replace dev ${port} root tbf ${rate} burst ${burstBytes(s.rate_mbit!)} latency 50ms`;
  return undefined;
}
