/**
 * A whole plan in memory, ranges not expanded: read from lines (each checked against its schema, each
 * kind and id once) and written in one order. A line that nobody changed goes out byte for byte.
 */
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import { parseRange, rangeCount } from "../../../shared/nodeset/ranges.ts";
import {
  type End,
  type Experiment,
  type Guest,
  type Host,
  type Image,
  isKind,
  type Router,
  type Segment,
  travelOf,
} from "../../../shared/records/index.ts";
import type { Line } from "../../../shared/records/line.ts";
import type { RawLine } from "../../../shared/stream/lines.ts";
import { checkRecord, type ReadLine, readRecord } from "../../../shared/stream/record-line.ts";
import { rewrite } from "../../../shared/stream/rewrite.ts";
import type { LineWriter } from "../../../shared/stream/writer.ts";
import { GuestIds } from "./guest-ids.ts";

/** A line, and the record that it was read as. */
export interface Came {
  text: string;
  record: object;
}

/** A record, and where it came from a line, that line: what of it is not changed goes out as it came. */
export interface PlanRecord<R> {
  record: R;
  came?: Came;
  line?: number;
}

export interface Plan {
  experiment?: PlanRecord<Experiment>;
  hosts: PlanRecord<Host>[];
  images: PlanRecord<Image>[];
  segments: PlanRecord<Segment>[];
  routers: PlanRecord<Router>[];
  guests: PlanRecord<Guest>[];
  /** Kinds that are no part of a plan: they pass. */
  others: PlanRecord<Line>[];
  end?: PlanRecord<End>;
  /** Records that came without their number: it is filled in when all are there. */
  unnumbered: Set<object>;
}

export const emptyPlan = (): Plan => ({
  hosts: [],
  images: [],
  segments: [],
  routers: [],
  guests: [],
  others: [],
  unnumbered: new Set(),
});

export const guestCount = (guest: Guest) => rangeCount(parseRange(guest.id)._unsafeUnwrap());

/** The number of a kind that a plan written by hand may leave out. */
const NUMBER_OF: Readonly<Record<string, string>> = { segment: "vni", router: "index", guest: "index" };

/** Reads a plan to its end. `whole`: it must begin with an experiment, close with `end`, and have what that counts. */
export async function readPlan(
  lines: AsyncIterable<RawLine>,
  whole: boolean,
): Promise<Result<Plan, MtError>> {
  const plan = emptyPlan();
  const seen = new Set<string>();
  const guestIds = new GuestIds();
  let n = 0;
  for await (const raw of lines) {
    n++;
    const read = readRecord(raw);
    if (read === undefined) continue;
    const why = "why" in read ? read.why : take(plan, read, raw.text, n, seen, guestIds);
    if (why !== undefined)
      return fail(
        "data",
        `Cannot read line ${n}: ${why}`,
        "nothing was written: mt-topo writes whole plans only",
      );
  }
  const twice = guestIds.overlap();
  if (twice)
    return fail(
      "data",
      `Cannot read line ${twice.line}: guest ${twice.name} is there twice`,
      `line ${twice.first} has it too`,
    );
  if (!whole) return ok(plan);
  if (!plan.end)
    return fail(
      "data",
      `Cannot read the plan: the stream ended after ${n} lines without an end record`,
      "a stage before this one was cut off",
    );
  if (!plan.experiment)
    return fail(
      "data",
      "Cannot read the plan: it has no experiment record",
      "begin with mt-topo import or mt-topo gen",
    );
  return compareCounts(plan, plan.end.record).map(() => plan);
}

