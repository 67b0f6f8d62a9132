/** The words of a command for one guest: `{field}` is replaced by that field of its record. */
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../shared/errors.ts";
import type { Guest } from "../../shared/records/index.ts";

/** Only a word that is exactly `{field}` is replaced; an array becomes several words, text stays one. */
export function fillWords(argv: readonly string[], guest: Guest): Result<string[], MtError> {
  const words: string[] = [];
  for (const word of argv) {
    const field = /^\{([A-Za-z_][A-Za-z0-9_]*)\}$/.exec(word)?.[1];
    if (field === undefined) {
      words.push(word);
      continue;
    }
    const value = Object.hasOwn(guest, field) ? (guest as Record<string, unknown>)[field] : undefined;
    if (value === undefined || value === null)
      return fail("data", `Cannot run ${argv[0]} in ${guest.id}: its record has no field ${field}`);
    for (const item of Array.isArray(value) ? value : [value])
      words.push(typeof item === "object" ? JSON.stringify(item) : String(item));
  }
  return ok(words);
}
