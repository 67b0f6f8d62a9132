/**
 * `mt-status check`: reads the whole stream, has the guests ping each other at `end`, and gives the verdict: what was
 * asked for, and what is true. The plan passes through unchanged.
 */
import { runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import type { MtError } from "../../../shared/errors.ts";
import type { End } from "../../../shared/records/index.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";
import type { spec } from "../spec.ts";
import { type Census, countGuests, countsThatDiffer, emptyCensus, readInto } from "../verdict/census.ts";
import { askable, choosePairs, pairsLeftOut } from "../verdict/pairs.ts";
import { probe, probePlan } from "../verdict/probe.ts";
import { type Tally, tallyOf } from "../verdict/tally.ts";
import { inOrder, notTrue, untruths } from "../verdict/truth.ts";
import { narrowSegments } from "../view/narrow.ts";
import { remember } from "./history.ts";

/** If more guests than this did not reach all, the network is at fault: they are not asked again. */
const AGAIN_GUESTS_MAX = 1000;

export const check: Run<typeof spec, "check"> = async (invocation) => {
  const { targets: perGuest, timeout: timeout_s } = invocation.args;
  const census = emptyCensus();

  const judge = async (context: FilterContext, end: End | undefined) => {
    const began = Date.now();
    const routers = [...census.routers.values()];
    const sources = choosePairs(census.guests.values(), census.experiment?.seed ?? 0, perGuest, routers);
    const tally = tallyOf(sources);
    let trouble: MtError | undefined;
    if (sources.length > 0) {
      const header = census.experiment ?? {
        kind: "experiment" as const,
        id: end?.id ?? "unknown",
        version: 1,
        seed: 0,
      };
      const hosts = [...census.hosts.values()];
      const { signal } = context;
      // Half of the time is for all; then the few that were late, as on a busy machine, are asked once more.
      const first_s = Math.max(1, Math.ceil(timeout_s / 2));
      trouble = await probe(probePlan(header, hosts, sources), tally.hear, { timeout_s: first_s, signal });
      const again = tally.again(AGAIN_GUESTS_MAX);
      const left_s = timeout_s - (Date.now() - began) / 1000;
      if (again.length > 0 && left_s >= 1 && !signal.aborted)
        trouble = await probe(probePlan(header, hosts, again), tally.hear, {
          timeout_s: Math.floor(left_s),
          signal,
        });
    }
    if (context.signal.aborted) return;
    const seconds = Math.round((Date.now() - began) / 100) / 10;
    const left_out = pairsLeftOut(census.guests.values(), perGuest, routers);
    const verdict = verdictOf(census, end, tally, seconds, trouble, left_out);
    await remember(verdict);
    context.emit(verdict);
    if (verdict.error) context.note(verdict.error);
  };

  return runFilterCommand(invocation, {
    changes: false,
    reads: readInto(census),
    afterEnd: judge,
  });
};

/** The verdict, from the records that came and the answers of the guests. */
export function verdictOf(
  census: Census,
  end: End | undefined,
  tally: Tally,
  seconds: number,
  trouble: MtError | undefined,
  pairs_left_out = 0,
) {
  const runs = [...census.guests.values()];
  const counted = {
    kind: "verdict" as const,
    id: end?.id ?? census.experiment?.id ?? "unknown",
    hosts: census.hosts.size,
    routers: census.routers.size,
    converged: [...census.routers.values()].filter((r) => r.state === "converged").length,
    guests: countGuests(runs),
    ready: countGuests(runs, "ready"),
    pairs_tried: tally.pairs_tried,
    pairs_reached: tally.reached(),
    pairs_full_sized: tally.fullSized(),
    ...(pairs_left_out > 0 ? { pairs_left_out } : {}),
    seconds,
  };
  const suspects = narrowSegments(tally.narrow(), census.spanning);
  const what = untruths({ ...counted, askable: askable(runs, census.routers.values()), suspects });
  for (const { kind, came, wanted } of end ? countsThatDiffer(census, end) : [])
    what.push(`${came} ${kind} records came, the plan has ${wanted}`);
  const failed = [...census.hosts.values()].filter((h) => h.state === "failed").map((h) => h.id);
  if (failed.length > 0) what.push(`host ${failed.slice(0, 5).join(", ")} failed`);
  if (tally.silent() > 0) what.push(`${tally.silent()} guests gave no answer`);
  if (what.length === 0) return inOrder({ ...counted, error: undefined });
  const hint = [trouble?.message, trouble?.hint, tally.why()].filter((part) => part !== undefined).join("; ");
  const error = notTrue(counted.id, what, hint || undefined);
  const unreached = tally.unreached();
  return inOrder({
    ...counted,
    ...(unreached.length > 0 ? { unreached } : {}),
    error: { by: "mt-status", ...error },
  });
}
