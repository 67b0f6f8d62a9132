/**
 * Words of the command line → a command with its arguments, typed as its spec says, or a usage error with a hint.
 * citty reads the definitions; this makes it strict: unknown flags, missing values and extra words are
 * errors, `--no-x` only for booleans, every flag has a twin `MT_X` in the environment, and every value is checked.
 */
import { parseArgs as parseWords } from "node:util";
import { type ArgDef as CittyArg, parseArgs } from "citty";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError } from "../errors.ts";
import { checkedValue, clashOf, wrongChoice } from "./check-args.ts";
import { didYouMean } from "./did-you-mean.ts";
import {
  type ArgDef,
  type ArgsDef,
  type ArgValue,
  argsOf,
  type CommandSpec,
  commandsOf,
  isNeeded,
  SHELLS,
  type Shell,
  type ToolSpec,
  twinOf,
} from "./spec.ts";

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

function parseCommand(
  tool: ToolSpec,
  command: string,
  spec: CommandSpec,
  words: readonly string[],
  env: NodeJS.ProcessEnv,
): Result<Request, MtError> {
  const dashes = words.indexOf("--");
  const own = dashes < 0 ? words : words.slice(0, dashes);
  const behind = dashes < 0 ? [] : words.slice(dashes + 1);
  if (own.includes("--help") || own.includes("-h")) return ok({ ask: "help", command });
  if (own.includes("--schema")) return ok({ ask: "schema", command });
  const called = `${tool.name} ${command}`;
  const args = argsOf(spec);
  return readFlags(own, args)
    .andThen((read) => distribute(called, spec, args, read, behind))
    .andThen((read) =>
      valuesOf(called, args, read, env).map(
        (values): Request => ({
          ask: "run",
          parsed: { command, spec, args: values, words: read.words, rest: read.rest },
        }),
      ),
    );
}

/** Flags and other words as they were typed. */
interface Typed {
  /** By flag; a list has all its values. */
  given: Record<string, string | boolean | (string | boolean)[] | undefined>;
  /** Boolean flags whose own name begins with `no-` and that were given. */
  negated: readonly string[];
  positionals: string[];
}

const isNegative = (name: string, a: ArgDef) => name.startsWith("no-") && a.type === "boolean";

/** What stands before `--`. */
function readFlags(own: readonly string[], args: ArgsDef): Result<Typed, MtError> {
  const flags = Object.entries(args).filter(([, a]) => a.type !== "positional");
  // For parseArgs and citty `--no-x` is always about x: a flag that is itself called so is kept from them.
  const negatives = flags.filter(([f, a]) => isNegative(f, a)).map(([f]) => f);
  const options: Record<string, { type: "string" | "boolean"; short?: string; multiple?: boolean }> = {};
  for (const [flag, a] of flags) {
    options[flag] = { type: a.type === "boolean" ? "boolean" : "string", multiple: a.type === "list" };
    if ("alias" in a && a.alias !== undefined) options[flag].short = a.alias;
  }
  try {
    const { values: given, positionals } = parseWords({
      args: own.filter((word) => !negatives.includes(word.slice(2))),
      options,
      allowPositionals: true,
      strict: true,
      allowNegative: true,
    });
    return ok({ given, negated: negatives.filter((f) => own.includes(`--${f}`)), positionals });
  } catch (thrown) {
    const names = flags.map(([f]) => f);
    return fail("usage", ...explain(thrown as NodeJS.ErrnoException, names));
  }
}

