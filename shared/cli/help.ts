/** The help of a tool and of a command, from its spec: plain text, examples first, for stdout. */
import type { ArgDef } from "citty";
import { argsOf } from "./parse.ts";
import { type CommandSpec, EXIT_MEANINGS, type ToolSpec } from "./spec.ts";

export function usageLine(tool: ToolSpec, name: string, spec: CommandSpec): string {
  const places = Object.entries(argsOf(spec)).filter(([, a]) => a.type === "positional");
  const words = places.map(([n, a]) =>
    a.required === false || a.default !== undefined ? `[${n.toUpperCase()}]` : n.toUpperCase(),
  );
  const rest = spec.rest ? [spec.rest.required ? `-- ${spec.rest.name}` : `[-- ${spec.rest.name}]`] : [];
  const stdin = spec.stdin === "records" ? ["<RECORDS"] : [];
  return [tool.name, name, "[FLAGS]", ...words, ...rest, ...stdin].join(" ");
}

/** Two columns, the first as wide as its widest cell. */
function columns(rows: [string, string][]): string {
  const width = Math.max(0, ...rows.map(([a]) => a.length));
  return rows.map(([a, b]) => `  ${a.padEnd(width)}  ${b}`.trimEnd()).join("\n");
}

export function flagRows(spec: CommandSpec): [string, string][] {
  return Object.entries(argsOf(spec))
    .filter(([, a]) => a.type !== "positional")
    .map(([name, a]) => [flagText(name, a), flagMeaning(a)]);
}
function flagText(name: string, a: ArgDef): string {
  const alias = "alias" in a && typeof a.alias === "string" ? `-${a.alias}, ` : "";
  const value =
    a.type === "boolean"
      ? ""
      : a.type === "enum"
        ? ` ${(a.options ?? []).join("|")}`
        : ` ${a.valueHint ?? "VALUE"}`;
  return `${alias}--${name}${value}`;
}
function flagMeaning(a: ArgDef): string {
  const standard =
    a.default === undefined || a.default === false || a.default === "" ? "" : ` (default: ${a.default})`;
  return `${a.description ?? ""}${standard}`;
}

export function toolHelp(tool: ToolSpec): string {
  const shown = Object.entries(tool.commands).filter(([, c]) => !c.hidden);
  return [
    `${tool.name}: ${tool.summary}`,
    `Examples:\n${tool.examples.map((e) => `  # ${e.does}\n  ${e.command}`).join("\n")}`,
    `Usage:\n${shown.map(([name, c]) => `  ${usageLine(tool, name, c)}`).join("\n")}`,
    `Commands:\n${columns(shown.map(([name, c]) => [name, c.summary]))}`,
    tool.description,
    `Exit codes:\n${columns(Object.entries({ ...EXIT_MEANINGS, ...tool.exits }).map(([k, v]) => [k, v]))}`,
    `See also: ${tool.seeAlso.join(", ")}\n${tool.name} COMMAND --help tells the flags of a command; --version tells the version.`,
  ].join("\n\n");
}

export function commandHelp(tool: ToolSpec, name: string): string {
  const spec = tool.commands[name]!;
  const places = Object.entries(argsOf(spec)).filter(([, a]) => a.type === "positional");
  const examples = tool.examples.filter((e) => new RegExp(`${tool.name} ${name}\\b`).test(e.command));
  const parts = [`${tool.name} ${name}: ${spec.summary}`];
  if (examples.length > 0)
    parts.push(`Examples:\n${examples.map((e) => `  # ${e.does}\n  ${e.command}`).join("\n")}`);
  parts.push(`Usage:\n  ${usageLine(tool, name, spec)}`);
  const words: [string, string][] = places.map(([n, a]) => [n.toUpperCase(), flagMeaning(a)]);
  if (spec.rest) words.push([spec.rest.name, spec.rest.description]);
  if (words.length > 0) parts.push(`Arguments:\n${columns(words)}`);
  parts.push(`Flags (each also as MT_NAME in the environment):\n${columns(flagRows(spec))}`);
  parts.push(
    `Reads: ${spec.reads.join(", ") || "no records"}\nWrites: ${spec.writes.join(", ") || "no records"}`,
  );
  return parts.join("\n\n");
}
