/**
 * What a tool is, as data: from it come the parser, the type of a command's arguments, the help, the man page's
 * tables and the completions. Written as `{ … } as const satisfies ToolSpec`.
 */
import type { EXIT } from "../errors.ts";
import type { Kind } from "../records/index.ts";

export interface Example {
  command: string;
  does: string;
}

interface AnyArg {
  description: string;
  /** What its value is, for people: a unit, or what it names. */
  valueHint?: string;
}
interface AnyFlag extends AnyArg {
  /** One letter. */
  alias?: string;
  required?: boolean;
  /** Flags that cannot stand beside it. */
  excludes?: readonly string[];
  /** The flag or positional that it is of no use without, why, and a command line that does it right. */
  needs?: { arg: string; because: string; example: string };
}
/** What a number may be; 0 and more, and whole, where nothing else is said. */
export interface NumberRange {
  min?: number;
  max?: number;
  /** False: 0.5 is fine. */
  integer?: boolean;
}
/** `args` has it as true or false; not given is false. */
interface BooleanArg extends AnyFlag {
  type: "boolean";
  default?: boolean;
  /** Where `--no-x` means something else than nothing at all: not given is undefined. */
  tristate?: true;
}
interface StringArg extends AnyFlag {
  type: "string";
  default?: string;
}
interface EnumArg extends AnyFlag {
  type: "enum";
  options: readonly string[];
  default?: string;
}
/** In the unit that `valueHint` names. */
interface NumberArg extends AnyFlag, NumberRange {
  type: "number";
  default?: number;
}
/** One id as records have it: it may become a path and part of names. */
interface IdArg extends AnyFlag {
  type: "id";
  default?: string;
}
/** May be given several times; `args` has all its values in order. Its twin in the environment is one of them. */
interface ListArg extends AnyFlag {
  type: "list";
  default?: undefined;
}
/** An argument that is told by its place. It has to be there unless `required` is false. */
interface PositionalArg extends AnyArg, NumberRange {
  type: "positional";
  /** What it may be. */
  options?: readonly string[];
  /** Absent: any text. */
  value?: "number" | "id";
  required?: boolean;
  default?: undefined;
}
export type ArgDef = BooleanArg | StringArg | EnumArg | NumberArg | IdArg | ListArg | PositionalArg;
export type ArgsDef = Readonly<Record<string, ArgDef>>;
/** The value of an argument whose definition is not known. */
export type ArgValue = string | number | boolean | string[] | undefined;

type TextOrNumber<A> = A extends { type: "number" } | { value: "number" }
  ? number
  : A extends { options: readonly (infer Option)[] }
    ? Option
    : string;
type Value<A> = A extends { type: "boolean" }
  ? boolean
  : A extends { type: "list" }
    ? string[]
    : TextOrNumber<A>;
/** Whether a command has it also where nobody gave it. */
type IsAlwaysThere<A> = A extends { tristate: true } | { required: false }
  ? false
  : A extends { type: "boolean" | "list" | "positional" } | { default: string | number } | { required: true }
    ? true
    : false;
/** What a command finds in `args`, by the definitions of its flags and positionals. */
export type Values<D> = {
  -readonly [K in keyof D as IsAlwaysThere<D[K]> extends true ? K : never]: Value<D[K]>;
} & { -readonly [K in keyof D as IsAlwaysThere<D[K]> extends true ? never : K]?: Value<D[K]> };

export interface CommandSpec {
  summary: string;
  args: ArgsDef;
  /** Any number of words after the positionals. */
  words?: { name: string; description: string };
  /** What stands after `--`, as `-- CMD [ARG…]`; absent: nothing may stand there. */
  rest?: { name: string; required: boolean; description: string };
  /** Whether it reads records on stdin; a terminal there is a usage error. */
  stdin: "records" | "optional" | "none";
  reads: readonly Kind[];
  writes: readonly Kind[];
  /** For the project's own programs: not listed in help, man page and completions. */
  hidden?: boolean;
}

export interface ToolSpec {
  name: string;
  summary: string;
  description: string;
  commands: Readonly<Record<string, CommandSpec>>;
  /** The command to run where none is named. */
  defaultCommand?: string;
  examples: readonly Example[];
  /** Exit codes that mean something more special here than in EXIT_MEANINGS. */
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
} as const satisfies ArgsDef;

/** Flags that every command has. */
export const commonArgs = {
  progress: { type: "boolean", description: "print progress on stderr every few seconds" },
  log: { type: "enum", options: ["text", "json"], default: "text", description: "format of stderr" },
  schema: { type: "boolean", description: "print the JSON Schema of the records that it reads and writes" },
  help: { type: "boolean", alias: "h", description: "show this help" },
} as const satisfies ArgsDef;

export const argsOf = (spec: CommandSpec): ArgsDef => ({ ...spec.args, ...commonArgs });

/** Commands that people call. */
export const commandsOf = (tool: ToolSpec): [string, CommandSpec][] =>
  Object.entries(tool.commands).filter(([, c]) => !c.hidden);

/** What an argument may be; empty: anything. */
export const choices = (a: ArgDef): readonly string[] => ("options" in a && a.options) || [];

/** Whether an argument has to be there. */
export const isNeeded = (a: ArgDef): boolean =>
  a.type === "positional" ? a.required !== false : a.required === true && a.default === undefined;

/** Flags that ask about the tool have no twin; nor has --state: MT_STATE is a directory. */
const WITHOUT_TWIN = ["help", "schema", "state"];
/** The variable of the environment that stands for a flag: its twin. */
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
  75: "busy: another process holds it; try again",
  77: "no permission",
  130: "ended by SIGINT",
  143: "ended by SIGTERM",
};
