/** mt-status's commands, flags, kinds and examples. */
import { filterArgs, type ToolSpec } from "../../shared/cli/spec.ts";

export const spec = {
  name: "mt-status",
  summary: "shows and records what is true",
  description:
    "table is for people; check has guests ping each other and gives the verdict; snapshot and left tell\n" +
    "what a run has left behind on this machine; history prints the verdicts that were given here.",
  defaultCommand: "table",
  commands: {
    table: {
      summary: "print the stream as a table: a line a host, what failed and why, totals",
      args: {},
      stdin: "records",
      reads: ["experiment", "host", "image", "segment", "router", "guest", "copy", "switch", "verdict"],
      writes: [],
    },
    check: {
      summary: "have guests ping guests of other LANs; give the verdict; exit 1 where it is not wholly true",
      args: {
        ...filterArgs,
        targets: {
          type: "number",
          min: 1,
          max: 1000,
          default: 16,
          valueHint: "N",
          description: "how many guests of other LANs each guest pings at most",
        },
        timeout: {
          type: "number",
          min: 1,
          max: 86_400,
          default: 120,
          valueHint: "SECONDS",
          description: "how long the whole check may take",
        },
      },
      stdin: "records",
      reads: ["experiment", "host", "image", "segment", "router", "guest"],
      writes: ["verdict"],
    },
    able: {
      summary: "before a launch: write on this host's record what it can do and what it lacks",
      args: { ...filterArgs },
      stdin: "records",
      reads: [],
      writes: ["host"],
    },
    hosts: {
      summary: "print a table of what hosts can do, and how to mend what is missing; then exit 69",
      args: {},
      stdin: "records",
      reads: ["host"],
      writes: [],
    },
    snapshot: {
      summary: "print what is on this machine now, for `left` to compare with",
      args: { host: filterArgs.host },
      stdin: "none",
      reads: [],
      writes: ["sample"],
    },
    left: {
      summary: "count what is here now and was not at the snapshot; write it into the verdicts on stdin",
      args: {
        ...filterArgs,
        since: { type: "string", required: true, valueHint: "FILE", description: "what `snapshot` printed" },
        grace: {
          type: "number",
          max: 3600,
          integer: false,
          default: 5,
          valueHint: "SECONDS",
          description: "how long to wait for processes that are just ending",
        },
      },
      stdin: "optional",
      reads: [],
      writes: ["verdict", "sample"],
    },
    history: {
      summary: "print the verdicts that were given here, newest last",
      args: {
        experiment: { type: "id", valueHint: "ID", description: "only those of this experiment" },
        last: { type: "number", min: 1, default: 20, valueHint: "N", description: "only the last N" },
      },
      stdin: "none",
      reads: [],
      writes: ["verdict"],
    },
  },
  examples: [
    { command: "mt-status table <abilene.now", does: "see where an experiment stands" },
    { command: "mt-tree map -- mt-boot up <abilene.plan | mt-status check --only", does: "ask the guests" },
    { command: "mt-status snapshot >before.json", does: "note what is on this machine" },
    { command: "mt-status left --since before.json <verdict.json", does: "say what a run has left behind" },
    { command: "mt-status history --experiment abilene --last 3", does: "see the last three verdicts" },
  ],
  exits: { 1: "the verdict is not wholly true, or something is left behind" },
  seeAlso: ["mt-boot(1)", "mt-route(1)", "mt-tree(1)", "mt-records(5)", "megatux(7)"],
} as const satisfies ToolSpec;
