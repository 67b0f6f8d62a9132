/** mt-boot: its commands, flags, kinds and examples. */
import { type ArgDef, type ArgsDef, filterArgs, type ToolSpec } from "../../shared/cli/spec.ts";
import { GUEST_STATES } from "../../shared/records/guest.ts";

const jobsArg = {
  jobs: {
    type: "number",
    min: 1,
    max: 4096,
    valueHint: "N",
    description:
      "guests worked on at a time (default for each core of this host: 2; save 1; exec and copy 4)",
  },
} as const satisfies ArgsDef;
const readyArg = {
  "ready-timeout": {
    type: "number",
    min: 1,
    max: 86_400,
    valueHint: "SECONDS",
    default: 180,
    description: "how long one guest may take, from when its turn comes",
  },
} as const satisfies ArgsDef;
const answerArg = {
  "answer-timeout": {
    type: "number",
    max: 86_400,
    valueHint: "SECONDS",
    default: 60,
    description:
      "how long a ready guest may leave its supervisor without an answer before it is restarted; 0: for ever",
  },
} as const satisfies ArgsDef;
const experimentArg = (description: string) =>
  ({ experiment: { type: "id", valueHint: "ID", description } }) as const satisfies ArgsDef;

const reserveArg = {
  type: "number",
  max: 2 ** 40,
  valueHint: "MIB",
  default: 512,
  description: "memory of this host to leave free: a guest that would use some of it is not started",
} as const satisfies ArgDef;

const setArg = {
  set: {
    type: "positional",
    required: false,
    description: "guests by name, as g[0-3],gw (default: those of the records on stdin)",
  },
} as const satisfies ArgsDef;
const whichExperiment = experimentArg("the experiment of the guests; needed where several run here");
const humanArg = {
  human: { type: "boolean", description: "a table, also where stdout is no terminal" },
} as const satisfies ArgsDef;
const timeoutArg = (seconds: number, description: string) =>
  ({
    timeout: { type: "number", min: 1, max: 86_400, valueHint: "SECONDS", default: seconds, description },
  }) as const satisfies ArgsDef;

