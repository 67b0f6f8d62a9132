/**
 * Words of the command line → a command with its arguments, typed as its spec says, or a usage error with a hint.
 * citty reads the definitions; this makes it strict: unknown flags, missing values and extra words are
 * errors, `--no-x` only for booleans, every flag has a twin `MT_X` in the environment, and every value is checked.
 */
import { parseArgs as parseWords } from "node:util";
import { type ArgDef as CittyArg, parseArgs } from "citty";
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../errors.ts";
import { NAME, NAME_LENGTH_MAX } from "../nodeset/ranges.ts";
import {
  type ArgDef,
  type ArgsDef,
  argsOf,
  type CommandSpec,
  choices,
  commandsOf,
  isNeeded,
  type NumberRange,
  SHELLS,
  type Shell,
  type ToolSpec,
  twinOf,
} from "./spec.ts";

export type ArgValue = string | number | boolean | string[] | undefined;

export interface Parsed {
  command: string;
  spec: CommandSpec;
  /** By name, checked; a command has them with the types that its spec says (`Values`). */
  args: Record<string, ArgValue>;
  /** What stood after the positionals, where the command takes words. */
  words: string[];
  /** What stood after `--`. */
  rest: string[];
}

/** What is asked for: an answer about the tool, or a command to run. */
export type Request =
  | { ask: "help" | "schema"; command?: string }
  | { ask: "version" }
  | { ask: "completion"; shell: Shell }
  | { ask: "run"; parsed: Parsed };

export function parse(
  tool: ToolSpec,
  words: readonly string[],
  env: NodeJS.ProcessEnv,
): Result<Request, MtError> {
  const first = words[0];
  if (first === "--version" || first === "-V") return ok({ ask: "version" });
  if (first === "--schema") return ok({ ask: "schema" });
  if (first === "--completion" || first?.startsWith("--completion="))
    return completionFor(first.split("=")[1] ?? words[1]);
  if (first === "--help" || first === "-h" || first === "help") {
    const about = words[1];
    if (about === undefined || Object.hasOwn(tool.commands, about))
      return ok({ ask: "help", command: about });
    return noSuchCommand(tool, about);
  }
  let name = first;
  let from = 1;
  if (name === undefined || !Object.hasOwn(tool.commands, name)) {
    if (tool.defaultCommand && (name === undefined || name.startsWith("-"))) {
      name = tool.defaultCommand;
      from = 0;
    } else {
      if (name === undefined)
        return usage(
          `Cannot run ${tool.name}: no command`,
          `${oneOf(namesOf(tool))}; ${tool.name} --help says more`,
        );
      return noSuchCommand(tool, name);
    }
  }
  const spec = tool.commands[name]!;
  return parseCommand(tool, name, spec, words.slice(from), env);
}

const namesOf = (tool: ToolSpec) => commandsOf(tool).map(([name]) => name);
const oneOf = (words: readonly string[]) => `one of: ${words.join(", ")}`;

function noSuchCommand(tool: ToolSpec, name: string): Result<Request, MtError> {
  const names = namesOf(tool);
  return usage(
    `Cannot run ${JSON.stringify(name)}: no such command`,
    didYouMean(name, names) ?? oneOf(names),
  );
}

function completionFor(shell: string | undefined): Result<Request, MtError> {
  const known = SHELLS.find((s) => s === shell);
  if (known) return ok({ ask: "completion", shell: known });
  if (!shell) return usage("Cannot use --completion: its value is missing", oneOf(SHELLS));
  return usage(...wrongChoice("--completion ", shell, SHELLS));
}

/** The message and the hint where a word is none of those that it may be. */
const wrongChoice = (what: string, word: string, known: readonly string[]): [string, string | undefined] => [
  `Cannot use ${what}${JSON.stringify(word)}: expected ${known.join(" or ")}`,
  didYouMean(word, known),
];

