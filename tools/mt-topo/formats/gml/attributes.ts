/**
 * What the lists of a GML file say of a node or an edge: names, places, rates, delays. What is there and cannot be taken
 * is told in the notes, whatever is wrong with it.
 */
import type { Result } from "neverthrow";
import type { GraphLink, GraphNode } from "../../graph.ts";
import type { Notes } from "../notes.ts";
import { bitsIn, degrees, delayMs, lossShare, msIn, rateMbit, shown } from "../quantities.ts";
import type { GmlList, GmlValue } from "./parse.ts";

interface Given {
  key: string;
  value: GmlValue;
  line: number;
}

/** The pairs of a list by what they mean to us, the first of each key; that there are more is told. */
function givenIn<M>(what: string, list: GmlList, meaning: (key: string) => M | undefined, notes: Notes) {
  const given = new Map<M, Given[]>();
  for (const [i, [key, value]] of list.pairs.entries()) {
    const means = meaning(key);
    if (means === undefined || value === "") continue;
    const line = list.lines[i]!;
    const known = given.get(means) ?? [];
    if (known.some((g) => g.key === key)) notes.add(what, `${key} is there twice, the first is taken`, line);
    else known.push({ key, value, line });
    given.set(means, known);
  }
  return given;
}

/** Remembers what a key means: a file has few keys, many times. */
function remembered<M>(meaning: (key: string) => M): (key: string) => M {
  const known = new Map<string, M>();
  return (key) => {
    if (!known.has(key)) known.set(key, meaning(key));
    return known.get(key)!;
  };
}

const NODE_KEYS: Readonly<Record<string, "label" | "name" | "latitude" | "longitude" | "group">> = {
  label: "label",
  name: "name",
  latitude: "latitude",
  lat: "latitude",
  longitude: "longitude",
  lon: "longitude",
  lng: "longitude",
  long: "longitude",
  isgroup: "group",
};

/** A node, or undefined where an editor made it to hold other nodes. */
export function nodeOf(list: GmlList, id: string, notes: Notes): GraphNode | undefined {
  const given = givenIn("node", list, (key) => NODE_KEYS[key.toLowerCase()], notes);
  if (Number(given.get("group")?.[0]?.value ?? 0) > 0) return undefined;
  const named = [...(given.get("label") ?? []), ...(given.get("name") ?? [])];
  const label = named
    .map(({ value }) => (typeof value === "object" ? "" : String(value).trim()))
    .find(Boolean);
  const node: GraphNode = { name: label ?? `n${id}`, label };
  const read = (means: "latitude" | "longitude", most: 90 | 180) =>
    firstTaken("node", given.get(means) ?? [], ({ value }) => degrees(value, most), notes);
  const latitude = read("latitude", 90);
  const longitude = read("longitude", 180);
  if (latitude !== undefined && longitude !== undefined) return { ...node, latitude, longitude };
  const one = given.get("latitude")?.[0] ?? given.get("longitude")?.[0];
  if (one && !(given.has("latitude") && given.has("longitude")))
    notes.add("node", `${one.key} alone, without its other coordinate, is left out`, one.line);
  return node;
}

type EdgeKey = "rate" | "speed" | "units" | "label" | "delay" | "loss";

const edgeKey = remembered((key: string): EdgeKey | undefined => {
  const lower = key.toLowerCase();
  if (lower === "linkspeedunits") return "units";
  if (lower === "linkspeed") return "speed";
  if (lower === "linklabel") return "label";
  if (/^(?:packet_?)?loss(?:_?rate)?$/.test(lower)) return "loss";
  if (rateUnit(key)) return "rate";
  return delayUnit(key) === undefined ? undefined : "delay";
});

