/** `copy`: an image as it stands on one host. */
import { type Static, Type } from "@sinclair/typebox";
import { count, failure, id, open, state, subjectHost } from "./fields.ts";

export const copySchema = Type.Object(
  {
    kind: Type.Literal("copy"),
    id: id("the image"),
    host: subjectHost,
    state: state(["present", "failed"], "whether all its files are there, digests checked"),
    bytes: Type.Optional(count("bytes brought there now; 0: all was there already")),
    ...failure,
  },
  { ...open, description: "an image as it stands on one host" },
);
export type Copy = Static<typeof copySchema>;
export const copyExamples: Copy[] = [
  { kind: "copy", id: "tux", host: "kn1", state: "present", bytes: 21760000 },
];
