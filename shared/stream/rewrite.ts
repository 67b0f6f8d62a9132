/**
 * A changed record as text: only the members that changed are written anew. The rest of the line stays as it came, byte
 * for byte: digits that no double holds, the order of keys, escapes, spaces, a key given twice, fields that are nested
 * too deeply to be read.
 */
import type { MtError } from "../errors.ts";
import type { Line } from "../records/line.ts";
import { itemsOf, membersOf } from "./json-text.ts";
import { readRecord } from "./record-line.ts";

/**
 * The line of `after`. Throws TypeError if `after` is no record or cannot be written as JSON.
 * @param text the line that `before` was parsed from
 */
export function rewrite(text: string, before: object, after: object): string {
  if (typeof after !== "object" || after === null || Array.isArray(after))
    throw new TypeError(`${Array.isArray(after) ? "an array" : String(after)} is no record`);
  if (after === before) return text;
  const kind = (record: object) => (record as Partial<Line>).kind;
  return (kind(before) === kind(after) && changed(text, before, after)) || written(after);
}

/** The line as a failed record. If it had failed already it keeps that error. Throws TypeError if it is no record. */
export function rewriteFailed(text: string, error: MtError): string {
  const read = readRecord({ text });
  if (read === undefined || "why" in read) throw new TypeError(`no record: ${text.slice(0, 80)}`);
  const { line } = read;
  const first = line.state === "failed" && line.error ? line.error : error;
  return rewrite(text, line, { ...line, state: "failed", error: first });
}

function written(value: unknown): string {
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) throw new TypeError("JSON has no way to write it");
  return text;
}

type Fields = Record<string, unknown>;
const isObject = (value: unknown): value is object => typeof value === "object" && value !== null;
/** Values that JSON.stringify leaves out of an object. */
const isLeftOut = (value: unknown) =>
  value === undefined || typeof value === "function" || typeof value === "symbol";

/** The text of `before` changed to say `after`; undefined if it has to be written from scratch. */
function changed(text: string, before: unknown, after: unknown): string | undefined {
  if (isSame(before, after)) return text;
  if (!isObject(before) || !isObject(after) || typeof (after as Fields).toJSON === "function")
    return undefined;
  if (Array.isArray(before) !== Array.isArray(after)) return undefined;
  return Array.isArray(before)
    ? changedArray(text, before, after as unknown[])
    : changedObject(text, before as Fields, after as Fields);
}

function changedObject(text: string, before: Fields, after: Fields): string | undefined {
  const members = membersOf(text);
  if (members === undefined) return undefined;
  const last = new Map(members.map(({ name }, i) => [name, i]));
  // A new member goes behind the one that it follows in `after`, or at the end.
  const added = new Map<string | undefined, string[]>();
  let behind: string | undefined;
  let more: string[] = [];
  for (const [name, value] of Object.entries(after)) {
    if (isLeftOut(value)) continue;
    if (last.has(name)) {
      if (more.length > 0) added.set(behind, more);
      behind = name;
      more = [];
    } else more.push(`${JSON.stringify(name)}:${written(value)}`);
  }
  const first = members[0];
  let out = text.slice(0, first?.from ?? text.indexOf("{") + 1);
  let previous: number | undefined;
  let empty = true;
  const put = (member: string, i?: number) => {
    const follows = i !== undefined && previous !== undefined && i === previous + 1;
    if (!empty) out += follows ? text.slice(members[previous!]!.to, members[i]!.from) : ",";
    out += member;
    empty = false;
    previous = i;
  };
  for (const member of added.get(undefined) ?? []) put(member);
  for (const [i, { name, from, value, to }] of members.entries()) {
    const was = Object.hasOwn(before, name);
    const is = Object.hasOwn(after, name) && !isLeftOut(after[name]);
    const isLast = last.get(name) === i;
    if (is ? was && isSame(before[name], after[name]) : !was) put(text.slice(from, to), i);
    else if (is && isLast)
      put(
        text.slice(from, value) +
          ((was ? changed(text.slice(value, to), before[name], after[name]) : undefined) ??
            written(after[name])),
        i,
      );
    if (isLast) for (const member of added.get(name) ?? []) put(member);
  }
  for (const member of more) put(member);
  return out + text.slice(members.at(-1)?.to ?? text.indexOf("{") + 1);
}

function changedArray(text: string, before: unknown[], after: unknown[]): string | undefined {
  const items = itemsOf(text);
  if (items === undefined) return undefined;
  const places = new Map(before.flatMap((item, i) => (isObject(item) ? [[item, i] as const] : [])));
  const textOf = (i: number) => text.slice(items[i]!.from, items[i]!.to);
  const texts = after.map((item, i) => {
    // The same object elsewhere was moved; any other item is the one at this index, changed.
    const moved = isObject(item) ? places.get(item) : undefined;
    if (moved !== undefined) return textOf(moved);
    const here = i < before.length ? changed(textOf(i), before[i], item) : undefined;
    return here ?? (isLeftOut(item) ? "null" : written(item));
  });
  return `[${texts.join(",")}]`;
}

/** Whether JSON would write both alike. Recurses only as deep as `a`, which came from a line of limited depth. */
function isSame(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (!isObject(a) || !isObject(b) || typeof (b as Fields).toJSON === "function") return false;
  if (Array.isArray(a))
    return Array.isArray(b) && a.length === b.length && a.every((item, i) => isSame(item, b[i]));
  if (Array.isArray(b)) return false;
  const names = Object.keys(a);
  let n = 0;
  for (const name of Object.keys(b)) if (!isLeftOut((b as Fields)[name])) n++;
  return (
    n === names.length &&
    names.every((name) => Object.hasOwn(b, name) && isSame((a as Fields)[name], (b as Fields)[name]))
  );
}
