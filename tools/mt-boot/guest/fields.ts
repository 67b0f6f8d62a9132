/** A command line for one guest: `{field}` is replaced by that field of its record. */
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import type { Guest } from "../../../shared/records/index.ts";

/**
 * Replaces only arguments that are exactly `{field}`, with a field that the guest's record has: braces of awk, shells
 * and JSON stay. An array becomes several arguments, text stays one.
 */
export function fillFields(argv: readonly string[], guest: Guest): Result<string[], MtError> {
  const filled: string[] = [];
  for (const word of argv) {
    const field = /^\{([A-Za-z_][A-Za-z0-9_]*)\}$/.exec(word)?.[1];
    if (field === undefined || !Object.hasOwn(guest, field)) {
      filled.push(word);
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
      filled.push(typeof item === "object" ? JSON.stringify(item) : String(item));
  }
  return ok(filled);
}
