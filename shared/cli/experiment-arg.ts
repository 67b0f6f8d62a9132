/** --experiment of commands that take down without a plan: it becomes a path and part of names, so it is one id. */
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../errors.ts";
import { ID_PATTERN } from "../records/fields.ts";

/** The id, checked. Errors: usage, also for a range: an experiment has one name. */
export function experimentArg(text: string): Result<string, MtError> {
  if (new RegExp(ID_PATTERN).test(text)) return ok(text);
  return fail(
    "usage",
    `Cannot use --experiment ${JSON.stringify(text.slice(0, 60))}: it is no id`,
    "letters, digits, . _ -, 40 at most",
  );
}
