/**
 * What a tool is, as data: from it come the parser, the help, the man page's tables and completions.
 * Flags and arguments are citty's definitions; what citty lacks (kinds, examples, exit codes) is beside.
 */
import type { ArgDef, ArgsDef } from "citty";
import type { EXIT } from "../errors.ts";
import type { Kind } from "../records/index.ts";

export interface Example {
  command: string;
  does: string;
}

export interface CommandSpec {
  summary: string;
  /**
   * citty's: `positional`, `string`, `boolean`, `enum`; `default` in the flag's unit, `valueHint` names it.
   * On a positional, `valueHint` is the choice of words that it may be, as `ring|grid`.
   */
  args: ArgsDef;
  /** Flags with a value that may be given several times: `lists` of the invocation has them all. */
  repeatable?: readonly string[];
  /** What stands after the positionals, as many words as one likes. */
  words?: { name: string; description: string };
  /** What stands after `--`, as `-- CMD [ARG…]`; absent: nothing may. */
  rest?: { name: string; required: boolean; description: string };
  /** Whether it reads records on stdin; a terminal there is a usage error. */
  stdin: "records" | "optional" | "none";
  reads: readonly Kind[];
  writes: readonly Kind[];
  /** Called by the project's own programs, not by people: not listed. */
  hidden?: boolean;
}

export interface ToolSpec {
  name: string;
  summary: string;
  description: string;
  commands: Record<string, CommandSpec>;
  /** The command meant where none is named. */
  defaultCommand?: string;
  examples: readonly Example[];
  /** Exit codes that mean more here than in the shared table. */
  exits?: Readonly<Record<number, string>>;
  seeAlso: readonly string[];
}

/** Flags that every filter has. */
export const filterArgs = {
  host: {
    type: "string",
    valueHint: "NAME",
    description: "act as this host (default: MT_HOST, else the host name)",
  },
  only: { type: "boolean", description: "print this tool's own records and no others" },
} satisfies ArgsDef;

/** Flags that every command has. */
export const commonArgs = {
  progress: { type: "boolean", description: "say on stderr every few seconds how far it is" },
  log: { type: "enum", options: ["text", "json"], default: "text", description: "how stderr is written" },
  schema: { type: "boolean", description: "print the JSON Schema of the records that it reads and writes" },
  help: { type: "boolean", alias: "h", description: "show this help" },
} satisfies ArgsDef;

export const argsOf = (spec: CommandSpec): Record<string, ArgDef> => ({
  ...(spec.args as Record<string, ArgDef>),
  ...commonArgs,
});

/** Commands that people call. */
export const commandsOf = (tool: ToolSpec): [string, CommandSpec][] =>
  Object.entries(tool.commands).filter(([, c]) => !c.hidden);

/** The words that an argument may be; none: any. */
export const choices = (a: ArgDef): readonly string[] =>
  a.type === "enum" ? (a.options ?? []) : a.type === "positional" ? (a.valueHint?.split("|") ?? []) : [];

/** Flags that ask for an answer and no work have no twin; nor --state: MT_STATE is a directory. */
const WITHOUT_TWIN = ["help", "schema", "state"];
/** The twin of a flag in the environment. */
export const twinOf = (flag: string): string | undefined =>
  WITHOUT_TWIN.includes(flag) ? undefined : `MT_${flag.replaceAll("-", "_").toUpperCase()}`;

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/** What exit codes mean in every tool. */
export const EXIT_MEANINGS: Readonly<Record<(typeof EXIT)[keyof typeof EXIT], string>> = {
  0: "all done",
  1: "some of this tool's own records failed; they are in the stream",
  64: "usage: an unknown flag or command, a missing or extra argument",
  65: "bad input, or a stream that ended without its end record",
  69: "a needed program or device is missing; the message names the package or the setting",
  70: "a bug in the tool",
  74: "input or output failed: stdout closed, disk full",
  75: "busy: somebody else holds it; try again",
  77: "no permission",
  130: "ended by SIGINT",
  143: "ended by SIGTERM",
};
