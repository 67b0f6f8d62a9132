/** mt-ksm: its commands, flags, kinds and examples. */
import { type ArgDef, filterArgs, type ToolSpec } from "../../shared/cli/spec.ts";
import { OOM_ORDERS } from "../../shared/host/oom.ts";

const gain = {
  type: "number",
  max: 100,
  integer: false,
  default: 1,
  valueHint: "PERCENT",
  description: "merging pays while a look at all memory adds more than this",
} as const satisfies ArgDef;

export const spec = {
  name: "mt-ksm",
  summary: "merge equal pages of guests on this host, and decide who dies first",
  description:
    "Drives the kernel's samepage merging (KSM), which a machine has only once: all its hosts share the " +
    "settings under one lease, the first user saves them, the last one puts them back. Decides who dies first " +
    "when memory runs out all the same.",
  commands: {
    settle: {
      summary:
        "merge hard until a look at all memory gains nothing more, then go on slowly: a filter, acts at end",
      args: {
        ...filterArgs,
        timeout: {
          type: "number",
          integer: false,
          default: 60,
          valueHint: "S",
          description: "stop after so many seconds, settled or not",
        },
        gain,
      },
      stdin: "records",
      reads: ["experiment", "guest"],
      writes: ["sample"],
    },
    watch: {
      summary: "steer merging for as long as guests run: hard while fresh pages come, else next to nothing",
      args: {
        ...filterArgs,
        daemon: {
          type: "boolean",
          description: "leave it running and go on: a filter, acts when the experiment's name has come",
        },
        every: {
          type: "number",
          integer: false,
          default: 10,
          valueHint: "S",
          description: "print a sample every so many seconds; 0: none",
        },
        gain,
        experiment: {
          type: "id",
          valueHint: "ID",
          description: "for this experiment; reads no plan (else the plan on stdin says)",
        },
      },
      stdin: "optional",
      reads: ["experiment"],
      writes: ["sample"],
    },
    protect: {
      summary: "decide who dies first when memory runs out: guests, in this order: a filter, acts at end",
      args: {
        ...filterArgs,
        order: {
          type: "enum",
          options: OOM_ORDERS,
          default: "newest",
          description:
            "newest: those of the highest index first; priority: those of the lowest priority first",
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
      summary: "print what merging saves, and what an experiment's guests take on this host",
      args: {
        ...filterArgs,
        experiment: {
          type: "id",
          valueHint: "ID",
          description: "whose guests; reads no plan (else the plan on stdin says)",
        },
        each: { type: "boolean", description: "a sample for each guest as well" },
      },
      stdin: "optional",
      reads: ["experiment"],
      writes: ["sample"],
    },
    down: {
      summary: "give the lease back; the last one unmerges and restores the settings: a filter, acts at end",
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
      does: "merge what guests have alike before they run",
    },
    {
      command: "mt-ksm watch --daemon <abilene.plan | mt-boot up",
      does: "merge from the first guest on, for as long as they run",
    },
    {
      command: "mt-ksm protect --order priority <abilene.plan",
      does: "when memory runs out, guests of the lowest priority die first",
    },
    { command: "mt-ksm report --experiment abilene", does: "see how much memory its guests take and share" },
    { command: "mt-ksm down --experiment abilene", does: "put the settings back, without a plan" },
  ],
  exits: {
    69: "settle, report: the kernel has no KSM (CONFIG_KSM); the plan is passed on",
    75: "the lease stays locked",
    77: "not root",
  },
  seeAlso: ["mt-boot(1)", "mt-status(1)", "mt-tree(1)", "mt-records(5)", "madvise(2)"],
} as const satisfies ToolSpec;
