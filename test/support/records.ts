/** Checks records against the schemas that are shipped in schemas/, as a user of them would. */
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";

const SCHEMAS = resolve(import.meta.dirname, "../../schemas");

export type Rec = Record<string, unknown> & { kind: string; id: string };

const validators = new Map<string, ValidateFunction>();
function validatorOf(kind: string): ValidateFunction | undefined {
  if (validators.size === 0) {
    const ajv = new Ajv2020({ strict: true, allErrors: true });
    for (const file of readdirSync(SCHEMAS))
      validators.set(
        file.replace(".schema.json", ""),
        ajv.compile(JSON.parse(readFileSync(join(SCHEMAS, file), "utf8"))),
      );
  }
  return validators.get(kind);
}

/** What is wrong with a record, by its shipped schema; nothing where the kind is not ours. */
export function wrongWith(record: Rec): string[] {
  const validate = validatorOf(record.kind);
  if (!validate || validate(record as unknown)) return [];
  return (validate.errors ?? []).map((e) => `${record.kind}${e.instancePath} ${e.message}`);
}

/** The lines of a stream as records; throws where one breaks the schema of its kind. */
export function expectRecords(text: string): Rec[] {
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => {
      const record = JSON.parse(line) as Rec;
      const wrong = wrongWith(record);
      if (wrong.length > 0) throw new Error(`${wrong.join("; ")}: ${line.slice(0, 500)}`);
      return record;
    });
}

/** Checks what a tool said of its own: the records of `out` that were not in its input, which may be bad on purpose. */
export function expectNew(out: string, input: string | Buffer): Rec[] {
  const came = new Set(input.toString().split("\n"));
  return expectRecords(
    out
      .split("\n")
      .filter((line) => line.startsWith('{"kind":') && !came.has(line))
      .join("\n"),
  );
}