function parseCommand(
  tool: ToolSpec,
  command: string,
  spec: CommandSpec,
  words: readonly string[],
  env: NodeJS.ProcessEnv,
): Result<Request, MtError> {
  const dashes = words.indexOf("--");
  const own = dashes < 0 ? [...words] : words.slice(0, dashes);
  const behind = dashes < 0 ? [] : words.slice(dashes + 1);
  if (own.includes("--help") || own.includes("-h")) return ok({ ask: "help", command });
  if (own.includes("--schema")) return ok({ ask: "schema", command });
  const called = `${tool.name} ${command}`;
  const args = argsOf(spec);
  const flags = Object.entries(args).filter(([, a]) => a.type !== "positional");
  // For parseArgs and citty `--no-x` is always about x: a flag that is itself called so is not for them.
  const negatives = flags.flatMap(([f, a]) => (f.startsWith("no-") && a.type === "boolean" ? [f] : []));
  const negated = negatives.filter((f) => own.includes(`--${f}`) || isYes(env[twinOf(f)!]));
  const options: Record<string, { type: "string" | "boolean"; short?: string; multiple?: boolean }> = {};
  for (const [flag, a] of flags) {
    options[flag] = { type: a.type === "boolean" ? "boolean" : "string", multiple: a.type === "list" };
    if ("alias" in a && a.alias !== undefined) options[flag].short = a.alias;
  }
  let positionals: string[];
  let given: Record<string, string | boolean | (string | boolean)[] | undefined>;
  try {
    const parsed = parseWords({
      args: own.filter((word) => !negatives.includes(word.slice(2))),
      options,
      allowPositionals: true,
      strict: true,
      allowNegative: true,
    });
    positionals = parsed.positionals;
    given = parsed.values;
  } catch (thrown) {
    return usage(
      ...explain(
        thrown as NodeJS.ErrnoException,
        flags.map(([f]) => f),
      ),
    );
  }
  const places = Object.entries(args).filter(([, a]) => a.type === "positional");
  // `--` ends the flags: what stands behind it are arguments, or the command. Where arguments are still missing
  // they come first, up to another `--`.
  let rest = spec.rest ? behind : [];
  if (!spec.rest) positionals.push(...behind);
  else if (places.some(([, a], i) => isNeeded(a) && i >= positionals.length) && behind.includes("--")) {
    const second = behind.indexOf("--");
    positionals.push(...behind.slice(0, second));
    rest = behind.slice(second + 1);
  }
  const words_given = spec.words ? positionals.splice(places.length) : [];
  const extra = positionals[places.length];
  if (extra !== undefined)
    return usage(
      `Cannot use ${JSON.stringify(extra)}: ${called} takes ${places.length === 0 ? "no argument" : `${places.length} argument${places.length > 1 ? "s" : ""}`}`,
      spec.rest ? `a command stands after --` : `${called} --help`,
    );
  const lacking = places.find(([, a], i) => isNeeded(a) && positionals[i] === undefined);
  if (lacking)
    return usage(`Cannot run ${called}: ${lacking[0].toUpperCase()} is missing`, `${called} --help`);
  if (spec.rest?.required && rest.length === 0)
    return usage(`Cannot run ${called}: ${spec.rest.name} is missing`, `${called} … -- ${spec.rest.name}`);
  if (rest[0] === "")
    return usage(
      `Cannot run ${called}: the command after -- is empty`,
      `${called} … -- ${spec.rest?.name ?? ""}`,
    );
  const twins = new Map(
    flags.flatMap(([f]) => {
      const twin = twinOf(f) ?? "";
      return given[f] === undefined && env[twin] ? [[f, { twin, value: env[twin] }]] : [];
    }),
  );
  const fromEnv: string[] = [];
  for (const [f, { twin, value }] of twins) {
    if (args[f]!.type !== "boolean") fromEnv.push(`--${f}=${value}`);
    else if (!/^(1|true|yes|0|false|no)$/i.test(value))
      return usage(`Cannot use ${twin}=${value}: expected 1 or 0`);
    else if (!negatives.includes(f)) fromEnv.push(isYes(value) ? `--${f}` : `--no-${f}`);
  }
  const canonical = Object.entries(given).flatMap(([f, v]) =>
    v === true ? [`--${f}`] : v === false ? [`--no-${f}`] : [`--${f}=${Array.isArray(v) ? v.at(-1) : v}`],
  );
  // citty has nothing left to guess: canonical words in, texts with defaults out.
  const definitions = Object.fromEntries(Object.entries(args).map(([name, a]) => [name, forCitty(a)]));
  const texts = parseArgs([...fromEnv, ...canonical, "--", ...positionals], definitions);
  const out: Parsed["args"] = {};
  for (const [name, a] of Object.entries(args)) {
    const text = texts[name];
    if (a.type === "boolean") {
      const on = negatives.includes(name) ? negated.includes(name) : (text as boolean | undefined);
      out[name] = a.tristate ? on : on === true;
    } else if (a.type === "list") {
      const all = given[name] ?? (twins.has(name) ? [twins.get(name)!.value] : []);
      out[name] = all as string[];
    } else if (typeof text !== "string") {
      out[name] = undefined;
      if (isNeeded(a))
        return usage(
          `Cannot run ${called}: --${name} is missing`,
          `--${name} ${a.valueHint ?? "VALUE"}: ${a.description}`,
        );
    } else {
      const twin = twins.get(name)?.twin;
      const said = a.type === "positional" ? `${name.toUpperCase()} ` : twin ? `${twin}=` : `--${name} `;
      const value = checkedValue(a, text, said);
      if (value.isErr()) return usage(value.error.message, value.error.hint);
      out[name] = value.value;
    }
  }
  const wasGiven = (name: string) =>
    args[name]?.type === "positional"
      ? out[name] !== undefined
      : given[name] !== undefined || twins.has(name);
  const clash = clashOf(args, out, wasGiven);
  if (clash) return usage(clash.message, clash.hint ?? `${called} --help`);
  return ok({ ask: "run", parsed: { command, spec, args: out, words: words_given, rest } });
}

