/** `exit`: what a command did on one host or in one guest. */
import { type Static, Type } from "@sinclair/typebox";
import { failure, hostOrRange, id, measure, open, state, subjectHost, text } from "./fields.ts";

export const exitSchema = Type.Object(
  {
    kind: Type.Literal("exit"),
    id: hostOrRange("the host or guest that the command ran on"),
    host: subjectHost,
    guest: Type.Optional(id("the guest that it ran in")),
    code: Type.Optional(
      Type.Integer({ description: "exit code; absent where the command did not end by itself" }),
    ),
    signal: Type.Optional(text("signal that ended it")),
    stdout: Type.Optional(text("what it printed, lossily as UTF-8")),
    stderr: Type.Optional(text("what it printed on stderr")),
    stdout_base64: Type.Optional(text("the bytes of stdout in base64, only where they are no valid UTF-8")),
    stderr_base64: Type.Optional(text("the bytes of stderr in base64, only where they are no valid UTF-8")),
    truncated: Type.Optional(Type.Boolean({ description: "whether output was cut" })),
    bytes: Type.Optional(measure("what was copied, where it was a copy")),
    seconds: Type.Optional(measure("how long it took")),
    state: state(["failed"], "set where the command could not be run or watched to its end"),
    ...failure,
  },
  { ...open, description: "what a command did on one host or in one guest" },
);
export type Exit = Static<typeof exitSchema>;
export const exitExamples: Exit[] = [
  { kind: "exit", id: "g0", host: "kn1", guest: "g0", code: 0, stdout: "g0\n", stderr: "", seconds: 0.04 },
  {
    kind: "exit",
    id: "kn2",
    host: "kn2",
    seconds: 600.1,
    state: "failed",
    error: {
      by: "mt-tree",
      code: "timeout",
      message: "Cannot run make: no end after 600 s",
      hint: "--timeout S gives it longer",
    },
  },
];
