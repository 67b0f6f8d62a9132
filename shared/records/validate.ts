/** Checks records against the schemas of their kinds. */
import { TypeCompiler, ValueErrorType } from "@sinclair/typebox/compiler";
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../errors.ts";
import { SCHEMA_VERSION } from "../version.ts";
import type { Experiment } from "./experiment.ts";
import {
  CIDR_PATTERN,
  HOST_OR_RANGE_PATTERN,
  HOST_PATTERN,
  ID_PATTERN,
  IP_PATTERN,
  RANGE_PATTERN,
} from "./fields.ts";
import { KINDS, type Kind, type RecordByKind } from "./index.ts";

const compiled = new Map<Kind, ReturnType<typeof TypeCompiler.Compile>>();
function checker(kind: Kind) {
  let check = compiled.get(kind);
  if (!check) {
    check = TypeCompiler.Compile(KINDS[kind].schema);
    compiled.set(kind, check);
  }
  return check;
}

/** Checks a record against the schema of its kind. Errors: `data`, with the field and what was expected. Each kind's check is compiled on first use. */
export function validate<K extends Kind>(kind: K, line: unknown): Result<RecordByKind[K], MtError> {
  const check = checker(kind);
  if (check.Check(line)) {
    if (kind === "experiment" && (line as Experiment).version !== SCHEMA_VERSION)
      return fail(
        "data",
        `Cannot read plan version ${(line as Experiment).version}: this tool knows version ${SCHEMA_VERSION}`,
        "use tools of the same release on all hosts",
      );
    return ok(line as RecordByKind[K]);
  }
  // The deepest error says most: a union reports "expected union" first, a missing field itself.
  const first = check.Errors(line).First();
  if (!first) return fail("data", `${kind}: not valid`);
  const field = first.path.replace(/^\//, "").replaceAll("/", ".") || kind;
  const got = first.value === undefined ? "nothing" : JSON.stringify(first.value)?.slice(0, 80);
  const schema = first.schema as { type?: string; description?: string; pattern?: string };
  const expected =
    first.type === ValueErrorType.ObjectRequiredProperty
      ? `${schema.type ?? "a value"}${schema.description ? ` (${schema.description})` : ""}`
      : first.type === ValueErrorType.StringPattern && schema.description
        ? `${schema.description}${patternInWords(schema.pattern)}`
        : lower(first.message);
  return fail("data", `${kind} ${field}: expected ${expected.replace(/^expected /, "")}, got ${got}`);
}
const NAME_IN_WORDS = "letters, digits, . _ -, 40 at most";
const PATTERNS: Readonly<Record<string, string>> = {
  [ID_PATTERN]: NAME_IN_WORDS,
  [RANGE_PATTERN]: `${NAME_IN_WORDS}; one range in brackets`,
  [HOST_PATTERN]: "letters, digits, . _ -, 255 at most",
  [HOST_OR_RANGE_PATTERN]: "letters, digits, . _ -; one range in brackets",
  [IP_PATTERN]: "as 10.254.0.1",
  [CIDR_PATTERN]: "as 10.1.0.1/16",
};
const patternInWords = (pattern = "") => (PATTERNS[pattern] ? ` (${PATTERNS[pattern]})` : "");
const lower = (s: string) => s.charAt(0).toLowerCase() + s.slice(1);
