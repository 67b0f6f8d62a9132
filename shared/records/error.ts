/** `error`: a line that could not be read. */
import { type Static, Type } from "@sinclair/typebox";
import { count, error, id, open, text } from "./fields.ts";

export const errorSchema = Type.Object(
  {
    kind: Type.Literal("error"),
    id: id("tool and line"),
    line: count("number of the line, from 1"),
    raw: text("the line as it came, lossily as UTF-8, cut after 4,096 characters"),
    error,
  },
  { ...open, description: "a line that could not be read" },
);
export type ErrorRecord = Static<typeof errorSchema>;
export const errorExamples: ErrorRecord[] = [
  {
    kind: "error",
    id: "mt-vnet.line-3",
    line: 3,
    raw: '{"kind":"guest","id":"../x"}',
    error: {
      by: "mt-vnet",
      code: "data",
      message: "Cannot read line 3: it is no JSON",
    },
  },
];
