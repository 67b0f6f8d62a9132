import type { ToolSpec } from "../../shared/cli/spec.ts";

export const spec = {
  name: "mt-image",
  summary: "build guest images from the distribution's own packages",
  description: `Packages are downloaded by apt, never installed on this host. The same packages give the same bytes, so the same
digests. The files go into the store of this host (MT_STATE/store), the image record beside it; mt-topo puts
that record into plans, mt-push brings the files to the hosts.`,
  commands: {
    build: {
      summary: "build an image into the store, and print its image record",
      args: {
        image: {
          type: "positional",
          options: ["tux", "debian"],
          description:
            "tux: Debian's cloud kernel, busybox and the QEMU guest agent, in memory; debian: a Debian system with sshd on a disk (needs root)",
        },
        cache: {
          type: "string",
          valueHint: "DIR",
          description: "directory for downloaded packages (default: MT_STATE/cache/packages)",
        },
        missing: { type: "boolean", description: "build only if the image is not in the store already" },
      },
      stdin: "none",
      reads: [],
      writes: ["image"],
    },
    ls: {
      summary: "the images of this host, as image records",
      args: {},
      stdin: "none",
      reads: [],
      writes: ["image"],
    },
  },
  examples: [
    { does: "build the Linux guest image", command: "mt-image build tux" },
    { does: "build a Debian system on a disk", command: "mt-image build debian" },
    { does: "which images are here", command: "mt-image ls" },
  ],
  exits: { 69: "apt, another program or a package is missing; the message says which" },
  seeAlso: ["mt-topo(1)", "mt-push(1)", "megatux(7)"],
} as const satisfies ToolSpec;