const isYes = (text = "") => /^(1|true|yes)$/i.test(text);

/** citty's definition: a text, or a switch. What kind of text is checked here. */
function forCitty(a: ArgDef): CittyArg {
  if (a.type === "boolean") return { type: "boolean", default: a.default };
  const standard = a.default === undefined ? undefined : String(a.default);
  return a.type === "positional"
    ? { type: "positional", required: false }
    : { type: "string", default: standard };
}

/** A value as its definition says, or what was expected. `said` names it in the message: `--fanout `, `MT_FANOUT=`. */
function checkedValue(a: ArgDef, text: string, said: string): Result<string | number, MtError> {
  const known = choices(a);
  if (known.length > 0 && !known.includes(text)) return fail("usage", ...wrongChoice(said, text, known));
  const type = a.type === "positional" ? a.value : a.type;
  if (type === "number") return numberOf(text, said, a as NumberRange);
  if (type === "id" && !(NAME.test(text) && text.length <= NAME_LENGTH_MAX))
    return fail(
      "usage",
      `Cannot use ${said}${JSON.stringify(text.slice(0, 60))}: it is no id`,
      `letters, digits, . _ -, ${NAME_LENGTH_MAX} at most`,
    );
  return ok(text);
}

/** The first flag that stands beside one that it excludes, or without one that it needs. */
function clashOf(
  args: ArgsDef,
  values: Parsed["args"],
  wasGiven: (name: string) => boolean,
): { message: string; hint?: string } | undefined {
  const isSet = (name: string) => {
    const value = values[name];
    return value === true || (wasGiven(name) && value !== false && value !== "");
  };
  const said = (name: string) => (args[name]?.type === "positional" ? name.toUpperCase() : `--${name}`);
  for (const [name, a] of Object.entries(args)) {
    if (a.type === "positional" || !isSet(name)) continue;
    const other = a.excludes?.find(isSet);
    if (other !== undefined)
      return { message: `Cannot use ${said(name)} with ${said(other)}: take one of them` };
    if (a.needs && !isSet(a.needs.arg))
      return {
        message: `Cannot use ${said(name)} without ${said(a.needs.arg)}: ${a.needs.because}`,
        hint: a.needs.example,
      };
  }
}

function explain(thrown: NodeJS.ErrnoException, flags: string[]): [string, string | undefined] {
  const quoted = /'(?:-\w, )?(-{1,2}[^' =]*)/.exec(thrown.message)?.[1] ?? "";
  if (thrown.code === "ERR_PARSE_ARGS_UNKNOWN_OPTION")
    return [
      `Cannot use ${quoted}: no such flag`,
      didYouMean(
        quoted,
        flags.map((f) => `--${f}`),
      ) ?? "--help lists the flags",
    ];
  if (/does not take an argument/.test(thrown.message))
    return [`Cannot use ${quoted} with a value: it takes none`, undefined];
  return [
    `Cannot use ${quoted}: its value is missing`,
    `${quoted} VALUE; a value that begins with - is written ${quoted}=VALUE`,
  ];
}

const usage = (message: string, hint?: string) => fail<Request>("usage", message, hint);

/** "Did you mean --fanout?", where one of the known words is near. */
export function didYouMean(word: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const k of known) {
    const d = distance(word, k);
    if (d < least) {
      least = d;
      best = k;
    }
  }
  return best && `did you mean ${best}?`;
}

/** Levenshtein distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length]!;
}

/** A number in its unit, or a usage error that says what was expected. */
function numberOf(text: string, said: string, range: NumberRange): Result<number, MtError> {
  const { min = 0, max = Number.MAX_SAFE_INTEGER, integer = true } = range;
  const n = /^-?\d+(\.\d+)?$/.test(text.trim()) ? Number(text) : Number.NaN;
  if (Number.isNaN(n) || n < min || n > max || (integer && !Number.isInteger(n)))
    return fail(
      "usage",
      `Cannot use ${said}${JSON.stringify(text)}: expected a ${integer ? "whole " : ""}number ${max === Number.MAX_SAFE_INTEGER ? `from ${min}` : `from ${min} to ${max}`}`,
    );
  return ok(n);
}
