/**
 * A line as a record, or why it is none: the same answer, in the same words, from everybody who reads records.
 */
import type { Line } from "../records/line.ts";
import { isDeeper, isJson, membersOf } from "./json-text.ts";
import type { RawLine } from "./lines.ts";

/** Levels of arrays and objects in a record, itself one of them. What is nested deeper is passed on, and not looked into. */
export const DEPTH_MAX = 256;

/** What a line is. */
export type ReadLine =
  | {
      line: Line;
      /** The fields that are nested too deeply: they are in the text, not in `line`. */
      deep?: readonly string[];
    }
  | { why: string };

/** Blank is what is blank in JSON: spaces, tabs and a carriage return. Other white space is no record. */
const BLANK = /^[ \t\r]*$/;
export const isBlank = (text: string): boolean => BLANK.test(text);

/** Reads one line; undefined where it is blank. */
export function readRecord({ text, bad }: RawLine): ReadLine | undefined {
  if (bad !== undefined) return { why: bad };
  // Most lines begin with a record.
  if (text[0] !== "{" && isBlank(text)) return undefined;
  let line: Line;
  let deep: string[] | undefined;
  if (isDeeper(text, DEPTH_MAX)) {
    const members = membersOf(text);
    if (members === undefined) return { why: isJson(text) ? "it is no JSON object" : "it is no JSON" };
    deep = members.flatMap(({ name, depth }) => (depth < DEPTH_MAX ? [] : [name]));
    line = Object.fromEntries(
      members.flatMap(({ name, value, to }) =>
        deep!.includes(name) ? [] : [[name, JSON.parse(text.slice(value, to))]],
      ),
    ) as Line;
    const lost = deep.find((name) => READ_BY_ALL.includes(name));
    if (lost !== undefined) return { why: whyTooDeep(lost) };
  } else
    try {
      line = JSON.parse(text);
    } catch {
      return { why: "it is no JSON" };
    }
  if (typeof line !== "object" || line === null || Array.isArray(line))
    return { why: "it is no JSON object" };
  if (typeof line.kind !== "string" || line.kind === "") return { why: "kind: expected a string" };
  if (typeof line.id !== "string" || line.id === "") return { why: "id: expected a string" };
  return deep === undefined ? { line } : { line, deep };
}

/** What says where a record goes. */
const READ_BY_ALL = ["kind", "id", "host", "hosts"];

/** Why a field cannot be read. */
export const whyTooDeep = (field: string): string => `${field}: nested deeper than ${DEPTH_MAX} levels`;
