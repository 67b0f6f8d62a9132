/** mt-topo: its commands, flags, kinds and examples. */
import type { ArgsDef, ToolSpec } from "../../shared/cli/spec.ts";
import { RANGE_COUNT_MAX } from "../../shared/nodeset/ranges.ts";
import type { Kind } from "../../shared/records/index.ts";
import { FORMAT_NAMES } from "./formats/formats.ts";
import { GENERATOR_NAMES } from "./generators/generators.ts";

const PLAN: readonly Kind[] = ["experiment", "host", "image", "segment", "router", "guest", "end"];

const header = {
  id: {
    type: "id",
    valueHint: "ID",
    description: "id of the experiment (default: from the label or the file; gen: SHAPE-N)",
  },
  seed: {
    type: "number",
    max: 4_294_967_295,
    valueHint: "N",
    description: "random seed of the experiment (default: 1)",
  },
} as const satisfies ArgsDef;

export const spec = {
  name: "mt-topo",
  summary: "writes the plan: imports or generates a topology, adds guests, places them on hosts",
  description:
    "A plan is a stream of JSON lines that ends with an end record. import and gen begin one, guests adds\n" +
    "virtual machines behind the routers, place puts everything on hosts and closes the plan: after it no\n" +
    "tool has to look anything up. mt-topo reads the whole plan first and writes nothing unless all of it\n" +
    "is right.",
  commands: {
    import: {
      summary: "a GML file, or a plan or part of one as JSON lines, becomes the beginning of a plan",
      args: {
        file: { type: "positional", description: "the file; - is stdin" },
        format: {
          type: "enum",
          options: ["auto", ...FORMAT_NAMES],
          default: "auto",
          description: "auto: by the ending of the file's name, then by its content",
        },
        ...header,
      },
      stdin: "optional",
      reads: PLAN,
      writes: PLAN,
    },
    gen: {
      summary: "a ring or a near-square grid of routers",
      args: {
        shape: { type: "positional", options: GENERATOR_NAMES, description: "how routers are joined" },
        routers: {
          type: "number",
          min: 1,
          max: 1_000_000,
          valueHint: "N",
          required: true,
          description: "how many routers, r0 to r(N-1)",
        },
        ...header,
      },
      stdin: "none",
      reads: [],
      writes: ["experiment", "segment", "router", "end"],
    },
    guests: {
      summary: "spreads N guests evenly over the routers, one LAN a router",
      args: {
        n: {
          type: "positional",
          value: "number",
          max: RANGE_COUNT_MAX,
          description: "how many guests in all",
        },
        image: { type: "id", valueHint: "NAME", required: true, description: "the image that they boot" },
        mem: {
          type: "number",
          min: 1,
          max: 4_294_967_295,
          valueHint: "MIB",
          default: 128,
          description: "memory of each",
        },
        cores: {
          type: "number",
          min: 1,
          max: 4096,
          valueHint: "N",
          default: 1,
          description: "virtual processors of each",
        },
      },
      stdin: "records",
      reads: PLAN,
      writes: PLAN,
    },
    place: {
      summary: "puts routers and guests on hosts and closes the plan",
      args: {
        hosts: { type: "positional", description: "a node set, as kn[1-4], or a file of host records" },
        overflow: {
          type: "boolean",
          description:
            "the plan is the output of mt-boot up --until-full: guests that found no room go to other hosts",
        },
      },
      stdin: "records",
      reads: PLAN,
      writes: PLAN,
    },
    probe: {
      summary: "the plan of a small network over every host, for mt-vnet prove",
      args: {
        hosts: { type: "positional", description: "a node set, as kn[1-4], or a file of host records" },
        id: {
          type: "id",
          valueHint: "ID",
          default: "probe",
          description: "id of the experiment",
        },
      },
      stdin: "none",
      reads: [],
      writes: ["experiment", "host", "segment", "router", "end"],
    },
  },
  examples: [
    {
      command:
        "mt-topo import examples/abilene.gml | mt-topo guests 44 --image tux | mt-topo place 'kn[1-4]' >abilene.plan",
      does: "Abilene with 44 guests on four hosts",
    },
    {
      command: "mt-topo gen grid --routers 100 | mt-topo place hosts.jsonl",
      does: "100 routers, on the hosts that mt-tree up printed",
    },
    {
      command:
        "mt-tree map -- mt-boot up --until-full <abilene.plan | mt-topo place --overflow hosts.jsonl >wider.plan",
      does: "place on other hosts what the hosts of a plan had no room for",
    },
    {
      command: "mt-topo probe hosts.jsonl | mt-tree map -- mt-vnet up | mt-tree map -- mt-vnet prove",
      does: "test with real frames whether networks will work between these hosts",
    },
    { command: "mt-topo gen ring --routers 5 --id loop", does: "a ring of five routers, not placed yet" },
  ],
  exits: {
    0: "the plan was written",
    1: "place --overflow: no host is left that is not full; nothing was written",
    65: "the file or the plan is not right, was cut off, or names what does not exist; nothing was written",
  },
  seeAlso: ["mt-tree(1)", "mt-image(1)", "mt-vnet(1)", "mt-records(5)", "megatux(7)"],
} as const satisfies ToolSpec;
