/**
 * Words of the command line → a command with its arguments, or a usage error with a hint.
 * citty reads the definitions; this makes it strict: unknown flags, missing values and extra words are
 * errors, `--no-x` only for booleans, and every flag has a twin `MT_X` in the environment.
 */
import { parseArgs as parseWords } from "node:util";
import { type ArgDef, parseArgs } from "citty";
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../errors.ts";
import {
  argsOf,
  type CommandSpec,
  choices,
  commandsOf,
  SHELLS,
  type Shell,
  type ToolSpec,
  twinOf,
} from "./spec.ts";

export interface Parsed {
  command: string;
  spec: CommandSpec;
  /** By flag name, as citty gives them. */
  args: Record<string, string | boolean | undefined>;
  /** The values of flags that may be given several times, in order; `args` has the last. */
  lists: Record<string, string[]>;
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
  const args = argsOf(spec);
  const flags = Object.entries(args).filter(([, a]) => a.type !== "positional");
  // For parseArgs and citty `--no-x` is always about x: a flag that is itself called so is not for them.
  const negatives = flags.flatMap(([f, a]) => (f.startsWith("no-") && a.type === "boolean" ? [f] : []));
  const negated = negatives.filter(
    (f) => own.includes(`--${f}`) || /^(1|true|yes)$/i.test(env[twinOf(f)!] ?? ""),
  );
  const repeatable = spec.repeatable ?? [];
  const options: Record<string, { type: "string" | "boolean"; short?: string; multiple?: boolean }> = {};
  for (const [flag, a] of flags) {
    options[flag] = {
      type: a.type === "boolean" ? "boolean" : "string",
      multiple: repeatable.includes(flag),
    };
    const alias = "alias" in a && typeof a.alias === "string" ? a.alias : undefined;
    if (alias?.length === 1) options[flag]!.short = alias;
  }
  let positionals: string[];
  let given: Record<string, unknown>;
  const lists: Parsed["lists"] = {};
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
    for (const flag of repeatable) {
      const twin = env[twinOf(flag) ?? ""];
      lists[flag] = (given[flag] as string[] | undefined) ?? (twin ? [twin] : []);
      if (given[flag]) given[flag] = lists[flag].at(-1);
    }
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
      `Cannot use ${JSON.stringify(extra)}: ${tool.name} ${command} takes ${places.length === 0 ? "no argument" : `${places.length} argument${places.length > 1 ? "s" : ""}`}`,
      spec.rest ? `a command stands after --` : `${tool.name} ${command} --help`,
    );
  for (const [i, [place, a]] of places.entries()) {
    const word = positionals[i];
    if (isNeeded(a) && word === undefined)
      return usage(
        `Cannot run ${tool.name} ${command}: ${place.toUpperCase()} is missing`,
        `${tool.name} ${command} --help`,
      );
    if (word !== undefined && choices(a).length > 0 && !choices(a).includes(word))
      return usage(...wrongChoice(`${place.toUpperCase()} `, word, choices(a)));
  }
  if (spec.rest?.required && rest.length === 0)
    return usage(
      `Cannot run ${tool.name} ${command}: ${spec.rest.name} is missing`,
      `${tool.name} ${command} … -- ${spec.rest.name}`,
    );
  if (rest[0] === "")
    return usage(
      `Cannot run ${tool.name} ${command}: the command after -- is empty`,
      `${tool.name} ${command} … -- ${spec.rest?.name ?? ""}`,
    );
  const twins = flags.filter(([f]) => given[f] === undefined && env[twinOf(f) ?? ""]);
  const fromEnv = twins.flatMap(([f, a]) => {
    if (negatives.includes(f)) return [];
    const value = env[twinOf(f)!]!;
    if (a.type !== "boolean") return [`--${f}=${value}`];
    return /^(1|true|yes)$/i.test(value) ? [`--${f}`] : [`--no-${f}`];
  });
  for (const [f, a] of flags) {
    const twin = twins.some(([t]) => t === f) ? twinOf(f) : undefined;
    const value = twin ? env[twin] : given[f];
    if (typeof value !== "string") {
      if (value === undefined && "required" in a && a.required && a.default === undefined)
        return usage(
          `Cannot run ${tool.name} ${command}: --${f} is missing`,
          `--${f} ${a.valueHint ?? "VALUE"}: ${a.description}`,
        );
    } else if (choices(a).length > 0 && !choices(a).includes(value))
      return usage(...wrongChoice(twin ? `${twin}=` : `--${f} `, value, choices(a)));
    else if (a.type === "boolean" && !/^(1|true|yes|0|false|no)$/i.test(value))
      return usage(`Cannot use ${twin}=${value}: expected 1 or 0`);
  }
  // After the checks above nothing is left for citty to guess: canonical words in, values with defaults out.
  const canonical = Object.entries(given).flatMap(([f, v]) =>
    v === true ? [`--${f}`] : v === false ? [`--no-${f}`] : [`--${f}=${v}`],
  );
  const values = parseArgs([...fromEnv, ...canonical, "--", ...positionals], args) as Parsed["args"];
  const out: Parsed["args"] = {};
  for (const key of Object.keys(args))
    out[key] = negatives.includes(key) ? negated.includes(key) || undefined : values[key];
  return ok({ ask: "run", parsed: { command, spec, args: out, lists, words: words_given, rest } });
}

/** Whether an argument has to be there. */
const isNeeded = (a: ArgDef) => a.required !== false && a.default === undefined;

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

/** A flag's value as a number in its unit, or a usage error that says what was expected. */
export function numberArg(
  args: Parsed["args"],
  flag: string,
  range: { min?: number; max?: number; integer?: boolean } = {},
): Result<number, MtError> {
  const value = args[flag];
  const { min = 0, max = Number.MAX_SAFE_INTEGER, integer = true } = range;
  const n = typeof value === "string" && /^-?\d+(\.\d+)?$/.test(value.trim()) ? Number(value) : Number.NaN;
  if (Number.isNaN(n) || n < min || n > max || (integer && !Number.isInteger(n)))
    return fail(
      "usage",
      `Cannot use --${flag} ${JSON.stringify(value)}: expected a ${integer ? "whole " : ""}number ${max === Number.MAX_SAFE_INTEGER ? `from ${min}` : `from ${min} to ${max}`}`,
    );
  return ok(n);
}
