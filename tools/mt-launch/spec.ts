/** mt-launch, a script: its commands and flags. `mt --words` reads its command line and prints its help by this. */
import type { ArgDef, ArgsDef, ToolSpec } from "../../shared/cli/spec.ts";

const experiment = {
  type: "positional",
  description: "a topology (abilene.gml), a plan (JSON lines), or the id of one that is up",
} as const satisfies ArgDef;
const tree = {
  hosts: {
    type: "string",
    valueHint: "SET",
    description:
      "hosts to make or mend a tree of, as kn[1-4] (default: the tree that is up, else with --via slurm all nodes of the job, else this host)",
  },
  via: {
    type: "enum",
    options: ["local", "ssh", "slurm"],
    default: "local",
    description: "how hosts are reached",
  },
  fanout: {
    type: "number",
    min: 1,
    valueHint: "N",
    default: 16,
    description: "children a node of that tree",
  },
} as const satisfies ArgsDef;
const image = {
  image: { type: "string", valueHint: "NAME", default: "tux", description: "image of the guests" },
} as const satisfies ArgsDef;

export const spec = {
  name: "mt-launch",
  summary: "one experiment, up, checked and down: the pipeline and nothing else",
  description: `A short shell script over the tools, for people and for cron. It prints the verdict on stdout, and says nothing
where nothing is wrong. \`up\` saves the plan before anything changes; Ctrl-C takes down what it had built.`,
  commands: {
    up: {
      summary: "bring an experiment up, or mend it, and print its verdict",
      args: {
        experiment,
        ...tree,
        guests: { type: "number", min: 1, valueHint: "N", description: "add so many guests in all" },
        ...image,
      },
      stdin: "none",
      reads: [],
      writes: ["verdict"],
    },
    check: {
      summary:
        "print the verdict of one that is up; without an experiment, what the hosts can do before a launch",
      args: { experiment: { ...experiment, required: false }, ...tree, ...image },
      stdin: "none",
      reads: [],
      writes: ["verdict"],
    },
    down: {
      summary: "take an experiment down, from its saved plan, also after a crash, also twice",
      args: {
        experiment,
        force: { type: "boolean", description: "give up on hosts that cannot be reached" },
      },
      stdin: "none",
      reads: [],
      writes: [],
    },
  },
  examples: [
    {
      command: "mt-launch up examples/abilene.gml --hosts 'kn[1-4]' --guests 44",
      does: "the Abilene backbone with 44 guests on four hosts that are namespaces of this machine",
    },
    { command: "mt-launch down abilene", does: "and down" },
    { command: "mt-launch check --hosts 'kn[1-4]'", does: "what these hosts can do, before a launch" },
  ],
  exits: {
    0: "the verdict is wholly true",
    1: "the verdict is not wholly true, or something failed; stderr says what",
    65: "the experiment cannot be read, or is not up",
    75: "another mt-launch works on it, or it is up with another plan",
    130: "ended by SIGINT, and taken down",
    143: "ended by SIGTERM, and taken down",
  },
  seeAlso: ["mt-topo(1)", "mt-tree(1)", "mt-status(1)", "megatux(7)"],
} as const satisfies ToolSpec;
