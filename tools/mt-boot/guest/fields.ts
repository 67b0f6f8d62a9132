/** The words of a command for one guest: `{field}` is replaced by that field of its record. */
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import type { Guest } from "../../../shared/records/index.ts";

/**
 * Only a word that is exactly `{field}`, with a field that this guest's record has, is replaced: braces of awk, shells
 * and JSON stay. An array becomes several words, text stays one.
 */
export function fillWords(argv: readonly string[], guest: Guest): Result<string[], MtError> {
  const words: string[] = [];
  for (const word of argv) {
    const field = /^\{([A-Za-z_][A-Za-z0-9_]*)\}$/.exec(word)?.[1];
    if (field === undefined || !Object.hasOwn(guest, field)) {
      words.push(word);
      continue;
    }
    const value = (guest as Record<string, unknown>)[field];
    if (value === undefined || value === null)
      return fail(
        "data",
        `Cannot run ${argv[0]} in ${guest.id}: field ${field} of its record is empty`,
        `--literal leaves ${word} as it is`,
      );
    for (const item of Array.isArray(value) ? value : [value])
      words.push(typeof item === "object" ? JSON.stringify(item) : String(item));
  }
  return ok(words);
}
