/** `experiment`: the header of a plan. */
import { type Static, Type } from "@sinclair/typebox";
import { count, id, open } from "./fields.ts";

export const experimentSchema = Type.Object(
  {
    kind: Type.Literal("experiment"),
    id: id("names everything that the experiment makes"),
    version: Type.Integer({
      description: "version of the plan format; one that a tool does not know is refused with 65",
    }),
    seed: count("seed of whatever is drawn at random"),
  },
  { ...open, description: "header: id, schema version, random seed" },
);
export type Experiment = Static<typeof experimentSchema>;
export const experimentExamples: Experiment[] = [{ kind: "experiment", id: "abilene", version: 1, seed: 7 }];
