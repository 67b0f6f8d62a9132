/** The kinds as JSON Schema 2020-12, for `schemas/`, `--schema` and mt-records(5). */
import { KINDS, type Kind, SCHEMA_VERSION } from "./index.ts";

export type JsonSchema = { [keyword: string]: unknown };

export const DIALECT = "https://json-schema.org/draft/2020-12/schema";
export const schemaId = (name: string) => `urn:megatux:${SCHEMA_VERSION}:${name}`;

/** A TypeBox schema as plain JSON; a union of constants becomes an `enum`. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  const { anyOf, ...rest } = value as JsonSchema & { anyOf?: JsonSchema[] };
  const out: JsonSchema = {};
  for (const [key, v] of Object.entries(rest)) out[key] = plain(v);
  if (anyOf?.every((a) => typeof a.const === "string"))
    return { type: "string", enum: anyOf.map((a) => a.const), ...out };
  return anyOf ? { ...out, anyOf: plain(anyOf) } : out;
}

/** The schema of one kind as a document. */
export function kindSchema(kind: Kind): JsonSchema {
  const { description, ...rest } = plain(KINDS[kind].schema) as JsonSchema;
  return { $schema: DIALECT, $id: schemaId(kind), title: kind, description, ...rest };
}