export const spec = {
  name: "mt-boot",
  summary: "starts, resumes, watches and stops guests on this host",
  description: `On each host, one supervisor an experiment owns the guests: it starts them under QEMU, gives each its identity
through its guest agent, restarts guests that die, and answers ls and exec. It is started by the first command that
needs it and ends with the last guest. If it dies, the guests live on, and the next command starts it again.`,
  commands: {
    up: {
      summary: "starts the plan's guests that are missing, resumes those that are paused",
      args: {
        ...filterArgs,
        paused: {
          type: "boolean",
          description: "boot to the barrier, where the agent answers, and pause there",
        },
        boot: {
          type: "enum",
          options: ["auto", "fork", "cold"],
          default: "auto",
          description:
            "fork: clones of a template of their image; cold: each from its kernel; auto: fork where the image allows it, cold where that fails",
        },
        accel: {
          type: "enum",
          options: ["auto", "kvm", "tcg"],
          default: "auto",
          description: "auto: KVM where a probe guest boots under it, else TCG",
        },
        retries: {
          type: "number",
          max: 1000,
          valueHint: "N",
          default: 3,
          description: "how often a failed guest is tried again",
        },
        "reserve-mib": reserveArg,
        "until-full": {
          type: "boolean",
          description:
            "guests that find no room on this host come out planned, with the reason, instead of failed",
        },
        batch: {
          type: "number",
          min: 1,
          max: 4096,
          valueHint: "N",
          description: "start so many guests at a time, after the whole plan has come",
        },
        between: {
          type: "string",
          valueHint: "COMMAND",
          needs: {
            arg: "batch",
            because: "it runs after each batch",
            example: "mt-boot up --batch 32 --between …",
          },
          description:
            "shell command to run after each batch, with the batch as a plan on its stdin; with --batch",
        },
        ...jobsArg,
        ...readyArg,
        ...answerArg,
      },
      stdin: "records",
      reads: ["experiment", "host", "image"],
      writes: ["guest", "sample"],
    },
    resume: {
      summary:
        "resumes paused guests: those of SET, or at end the plan's; guests at the barrier get their identity first",
      args: { ...setArg, ...filterArgs, ...whichExperiment, ...jobsArg, ...readyArg },
      stdin: "optional",
      reads: ["experiment", "host"],
      writes: ["guest", "exit"],
    },
    pause: {
      summary: "pauses guests where they are: those of SET, or at end the plan's",
      args: { ...setArg, ...filterArgs, ...whichExperiment, ...jobsArg, ...readyArg },
      stdin: "optional",
      reads: ["experiment", "host"],
      writes: ["guest", "exit"],
    },
    reset: {
      summary: "ends guests and starts them again: those of SET, or at end the plan's",
      args: { ...setArg, ...filterArgs, ...whichExperiment, ...jobsArg, ...readyArg },
      stdin: "optional",
      reads: ["experiment", "host"],
      writes: ["guest", "exit"],
    },
    save: {
      summary: "saves running guests, with their memory, into a directory; they go on running",
      args: {
        dir: { type: "positional", description: "a new or empty directory" },
        ...setArg,
        ...filterArgs,
        ...whichExperiment,
        ...jobsArg,
      },
      stdin: "optional",
      reads: ["experiment", "host", "guest"],
      writes: ["exit"],
    },
    restore: {
      summary: "starts saved guests where they were saved; their network must be there",
      args: {
        dir: { type: "positional", description: "where they were saved" },
        set: { type: "positional", required: false, description: "only these, as g[0-3],gw" },
        host: filterArgs.host,
        "reserve-mib": reserveArg,
        ...jobsArg,
        ...readyArg,
        ...answerArg,
      },
      stdin: "none",
      reads: [],
      writes: ["guest"],
    },
    check: {
      summary: "writes the present state of every guest of the plan; changes nothing",
      args: { ...filterArgs },
      stdin: "records",
      reads: ["experiment"],
      writes: ["guest"],
    },
    prove: {
      summary:
        "before a launch: boots one guest of the stream's image here, and writes KVM or TCG on the host record",
      args: { ...filterArgs },
      stdin: "records",
      reads: ["image"],
      writes: ["host"],
    },
    down: {
      summary: "at end: stops the plan's guests; with --experiment all of it, without a plan",
      args: { ...filterArgs, ...experimentArg("stop all guests of this experiment here; reads no stdin") },
      stdin: "optional",
      reads: ["experiment"],
      writes: ["guest"],
    },
    ls: {
      summary: "the guests that are here, with their states",
      args: {
        set: { type: "positional", required: false, description: "only these, as g[0-3],gw" },
        host: filterArgs.host,
        state: { type: "enum", options: GUEST_STATES, description: "only those in this state" },
        ...humanArg,
        ...experimentArg("only this experiment"),
      },
      stdin: "none",
      reads: [],
      writes: ["guest"],
    },
    stats: {
      summary: "what guests use: processor, memory, network; the least, median and most of them",
      args: {
        ...setArg,
        ...filterArgs,
        ...whichExperiment,
        each: { type: "boolean", description: "a record a guest" },
        human: {
          ...humanArg.human,
          needs: { arg: "set", because: "the records go on", example: "mt-boot stats --human 'g[0-99]'" },
        },
      },
      stdin: "optional",
      reads: ["experiment", "guest"],
      writes: ["sample", "exit"],
    },
    exec: {
      summary: "runs a command in guests through their agents",
      args: {
        ...setArg,
        ...filterArgs,
        ...whichExperiment,
        ...timeoutArg(30, "how long the command may take in one guest"),
        stdin: {
          type: "boolean",
          needs: {
            arg: "set",
            because: "the records are on stdin",
            example: "mt-boot exec --stdin 'g[0-3]' -- CMD <FILE",
          },
          description: "give stdin to each command, 1 MiB at most; with SET",
        },
        literal: { type: "boolean", description: "take CMD literally: {field} is not replaced" },
        fold: { type: "boolean", description: "one record for all guests with equal output, at the end" },
        ...jobsArg,
      },
      rest: {
        name: "CMD",
        required: true,
        description:
          "program and arguments; {field} is replaced by that field where the guest's record has it, an array becomes several arguments",
      },
      stdin: "optional",
      reads: ["experiment", "host", "guest"],
      writes: ["exit"],
    },
    watch: {
      summary: "the guests of an experiment, then each change of their states, until the last is gone",
      args: { host: filterArgs.host, ...experimentArg("which experiment; needed where several run here") },
      stdin: "none",
      reads: [],
      writes: ["guest"],
    },
    gc: {
      summary: "removes templates that no guest of this machine is forked from",
      args: { host: filterArgs.host },
      stdin: "none",
      reads: [],
      writes: ["sample"],
    },
    copy: {
      summary: "copies files into guests, or out of them into a directory here",
      args: {
        ...filterArgs,
        ...whichExperiment,
        to: {
          type: "string",
          valueHint: "PATH",
          excludes: ["from"],
          description: "copy into the guests of the records on stdin, to this path",
        },
        from: {
          type: "string",
          valueHint: "PATH",
          description: "copy this file out of the guests of the records on stdin",
        },
        ...timeoutArg(600, "how long it may take in one guest"),
        ...jobsArg,
      },
      words: {
        name: "SRC... DEST",
        description:
          "FILE... SET:PATH (a PATH that is a directory ends with /), or SET:PATH... DIR (files become DIR/GUEST/NAME); FILE... with --to, DIR with --from",
      },
      stdin: "optional",
      reads: ["experiment", "host", "guest"],
      writes: ["exit"],
    },
    console: {
      summary: "a terminal on the serial console of one guest; Ctrl-] detaches",
      args: {
        id: { type: "positional", description: "the guest" },
        ...whichExperiment,
        lines: {
          type: "number",
          max: 1e9,
          valueHint: "N",
          default: 20,
          description: "how many earlier lines to print first",
        },
        wait: {
          type: "number",
          max: 86_400,
          integer: false,
          valueHint: "SECONDS",
          default: 1,
          description: "without a terminal: end when the guest was silent for so long after the end of stdin",
        },
      },
      stdin: "none",
      reads: [],
      writes: [],
    },
    log: {
      summary: "what guests have written to their consoles, as text",
      args: {
        ...setArg,
        ...filterArgs,
        ...whichExperiment,
        follow: {
          type: "boolean",
          needs: {
            arg: "set",
            because: "it would never end, and the records go on",
            example: "mt-boot log --follow 'g[0-3]'",
          },
          description: "keep printing what comes; with SET",
        },
        lines: { type: "number", max: 1e9, valueHint: "N", description: "only the last N lines of each" },
      },
      stdin: "optional",
      reads: ["experiment", "guest"],
      writes: ["exit"],
    },
    supervise: {
      summary: "run as the supervisor of one experiment on this host",
      args: {
        experiment: { type: "positional", value: "id", description: "the experiment" },
        host: filterArgs.host,
      },
      stdin: "none",
      reads: [],
      writes: [],
      hidden: true,
    },
  },
  examples: [
    {
      command: "mt-boot up <abilene.plan",
      does: "boot this host's guests of the plan, wait until they are ready",
    },
    {
      command: "mt-boot up --paused <abilene.plan | mt-boot resume",
      does: "boot all to the barrier, then resume them",
    },
    { command: "mt-boot exec 'g[0-3]' -- ip -4 addr", does: "run a command in four guests" },
    { command: "mt-boot copy hosts 'g[0-3]:/etc/'", does: "copy a file into four guests" },
    { command: "mt-boot copy 'g[0-3]:/etc/hosts' out", does: "fetch one from each: out/g0/hosts, …" },
    { command: "mt-boot console g0", does: "a terminal on the console of a guest" },
    { command: "mt-boot log --follow --lines 5 'g[0-3]'", does: "follow the consoles of four guests" },
    { command: "mt-boot pause 'g[2-3]'", does: "pause two guests" },
    { command: "mt-boot resume 'g[2-3]'", does: "resume them" },
    { command: "mt-boot reset g3", does: "restart a guest that hangs" },
    { command: "mt-boot stats --human 'g[0-3]'", does: "what four guests use" },
    { command: "mt-boot ls --human", does: "the guests here, and their states" },
    {
      command: "mt-boot down --experiment abilene",
      does: "stop everything of one experiment, without a plan",
    },
  ],
  exits: {
    1: "some guests failed or are not there, or in exec a command ended with another code than 0",
    69: "QEMU is not installed",
  },
  seeAlso: ["mt-vnet(1)", "mt-push(1)", "mt-ksm(1)", "mt-records(5)", "megatux(7)"],
} as const satisfies ToolSpec;
