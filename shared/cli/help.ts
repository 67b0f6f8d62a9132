/** The help of a tool and of a command, from its spec: plain text, examples before details. */
import type { Kind } from "../records/index.ts";
import {
  type ArgDef,
  argsOf,
  type CommandSpec,
  choices,
  commandsOf,
  EXIT_MEANINGS,
  type Example,
  isNeeded,
  type ToolSpec,
} from "./spec.ts";

/** Number of examples in the help of a tool; the man page has all. */
const EXAMPLES_SHOWN = 2;

/** `mt-boot exec [FLAGS] [SET] -- CMD`; the man page passes its own text for the flags. */
export function usageLine(tool: ToolSpec, name: string, spec: CommandSpec, flags = "[FLAGS]"): string {
  const places = Object.entries(argsOf(spec)).filter(([, a]) => a.type === "positional");
  const words = places.map(([n, a]) => {
    const word = choices(a).join("|") || n.toUpperCase();
    return isNeeded(a) ? word : `[${word}]`;
  });
  if (spec.words) words.push(spec.words.name);
  const rest = spec.rest ? [spec.rest.required ? `-- ${spec.rest.name}` : `[-- ${spec.rest.name}]`] : [];
  const stdin = { records: ["<RECORDS"], optional: ["[<RECORDS]"], none: [] }[spec.stdin];
  return [tool.name, name, flags, ...words, ...rest, ...stdin].filter(Boolean).join(" ");
}

/** Two columns, the first as wide as its widest cell. */
export function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(0, ...rows.map(([a]) => a.length));
  return rows.map(([a, b]) => `  ${a.padEnd(width)}  ${b}`.trimEnd()).join("\n");
}

export interface FlagRow {
  name: string;
  /** `--accel auto|kvm|tcg` */
  text: string;
  means: string;
  /** `default: 16`, `required`, or undefined. */
  standard?: string;
  /** The commands that have this flag with this meaning; empty: all. */
  commands: string[];
}

/** The flags of these commands; one that means the same in several is one row. */
export function flagRows(commands: readonly (readonly [string, CommandSpec])[]): FlagRow[] {
  const rows = new Map<string, FlagRow>();
  for (const [command, spec] of commands)
    for (const [name, a] of Object.entries(argsOf(spec))) {
      if (a.type === "positional") continue;
      const standard = a.required
        ? "required"
        : a.default === undefined || a.default === false || a.default === ""
          ? undefined
          : `default: ${a.default}`;
      const row = { name, text: flagText(name, a), means: a.description ?? "", standard, commands: [] };
      const key = JSON.stringify(row);
      if (!rows.has(key)) rows.set(key, row);
      rows.get(key)!.commands.push(command);
    }
  return [...rows.values()]
    .map((r) => (r.commands.length === commands.length ? { ...r, commands: [] } : r))
    .sort((a, b) => Number(a.commands.length === 0) - Number(b.commands.length === 0));
}
export function flagText(name: string, a: ArgDef): string {
  const alias = "alias" in a && a.alias !== undefined ? `-${a.alias}, ` : "";
  const value = choices(a).join("|") || (a.valueHint ?? "VALUE");
  return `${alias}--${name}${a.type === "boolean" ? "" : ` ${value}`}`;
}
const flagCells = (r: FlagRow) =>
  [
    r.text,
    [r.means, r.standard && `(${r.standard})`, r.commands.length > 0 && `[${r.commands.join(", ")}]`]
      .filter(Boolean)
      .join(" "),
  ] as const;

/** Every exit code, with its meaning in this tool. */
export const exitRows = (tool: Pick<ToolSpec, "exits">): [string, string][] =>
  Object.entries({ ...EXIT_MEANINGS, ...tool.exits });

const kindsText = (kinds: readonly Kind[]) => kinds.join(", ") || "no records";
/** What a command reads and writes, in words. */
export const recordsText = (c: CommandSpec) => `reads ${kindsText(c.reads)}; writes ${kindsText(c.writes)}`;

const exampleLines = (examples: readonly Example[]) =>
  `Examples:\n${examples.map((e) => `  # ${e.does}\n  ${e.command}`).join("\n")}`;
const FLAGS = "Flags (each but --help and --schema also as MT_NAME in the environment: --log is MT_LOG)";

export function toolHelp(tool: ToolSpec): string {
  const shown = commandsOf(tool);
  return [
    `${tool.name}: ${tool.summary}`,
    `Usage:\n${shown.map(([name, c]) => `  ${usageLine(tool, name, c)}`).join("\n")}`,
    exampleLines(tool.examples.slice(0, EXAMPLES_SHOWN)),
    tool.description,
    `Commands${tool.defaultCommand ? ` (${tool.defaultCommand} where none is named)` : ""}:\n${columns(shown.map(([name, c]) => [name, c.summary]))}`,
    `${FLAGS}:\n${columns(flagRows(shown).map(flagCells))}`,
    `Records:\n${columns(shown.map(([name, c]) => [name, recordsText(c)]))}`,
    `Exit codes:\n${columns(exitRows(tool))}`,
    `See also: ${tool.seeAlso.join(", ")}\n${tool.name} COMMAND --help, --version, --schema, --completion bash|zsh|fish`,
  ].join("\n\n");
}

export function commandHelp(tool: ToolSpec, name: string): string {
  const spec = tool.commands[name]!;
  const examples = tool.examples.filter((e) => new RegExp(`${tool.name} ${name}\\b`).test(e.command));
  const parts = [`${tool.name} ${name}: ${spec.summary}`, `Usage:\n  ${usageLine(tool, name, spec)}`];
  if (examples.length > 0) parts.push(exampleLines(examples));
  const words = Object.entries(argsOf(spec))
    .filter(([, a]) => a.type === "positional")
    .map(([n, a]): [string, string] => [n.toUpperCase(), a.description ?? ""]);
  if (spec.words) words.push([spec.words.name, spec.words.description]);
  if (spec.rest) words.push([spec.rest.name, spec.rest.description]);
  if (words.length > 0) parts.push(`Arguments:\n${columns(words)}`);
  parts.push(`${FLAGS}:\n${columns(flagRows([[name, spec]]).map(flagCells))}`);
  parts.push(`Reads: ${kindsText(spec.reads)}\nWrites: ${kindsText(spec.writes)}`);
  parts.push(`Exit codes, other commands: ${tool.name} --help`);
  return parts.join("\n\n");
}
