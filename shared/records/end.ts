/** `end`: the stream is whole. The only barrier. */
import { type Static, Type } from "@sinclair/typebox";
import { count, id, open } from "./fields.ts";

export const endSchema = Type.Object(
  {
    kind: Type.Literal("end"),
    id: id("the experiment"),
    counts: Type.Record(Type.String(), count("records"), { description: "records a kind, ranges expanded" }),
  },
  { ...open, description: "the stream is whole; counts, ranges expanded" },
);
export type End = Static<typeof endSchema>;
export const endExamples: End[] = [
  { kind: "end", id: "abilene", counts: { host: 2, image: 1, segment: 2, router: 1, guest: 4 } },
];
