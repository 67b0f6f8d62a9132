/** Whether the values of flags and positionals are what their definitions say, and which of them go together. */
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../errors.ts";
import { NAME, NAME_LENGTH_MAX } from "../nodeset/ranges.ts";
import { didYouMean } from "./did-you-mean.ts";
import { type ArgDef, type ArgsDef, type ArgValue, choices, type NumberRange } from "./spec.ts";

/** The message and the hint where a word is none of those that it may be. */
export const wrongChoice = (
  what: string,
  word: string,
  known: readonly string[],
): [string, string | undefined] => [
  `Cannot use ${what}${JSON.stringify(word)}: expected ${known.join(" or ")}`,
  didYouMean(word, known),
];

/** A value as its definition says, or what was expected. `said` names it in the message: `--fanout `, `MT_FANOUT=`. */
export function checkedValue(a: ArgDef, text: string, said: string): Result<string | number, MtError> {
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
export function clashOf(
  args: ArgsDef,
  values: Readonly<Record<string, ArgValue>>,
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