/** Tells positionals, further words and the command after `--` apart, and checks that none is missing or too many. */
function distribute(
  called: string,
  spec: CommandSpec,
  args: ArgsDef,
  typed: Typed,
  behind: readonly string[],
): Result<Typed & Pick<Parsed, "words" | "rest">, MtError> {
  const bad = (message: string, hint: string) => fail<never>("usage", message, hint);
  const places = Object.entries(args).filter(([, a]) => a.type === "positional");
  const positionals = [...typed.positionals];
  // `--` ends the flags: what stands behind it are arguments, or the command. Where arguments are still missing
  // they come first, up to another `--`.
  let rest = spec.rest ? [...behind] : [];
  if (!spec.rest) positionals.push(...behind);
  else if (places.some(([, a], i) => isNeeded(a) && i >= positionals.length) && behind.includes("--")) {
    const second = behind.indexOf("--");
    positionals.push(...behind.slice(0, second));
    rest = behind.slice(second + 1);
  }
  const words = spec.words ? positionals.splice(places.length) : [];
  const extra = positionals[places.length];
  const takes =
    places.length === 0 ? "no argument" : `${places.length} argument${places.length > 1 ? "s" : ""}`;
  if (extra !== undefined)
    return bad(
      `Cannot use ${JSON.stringify(extra)}: ${called} takes ${takes}`,
      spec.rest ? "a command stands after --" : `${called} --help`,
    );
  const missing = places.find(([, a], i) => isNeeded(a) && positionals[i] === undefined);
  if (missing) return bad(`Cannot run ${called}: ${missing[0].toUpperCase()} is missing`, `${called} --help`);
  if (spec.rest?.required && rest.length === 0)
    return bad(`Cannot run ${called}: ${spec.rest.name} is missing`, `${called} … -- ${spec.rest.name}`);
  if (rest[0] === "")
    return bad(
      `Cannot run ${called}: the command after -- is empty`,
      `${called} … -- ${spec.rest?.name ?? ""}`,
    );
  return ok({ ...typed, positionals, words, rest });
}

/** All arguments, from words, the environment and defaults, checked and with their types. */
function valuesOf(
  called: string,
  args: ArgsDef,
  { given, negated, positionals }: Typed,
  env: NodeJS.ProcessEnv,
): Result<Parsed["args"], MtError> {
  const bad = (message: string, hint?: string) => fail<never>("usage", message, hint);
  /** Flags that only the environment gives. */
  const twins = new Map<string, { twin: string; value: string }>();
  for (const [name, a] of Object.entries(args)) {
    const twin = a.type === "positional" ? undefined : twinOf(name);
    const value = env[twin ?? ""];
    if (twin && value && given[name] === undefined && !negated.includes(name))
      twins.set(name, { twin, value });
  }
  const canonical: string[] = [];
  for (const [name, { twin, value }] of twins) {
    if (args[name]!.type !== "boolean") canonical.push(`--${name}=${value}`);
    else if (!/^(1|true|yes|0|false|no)$/i.test(value))
      return bad(`Cannot use ${twin}=${value}: expected 1 or 0`);
    else if (!isNegative(name, args[name]!)) canonical.push(isYes(value) ? `--${name}` : `--no-${name}`);
  }
  for (const [name, value] of Object.entries(given)) {
    if (typeof value === "boolean") canonical.push(value ? `--${name}` : `--no-${name}`);
    else canonical.push(`--${name}=${Array.isArray(value) ? value.at(-1) : value}`);
  }
  // citty has nothing left to guess: canonical words in, texts with defaults out.
  const definitions = Object.fromEntries(Object.entries(args).map(([name, a]) => [name, forCitty(a)]));
  const texts = parseArgs([...canonical, "--", ...positionals], definitions);
  const out: Parsed["args"] = {};
  for (const [name, a] of Object.entries(args)) {
    const text = texts[name];
    const twin = twins.get(name);
    if (a.type === "boolean") {
      const on = isNegative(name, a) ? negated.includes(name) || isYes(twin?.value) : text;
      out[name] = a.tristate ? (on as boolean | undefined) : on === true;
    } else if (a.type === "list") {
      out[name] = (given[name] as string[] | undefined) ?? (twin ? [twin.value] : []);
    } else if (typeof text === "string") {
      const said = a.type === "positional" ? `${name.toUpperCase()} ` : twin ? `${twin.twin}=` : `--${name} `;
      const value = checkedValue(a, text, said);
      if (value.isErr()) return err(value.error);
      out[name] = value.value;
    } else {
      out[name] = undefined;
      if (isNeeded(a))
        return bad(
          `Cannot run ${called}: --${name} is missing`,
          `--${name} ${a.valueHint ?? "VALUE"}: ${a.description}`,
        );
    }
  }
  const wasGiven = (name: string) =>
    args[name]?.type === "positional"
      ? out[name] !== undefined
      : given[name] !== undefined || twins.has(name);
  const clash = clashOf(args, out, wasGiven);
  return clash ? bad(clash.message, clash.hint ?? `${called} --help`) : ok(out);
}

const isYes = (text = "") => /^(1|true|yes)$/i.test(text);

/** citty's definition: a text, or a switch. What kind of text is checked afterwards. */
function forCitty(a: ArgDef): CittyArg {
  if (a.type === "boolean") return { type: "boolean", default: a.default };
  if (a.type === "positional") return { type: "positional", required: false };
  return { type: "string", default: a.default === undefined ? undefined : String(a.default) };
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
