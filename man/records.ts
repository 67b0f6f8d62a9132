/** The page mt-records(5), from the schemas of the kinds. */
import { type AnyRecord, KINDS, type Kind, SCHEMA_VERSION, type Travel } from "../shared/records/index.ts";
import { type JsonSchema, kindSchema } from "../shared/records/json-schema.ts";
import { DEPTH_MAX } from "../shared/stream/record-line.ts";
import { WIDTH } from "./tables.ts";

const GOES: Readonly<Record<Travel, string>> = {
  host: "to its `host`, and comes back from it",
  self: "to the host that it is about",
  context: "to its `hosts`, or to all where it names none; no tool changes it",
  end: "to all, last",
  report: "to nobody: it says what is true, and never needs to come back in",
};

const HEAD = `# mt-records(5) -- the records that MegaTux's tools read and write

## DESCRIPTION

A record is a JSON object on a line of its own, in UTF-8, with a \`kind\` and an \`id\`. \`experiment\`, \`host\`, \`image\`,
\`segment\`, \`router\`, \`guest\` and \`end\` make a plan; the other kinds say what is true. This page describes version
${SCHEMA_VERSION}; a tool refuses a plan of a version that it does not know (exit 65). Records may have further fields. What a tool does not
know or does not change it writes byte for byte as it came, also in a record that it changes or fails: digits, escapes,
the order of keys, a key that is there twice.

**Lines** with only spaces, tabs and a carriage return are blank, and dropped. Any other line that is no record comes out as
an \`error\` record. A byte order mark before the first line does not belong to it.

**Depth.** A field that makes a record deeper than ${DEPTH_MAX} levels of arrays and objects is passed on without being read, and a
tool that would act on the record fails it. Where the field is one of this page, the line is no record.

**Place.** A \`router\` or \`guest\` without \`host\`, and a \`segment\` without \`hosts\` and \`members\`, has not been placed: tools
that act on its kind fail it and end with 65. mt-topo(1) \`place\` places it.

**Ids** have letters, digits, \`.\`, \`_\`, \`-\`, 40 characters at most; names of hosts may have 255. Some ids may be ranges:
\`g[0-226]\` is 227 names. Member k has the index and the addresses of the record, counted up by k.

**Failure** is the record itself with \`"state":"failed"\` and \`error\`. Later stages keep the first error.

The same as JSON Schema 2020-12 is in \`share/megatux/schemas/KIND.schema.json\`, and printed by \`--schema\` of every tool and
command. Fields are required where this page says so. Examples are one line each, broken here to fit.
`;
const TAIL = `## SEE ALSO

mt-topo(1), mt-tree(1), megatux(7)
`;

export function recordsPage(): string {
  return [HEAD, ...(Object.keys(KINDS) as Kind[]).map(section), TAIL].join("\n");
}

function section(kind: Kind): string {
  const { schema: _, travel, madeBy, examples } = KINDS[kind];
  const schema = kindSchema(kind);
  return `## ${kind}

${sentence(String(schema.description))} It goes ${GOES[travel]}. Made by ${madeBy === "any" ? "any tool" : madeBy}.

${fields(schema, "").join("\n\n")}

Example:

${examples.map((e) => `    ${broken(e)}`).join("\n\n")}
`;
}

/** Every field with its description; fields of objects inside it by their path. */
function fields(schema: JsonSchema, path: string): string[] {
  const required = (schema.required as string[] | undefined) ?? [];
  return Object.entries((schema.properties as Record<string, JsonSchema> | undefined) ?? {}).flatMap(
    ([name, field]) => {
      if (path === "" && name === "kind") return [];
      const at = `${path}${name}`;
      const items = field.items as JsonSchema | undefined;
      const means = String(field.description ?? items?.description ?? "");
      return [
        `\`${at}\` ${typeOf(field)}${required.includes(name) ? ", required" : ""}\n  ${sentence(means)}`,
        ...fields(field, `${at}.`),
        ...(items ? fields(items, `${at}[].`) : []),
      ];
    },
  );
}

function typeOf(field: JsonSchema): string {
  if (field.const !== undefined) return `"${field.const}"`;
  if (Array.isArray(field.enum)) return field.enum.map((v) => `"${v}"`).join(" | ");
  if (field.type === "array") return `array of ${typeOf(field.items as JsonSchema)}`;
  const { minimum: min, exclusiveMinimum: over, maximum: max, pattern } = field;
  const range =
    over !== undefined
      ? ` more than ${over}`
      : min !== undefined && max !== undefined
        ? ` ${min} to ${max}`
        : min !== undefined
          ? ` from ${min}`
          : "";
  return `${field.type}${range}${shape(pattern)}`;
}
/** A pattern in words. */
function shape(pattern: unknown): string {
  const text = String(pattern ?? "");
  if (text.includes("sha256")) return ", sha256:…";
  if (text.includes("\\[")) return ", a name or a range";
  if (text.includes("25[0-5]")) return text.includes("/(?:3") ? ", address/length" : ", IPv4 address";
  return text ? ", a name" : "";
}

const sentence = (text: string) => (text ? `${text.charAt(0).toUpperCase()}${text.slice(1)}.` : "");

/** JSON as lines of a page: broken between fields, and inside those that are too long; digests are cut short. */
function broken(record: AnyRecord): string {
  return brokenValue(record, "").replaceAll("\n", "\n    ");
}
/** @param before how much of the line is taken before it */
function brokenValue(value: unknown, indent: string, before = 0): string {
  const whole = JSON.stringify(value).replaceAll(/(sha256:[0-9a-f]{8})[0-9a-f]{56}/g, "$1…");
  // A comma or brackets may follow.
  if (before + whole.length < WIDTH - 2 || typeof value !== "object" || value === null) return whole;
  const inner = `${indent} `;
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const entries = Object.entries(value);
  const lines: string[] = [open!];
  for (const [i, [k, v]] of entries.entries()) {
    const key = Array.isArray(value) ? "" : `${JSON.stringify(k)}:`;
    const after = i < entries.length - 1 ? "," : close;
    const column = (line: string) => (line === lines[0] ? before : 0) + line.length;
    const last = lines.at(-1)!;
    const here = key + brokenValue(v, inner, column(last) + key.length) + after;
    if (!here.includes("\n") && column(last) + here.length <= WIDTH) lines[lines.length - 1] = last + here;
    else if (last === open) lines[0] = last + here;
    else lines.push(inner + key + brokenValue(v, inner, inner.length + key.length) + after);
  }
  return lines.join("\n");
}
