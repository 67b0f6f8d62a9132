/** mt-push: its commands, flags, kinds and examples. */
import type { ToolSpec } from "../../shared/cli/spec.ts";

export const spec = {
  name: "mt-push",
  summary: "bring files to every host that needs them, down the tree, checked by digest",
  description: `Every host has a store of files by digest (MT_STATE/store). For each image of the plan, mt-push asks the image's
hosts which files they lack, and sends each file once down the tree to those that do; a host takes a file
only if the bytes that came have its digest. An image goes on in the stream when it stands on its hosts.`,
  commands: {
    push: {
      summary: "bring the images of a plan to their hosts (the default command)",
      args: {
        only: { type: "boolean", description: "print copy records and no others" },
        timeout: {
          type: "number",
          min: 1,
          valueHint: "S",
          default: 600,
          description: "seconds for one file",
        },
        retries: {
          type: "number",
          valueHint: "N",
          default: 2,
          description: "how often a failed host is tried again",
        },
      },
      stdin: "records",
      reads: ["image"],
      writes: ["copy"],
    },
    has: {
      summary: "say which of these files this host lacks",
      args: {},
      rest: { name: "DIGEST...", required: true, description: "sha256:…" },
      stdin: "none",
      reads: [],
      writes: [],
      hidden: true,
    },
    receive: {
      summary: "take stdin into this host's store",
      args: { digest: { type: "positional", description: "sha256:…, which the bytes must have" } },
      stdin: "optional",
      reads: [],
      writes: [],
      hidden: true,
    },
  },
  defaultCommand: "push",
  examples: [
    { does: "bring a plan's images to its hosts", command: "mt-push <abilene.plan >pushed.jsonl" },
    { does: "print only how each copy went", command: "mt-push --only <abilene.plan" },
  ],
  exits: { 1: "a copy failed; its record says why" },
  seeAlso: ["mt-image(1)", "mt-tree(1)", "megatux(7)"],
} as const satisfies ToolSpec;
