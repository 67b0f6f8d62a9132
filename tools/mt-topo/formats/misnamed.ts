/** Fields of a plan written by hand that mean something elsewhere and nothing here: they pass, and are told. */

import type { Plan, PlanRecord } from "../plan/plan.ts";
import { Notes } from "./notes.ts";

const SEGMENT: Readonly<Record<string, string>> = {
  delay: "delay_ms",
  latency: "delay_ms",
  latency_ms: "delay_ms",
  bandwidth: "rate_mbit",
  bw: "rate_mbit",
  capacity: "rate_mbit",
  speed: "rate_mbit",
  rate: "rate_mbit",
  packet_loss: "loss",
};
const ROUTER: Readonly<Record<string, string>> = { lat: "latitude", lon: "longitude", lng: "longitude" };

export function misnamed(plan: Plan): string[] {
  const notes = new Notes();
  const look = (
    what: string,
    entries: readonly PlanRecord<object>[],
    names: Readonly<Record<string, string>>,
  ) => {
    for (const { record, line } of entries)
      for (const field of Object.keys(record))
        if (Object.hasOwn(names, field) && !Object.hasOwn(record, names[field]!))
          notes.add(what, `${field} does nothing: the field is ${names[field]}`, line ?? 0);
  };
  look("segment", plan.segments, SEGMENT);
  look("router", plan.routers, ROUTER);
  return notes.lines();
}
