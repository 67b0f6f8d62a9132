/**
 * mt-topo place: gives every router and guest a host and closes the plan, so that each record holds all that its host
 * needs. A plan that is placed already comes out unchanged; with --overflow, guests that found no room are placed anew.
 * Reads and writes a whole plan; exits 65 where it is not whole, or refers to what does not exist.
 */
import { err, ok, type Result } from "neverthrow";
import type { Run } from "../../../shared/cli/invocation.ts";
import { inform } from "../../../shared/cli/stderr.ts";
import { type MtError, orThrow } from "../../../shared/errors.ts";
import { foldNodes } from "../../../shared/nodeset/fold.ts";
import type { Guest, Host, Router } from "../../../shared/records/index.ts";
import { sliceGuest } from "../../../shared/records/members.ts";
import { linesFrom } from "../../../shared/stream/lines.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import { chunksOf } from "../formats/input.ts";
import { fillHosts, type Placement } from "../place/fill.ts";
import { readHosts } from "../place/hosts.ts";
import { setMtus } from "../place/mtu.ts";
import { foldMoved, markFull, noHostLeft, takeOverflow } from "../place/overflow.ts";
import { unitsOf } from "../place/units.ts";
import { checkAddresses } from "../plan/addresses.ts";
import { closePlan } from "../plan/close.ts";
import { complete } from "../plan/complete.ts";
import { type Came, guestCount, type Plan, type PlanRecord, readPlan, writePlan } from "../plan/plan.ts";
import type { spec } from "../spec.ts";
import { checkPorts, checkReferences } from "./check.ts";

export const place: Run<typeof spec, "place"> = async ({ args, signal }) => {
  const plan = orThrow(await readPlan(linesFrom(chunksOf("-", signal)), true));
  orThrow(complete(plan));
  const planned = plan.hosts.map(({ record }) => record);
  const came = linesOfHosts(plan);
  const { usable, failed } = orThrow(await readHosts(args.hosts, planned, came, signal));
  if (failed.length > 0) inform(`warning: nothing is placed on ${foldNodes(failed)}: mt-tree says failed`);
  orThrow(args.overflow ? placeOverflow(plan, usable, came) : placePlan(plan, usable, came));
  const over = overcommitted(plan);
  if (over) inform(over);
  writePlan(plan, new LineWriter());
  return 0;
};

/**
 * Places a completed plan on hosts. Hosts that only the plan has stay, but get nothing new.
 * @param came the lines that hosts came as, by name
 * @param full hosts without room: they keep what they have
 */
export function placePlan(
  plan: Plan,
  usable: readonly Host[],
  came: ReadonlyMap<string, Came> = linesOfHosts(plan),
  full: ReadonlySet<string> = new Set(),
): Result<void, MtError> {
  const given = new Set(usable.map(({ id }) => id));
  const older = plan.hosts.filter(({ record }) => !given.has(record.id));
  const mark = (entry: PlanRecord<Host>): PlanRecord<Host> => {
    const record = markFull(entry.record, full);
    return { ...entry, record };
  };
  plan.hosts = [
    ...usable.map((record): PlanRecord<Host> => ({ record, came: came.get(record.id) })),
    ...older,
  ].map(mark);
  const hosts = plan.hosts.map(({ record }) => record);
  const open = usable.filter(({ id }) => !full.has(id));
  const waits = ({ record }: PlanRecord<Router | Guest>) => record.host === undefined;
  return checkReferences(plan, new Set(hosts.map(({ id }) => id)))
    .andThen(() => checkAddresses(plan))
    .andThen(() =>
      open.length === 0 && [...plan.guests, ...plan.routers].some(waits)
        ? noHostLeft(plan, full)
        : ok(undefined),
    )
    .andThen(() => settle(plan, fillHosts(plan, unitsOf(plan), open)))
    .andThen(() => checkPorts(plan))
    .andThen(() => setMtus(plan, hosts))
    .map(() => closePlan(plan, hosts));
}

/** Places the guests that mt-boot up --until-full gave out as planned on hosts that are not full; all else stays. */
export function placeOverflow(
  plan: Plan,
  usable: readonly Host[],
  came?: ReadonlyMap<string, Came>,
): Result<void, MtError> {
  return placePlan(plan, usable, came, takeOverflow(plan)).andThen(() => {
    plan.guests = foldMoved(plan.guests);
    return ok(undefined);
  });
}

const linesOfHosts = (plan: Plan) =>
  new Map(plan.hosts.flatMap(({ record, came }) => (came ? [[record.id, came] as const] : [])));

/** Writes hosts onto the records; a guest record that is spread over several hosts becomes one for each. */
function settle(plan: Plan, placement: Placement): Result<void, MtError> {
  for (const [r, entry] of plan.routers.entries()) setHost(entry, placement.routers[r]!);
  const guests: PlanRecord<Guest>[] = [];
  for (const [g, entry] of plan.guests.entries()) {
    const pieces = placement.guests[g]!;
    if (pieces.length === 1) {
      setHost(entry, pieces[0]!.host);
      guests.push(entry);
      continue;
    }
    for (const { host, from, count } of pieces) {
      const slice = sliceGuest(entry.record, from, count);
      if (slice.isErr()) return err(slice.error);
      const part: PlanRecord<Guest> = { ...entry, record: slice.value };
      setHost(part, host);
      guests.push(part);
    }
  }
  plan.guests = guests;
  return ok(undefined);
}

function setHost<R extends Router | Guest>(entry: PlanRecord<R>, host: string): void {
  if (entry.record.host === host) return;
  const { kind, id, ...rest } = entry.record;
  entry.record = { kind, id, host, ...rest } as unknown as R;
}

/** A warning, no error: merging equal pages makes more guests fit. */
function overcommitted(plan: Plan): string | undefined {
  const asked = new Map<string, number>();
  for (const { record } of plan.guests)
    asked.set(record.host!, (asked.get(record.host!) ?? 0) + record.mem_mib * guestCount(record));
  const over = plan.hosts.filter(({ record }) => (asked.get(record.id) ?? 0) > record.mem_mib);
  if (over.length === 0) return undefined;
  const want = [...asked.values()].reduce((a, b) => a + b, 0);
  const have = plan.hosts.reduce((sum, { record }) => sum + record.mem_mib, 0);
  return `warning: guests ask for ${want} MiB, hosts have ${have} MiB: ${over.length} of ${plan.hosts.length} hosts hold more than their memory, merging has to make up for it`;
}