/** What a number under this key is in; undefined where the key is no rate. */
function rateUnit(key: string): { bits?: number } | undefined {
  const m = /^(?:bandwidth|bw|capacity|speed|rate|data_?rate|link_?speed)[_-]?(.*)$/i.exec(key);
  if (!m) return undefined;
  // `bandwidth` and the Topology Zoo's LinkSpeedRaw are in bit/s.
  if (/^(?:bandwidth|linkspeedraw)$/i.test(key)) return { bits: 1 };
  if (m[1] === "") return {};
  const bits = bitsIn(m[1]!);
  return bits === undefined ? undefined : { bits };
}

/** Milliseconds of a number under this key, 0 where the key does not say; undefined where it is no delay. */
function delayUnit(key: string): number | undefined {
  const m = /^(?:propagation_?|link_?)?(?:delay|latency)[_-]?(.*)$/i.exec(key);
  if (!m) return undefined;
  return m[1] === "" ? 0 : msIn(m[1]!);
}

const unitOfRate = remembered((key: string) => rateUnit(key)?.bits);
const unitOfDelay = remembered((key: string) => delayUnit(key) ?? 0);

/** Rates further apart than this are not one rate, rounded. */
const SAME_RATE = 0.02;

export function edgeOf(list: GmlList, notes: Notes): Omit<GraphLink, "a" | "b"> {
  const given = givenIn("edge", list, edgeKey, notes);
  const rate_mbit = rateOf(given, notes);
  const delay_ms = firstTaken(
    "edge",
    given.get("delay") ?? [],
    ({ key, value, line }) => {
      const unit = unitOfDelay(key);
      const read = delayMs(value, unit || 1);
      const bare = typeof value !== "string" || /^[\d.,]+$/.test(value.trim());
      if (read.isOk() && unit === 0 && bare)
        notes.add("edge", `${key} without a unit, read as ms`, line, shown(value));
      return read;
    },
    notes,
  );
  const loss = firstTaken("edge", given.get("loss") ?? [], ({ value }) => lossShare(value), notes);
  return {
    ...(rate_mbit === undefined ? {} : { rate_mbit }),
    ...(delay_ms === undefined ? {} : { delay_ms }),
    ...(loss === undefined ? {} : { loss }),
  };
}

function rateOf(given: ReadonlyMap<EdgeKey, Given[]>, notes: Notes): number | undefined {
  const taken: { key: string; rate: number }[] = [];
  for (const { key, value, line } of given.get("rate") ?? []) {
    const rate = rateMbit(value, unitOfRate(key));
    if (rate.isOk()) taken.push({ key, rate: rate.value });
    else notes.add("edge", `${key} ${rate.error}`, line, shown(value));
  }
  const [speed] = given.get("speed") ?? [];
  const unit = given.get("units")?.[0]?.value;
  if (speed) {
    const value =
      typeof speed.value === "object" || typeof unit !== "string" ? speed.value : `${speed.value} ${unit}`;
    const rate = rateMbit(value, undefined);
    if (rate.isOk()) taken.push({ key: speed.key, rate: rate.value });
    else if (taken.length === 0) notes.add("edge", `${speed.key} ${rate.error}`, speed.line, shown(value));
  }
  const [first] = taken;
  const other = taken.find(({ rate }) => Math.abs(rate / first!.rate - 1) > SAME_RATE);
  if (other)
    notes.add(
      "edge",
      `${first!.key} and ${other.key} tell different rates, the first is taken`,
      (given.get("rate")?.[0] ?? speed)!.line,
    );
  if (first) return first.rate;
  // A label says anything; where it is a rate and nothing else, it is meant.
  const [label] = given.get("label") ?? [];
  return label && typeof label.value === "string"
    ? rateMbit(label.value, undefined).unwrapOr(undefined)
    : undefined;
}

/** The first that can be read; those that cannot are told. */
function firstTaken(
  what: string,
  given: readonly Given[],
  read: (one: Given) => Result<number, string>,
  notes: Notes,
): number | undefined {
  let first: number | undefined;
  for (const one of given) {
    const value = read(one);
    if (value.isErr()) notes.add(what, `${one.key} ${value.error}`, one.line, shown(one.value));
    else first ??= value.value;
  }
  return first;
}
