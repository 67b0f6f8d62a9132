/** `image`: what guests boot from, its files named by digest. */
import { type Static, Type } from "@sinclair/typebox";
import { count, failure, hosts, id, open, sha256, text } from "./fields.ts";

export const imageSchema = Type.Object(
  {
    kind: Type.Literal("image"),
    id: id("name of the image"),
    hosts,
    os: Type.Union([Type.Literal("linux"), Type.Literal("windows"), Type.Literal("android")], {
      description: "what runs in it",
    }),
    fork: Type.Boolean({ description: "whether its guests can be forked from a template" }),
    files: Type.Optional(
      Type.Object(
        {
          kernel: sha256("Linux kernel"),
          initrd: sha256("initial RAM disk"),
          disk: Type.Optional(sha256("disk of the guest, qcow2; each guest writes to an overlay of its own")),
        },
        {
          ...open,
          description:
            "file by role, as a digest of the store; absent: the image was not built where the plan was written",
        },
      ),
    ),
    cmdline: Type.Optional(text("kernel command line")),
    recipe: Type.Optional(count("which version of mt-image's recipe it was built by")),
    ...failure,
  },
  { ...open, description: "what guests boot from: files by digest, os, whether it can be forked" },
);
export type Image = Static<typeof imageSchema>;
export const imageExamples: Image[] = [
  {
    kind: "image",
    id: "tux",
    hosts: ["kn1", "kn2"],
    os: "linux",
    fork: true,
    files: { kernel: `sha256:${"9c".repeat(32)}`, initrd: `sha256:${"41".repeat(32)}` },
  },
  {
    kind: "image",
    id: "debian",
    os: "linux",
    fork: false,
    files: {
      kernel: `sha256:${"9c".repeat(32)}`,
      initrd: `sha256:${"c7".repeat(32)}`,
      disk: `sha256:${"d1".repeat(32)}`,
    },
  },
];
