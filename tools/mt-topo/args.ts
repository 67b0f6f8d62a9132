/** Words of the command line that are numbers or ids, checked. */
import { ok, type Result } from "neverthrow";
import type { Parsed } from "../../shared/cli/parse.ts";
import { fail, type MtError } from "../../shared/errors.ts";
import { ID_PATTERN } from "../../shared/records/fields.ts";

const ID = new RegExp(ID_PATTERN);

/** --id, where it is given. */
export function idArg(args: Parsed["args"]): Result<string | undefined, MtError> {
  const id = args.id;
  if (typeof id !== "string" || ID.test(id)) return ok(id === undefined ? undefined : String(id));
  return fail(
    "usage",
    `Cannot use --id ${JSON.stringify(id.slice(0, 60))}: it is no id`,
    "letters, digits, . _ -, 40 characters at most",
  );
}

/** --image. */
export function imageArg(args: Parsed["args"]): Result<string, MtError> {
  const image = args.image;
  if (typeof image === "string" && ID.test(image)) return ok(image);
  const hint = "as: mt-topo guests 44 --image tux";
  if (image === undefined || image === "")
    return fail("usage", "Cannot add guests: --image is missing", hint);
  return fail(
    "usage",
    `Cannot use --image ${JSON.stringify(String(image).slice(0, 60))}: it is no image's name`,
    hint,
  );
}
