/** mt-ksm: its commands, flags, kinds and examples. */
import { type ArgDef, filterArgs, type ToolSpec } from "../../shared/cli/spec.ts";
import { OOM_ORDERS } from "../../shared/host/oom.ts";

const gain = {
  type: "number",
  max: 100,
  integer: false,
  default: 1,
  valueHint: "PERCENT",
  description: "merging pays while one scan of all memory saves this much more",
} as const satisfies ArgDef;

export const spec = {
  name: "mt-ksm",
  summary: "merge equal pages of guests on this host, and decide who dies first",
  description:
    "Drives the kernel's samepage merging (KSM), which a machine has only once: all its hosts share the " +
    "settings under one lease, the first user saves them, the last one restores them. Decides which guests die " +
    "first when memory still runs out.",
  commands: {
    settle: {
      summary:
        "merge hard until another scan of all memory gains nothing, then go on slowly: a filter, acts at end",
      args: {
        ...filterArgs,
        timeout: {
          type: "number",
          integer: false,
          default: 60,
          valueHint: "S",
          description: "stop after this time, settled or not",
        },
        gain,
      },
      stdin: "records",
      reads: ["experiment", "guest"],
      writes: ["sample"],
    },
    watch: {
      summary: "steer merging while guests run: hard while fresh pages come, else hardly at all",
      args: {
        ...filterArgs,
        daemon: {
          type: "boolean",
          description: "run it in the background: a filter, acts when the experiment's name has come",
        },
        every: {
          type: "number",
          integer: false,
          default: 10,
          valueHint: "S",
          description: "time between two samples; 0: print none",
        },
        gain,
        experiment: {
          type: "id",
          valueHint: "ID",
          description: "for this experiment; reads no plan (default: the experiment of the plan on stdin)",
        },
      },
      stdin: "optional",
      reads: ["experiment"],
      writes: ["sample"],
    },
    protect: {
      summary: "decide which guests die first when memory runs out: a filter, acts at end",
      args: {
        ...filterArgs,
        order: {
          type: "enum",
          options: OOM_ORDERS,
          default: "newest",
          description: "newest: highest index first; priority: lowest priority first",
        },
        memory: {
          type: "number",
          min: 1,
          valueHint: "MIB",
          description: "put the guests into a memory cgroup of their own with this limit",
        },
      },
      stdin: "records",
      reads: ["experiment", "guest"],
      writes: ["sample"],
    },
    report: {
      summary: "print what merging saves, and how much memory an experiment's guests use on this host",
      args: {
        ...filterArgs,
        experiment: {
          type: "id",
          valueHint: "ID",
          description: "whose guests; reads no plan (default: the experiment of the plan on stdin)",
        },
        each: { type: "boolean", description: "a sample for each guest as well" },
      },
      stdin: "optional",
      reads: ["experiment"],
      writes: ["sample"],
    },
    down: {
      summary: "release the lease; the last one unmerges and restores the settings: a filter, acts at end",
      args: {
        ...filterArgs,
        experiment: { type: "id", valueHint: "ID", description: "for this experiment; reads no plan" },
      },
      stdin: "optional",
      reads: ["experiment"],
      writes: [],
    },
  },
  examples: [
    {
      command: "mt-boot up --paused <abilene.plan | mt-ksm settle | mt-boot resume",
      does: "merge what guests have in common before they run",
    },
    {
      command: "mt-ksm watch --daemon <abilene.plan | mt-boot up",
      does: "merge from the first guest on, while they run",
    },
    {
      command: "mt-ksm protect --order priority <abilene.plan",
      does: "when memory runs out, guests of the lowest priority die first",
    },
    { command: "mt-ksm report --experiment abilene", does: "see how much memory its guests use and share" },
    { command: "mt-ksm down --experiment abilene", does: "restore the settings, without a plan" },
  ],
  exits: {
    69: "settle, report: the kernel has no KSM (CONFIG_KSM); the plan is passed on",
    75: "another process holds the lock on the lease",
    77: "not root",
  },
  seeAlso: ["mt-boot(1)", "mt-status(1)", "mt-tree(1)", "mt-records(5)", "madvise(2)"],
} as const satisfies ToolSpec;
