/** `sample`: measurements of one host or experiment at one time. */
import { type Static, Type } from "@sinclair/typebox";
import { failure, id, open, state, subjectHost, time } from "./fields.ts";

export const sampleSchema = Type.Object(
  {
    kind: Type.Literal("sample"),
    id: id("what was measured: the experiment, or the tool"),
    host: subjectHost,
    time: time("when"),
    state: state(["failed"], "set where measuring failed"),
    ...failure,
  },
  { ...open, description: "measurements of one host or experiment at one time" },
);
export type Sample = Static<typeof sampleSchema> & { [measurement: string]: unknown };
export const sampleExamples: Sample[] = [
  { kind: "sample", id: "ksm", host: "kn1", time: "2026-11-22T17:00:00Z", saved_mib: 812.4, cpu_s: 3.1 },
];
