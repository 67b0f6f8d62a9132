/** The JSON Schema of what a tool, or one command of it, reads and writes. */
import { KINDS, type Kind } from "../records/index.ts";
import { DIALECT, type JsonSchema, kindSchema, schemaId } from "../records/json-schema.ts";
import type { CommandSpec, ToolSpec } from "./spec.ts";

/** One schema that takes any of the kinds; each kind is under `$defs`. */
export function toolSchema(tool: ToolSpec, command?: string): JsonSchema {
  const named = Object.entries(tool.commands).filter(([n, c]) => (command ? n === command : !c.hidden));
  const kinds = (Object.keys(KINDS) as Kind[]).filter((k) => named.some(([, c]) => touches(c, k)));
  const title = command ? `${tool.name} ${command}` : tool.name;
  return {
    $schema: DIALECT,
    $id: schemaId(title.replace(" ", ":")),
    title,
    description: named
      .map(([n, c]) => `${n} reads ${list(c.reads)}, writes ${list(c.writes)}`)
      .join("; ")
      .concat("; every other line passes through a filter as it came"),
    anyOf: kinds.map((k) => ({ $ref: `#/$defs/${k}` })),
    $defs: Object.fromEntries(
      kinds.map((k) => {
        const { $schema: _schema, $id: _id, ...rest } = kindSchema(k);
        return [k, rest];
      }),
    ),
  };
}
const list = (kinds: readonly Kind[]) => kinds.join(" ") || "no records";
/** A command that reads records may also write `error` records, for lines that are no record. */
const touches = (c: CommandSpec, kind: Kind) =>
  c.reads.includes(kind) || c.writes.includes(kind) || (kind === "error" && c.stdin !== "none");