/** Puts one line where it belongs; says why it cannot. */
function take(
  plan: Plan,
  { line, deep }: Extract<ReadLine, { line: Line }>,
  text: string,
  n: number,
  seen: Set<string>,
  guestIds: GuestIds,
): string | undefined {
  if (plan.end) return "it stands after the end record";
  const { kind, id } = line;
  const number = NUMBER_OF[kind];
  const entry: PlanRecord<Line> = { record: line, came: { text, record: line }, line: n };
  if (number !== undefined && line[number] === undefined) {
    entry.record = { ...line, [number]: 1 };
    plan.unnumbered.add(entry.record);
  }
  if (isKind(kind)) {
    const valid = checkRecord(kind, entry.record, deep);
    if (valid.isErr()) return valid.error.message;
  }
  if (kind === "guest") {
    const range = parseRange(id);
    if (range.isErr()) return range.error.message;
    guestIds.add(range.value, n);
  } else {
    // Reports of several hosts may have one id.
    const report = isKind(kind) && travelOf(line) === "report";
    const key = report ? JSON.stringify([kind, id, n]) : JSON.stringify([kind, id]);
    if (seen.has(key)) return `${kind} ${id.slice(0, 60)} is there twice`;
    seen.add(key);
  }
  if (kind === "experiment" && plan.experiment) return `a second experiment, ${id}: a plan has one`;
  const lists: Readonly<Record<string, PlanRecord<never>[]>> = {
    host: plan.hosts as PlanRecord<never>[],
    image: plan.images as PlanRecord<never>[],
    segment: plan.segments as PlanRecord<never>[],
    router: plan.routers as PlanRecord<never>[],
    guest: plan.guests as PlanRecord<never>[],
  };
  if (kind === "experiment") plan.experiment = entry as unknown as PlanRecord<Experiment>;
  else if (kind === "end") plan.end = entry as unknown as PlanRecord<End>;
  else if (Object.hasOwn(lists, kind)) lists[kind]!.push(entry as unknown as PlanRecord<never>);
  else plan.others.push(entry);
  return undefined;
}

/** What a plan holds, ranges expanded; reports do not count. */
function countsOf(plan: Plan): Map<string, number> {
  const counts = new Map<string, number>();
  const add = (kind: string, n: number) => n > 0 && counts.set(kind, (counts.get(kind) ?? 0) + n);
  add("host", plan.hosts.length);
  add("image", plan.images.length);
  add("segment", plan.segments.length);
  add("router", plan.routers.length);
  let guests = 0;
  for (const { record } of plan.guests) guests += guestCount(record);
  add("guest", guests);
  for (const { record } of plan.others) if (!isKind(record.kind)) add(record.kind, 1);
  return counts;
}

function compareCounts(plan: Plan, end: End): Result<void, MtError> {
  const counts = countsOf(plan);
  for (const kind of ["host", "image", "segment", "router", "guest"]) {
    if (!Object.hasOwn(end.counts, kind)) continue;
    const came = counts.get(kind) ?? 0;
    if (end.counts[kind] !== came)
      return fail(
        "data",
        `Cannot read the plan: its end record counts ${end.counts[kind]} of kind ${kind}, ${came} came`,
        "a stage before this one lost records, or the plan was edited: mt-topo import counts anew",
      );
  }
  return ok(undefined);
}

/** The fields of a record that nobody here knows. */
export const unknownFields = (schema: { properties: object }, record: object = {}): object =>
  Object.fromEntries(Object.entries(record).filter(([name]) => !Object.hasOwn(schema.properties, name)));

/** The line that an entry is written as. */
export const lineOf = ({ record, came }: PlanRecord<object>): string =>
  came === undefined ? JSON.stringify(record) : rewrite(came.text, came.record, record);

/** Writes the plan in the order in which tools want it: what others refer to comes first. */
export function writePlan(plan: Plan, writer: LineWriter): void {
  const put = (entry: PlanRecord<object>) => writer.line(lineOf(entry));
  if (plan.experiment) put(plan.experiment);
  for (const list of [plan.hosts, plan.images, plan.segments, plan.routers, plan.guests, plan.others])
    for (const entry of list) put(entry);
  const counts = Object.fromEntries(countsOf(plan));
  const end = { ...plan.end?.record, kind: "end", id: plan.experiment!.record.id, counts };
  put({ record: end, came: plan.end?.came });
  writer.flush();
}
