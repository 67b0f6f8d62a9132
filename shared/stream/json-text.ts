/**
 * JSON as text on one line: the offsets of an object's members and an array's items, and how deep it is nested.
 * As strict as JSON.parse: what is accepted here is JSON.
 */
import {
  ARRAY,
  ARRAY_END,
  afterColon,
  COMMA,
  depthOfValue,
  NEWLINE,
  OBJECT,
  OBJECT_END,
  space,
  string,
  value,
} from "./json-bytes.ts";

/** A value in a text: `from` is its first character, `to` the one after its last. */
export interface Item {
  from: number;
  to: number;
}

/** A member of an object: name, colon and value are `from` … `to`; the value begins at `value`. */
export interface Member extends Item {
  name: string;
  value: number;
  /** How deep arrays and objects are nested in its value; 0: it is a scalar. */
  depth: number;
}

/** One byte per UTF-16 unit, so that offsets are those of the text. All units beyond ASCII become 0x80: JSON treats them alike. */
function bytesOf(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length + 1);
  for (let i = 0; i < text.length; i++) {
    bytes[i] = Math.min(text.charCodeAt(i), 0x80);
  }
  bytes[text.length] = NEWLINE;
  return bytes;
}

/** Whether only white space follows. */
const ends = (bytes: Uint8Array, at: number) => space(bytes, at) === bytes.length - 1;

/** Whether arrays and objects are nested deeper than `max`. For text that is not JSON the answer may be either. */
export function isDeeper(text: string, max: number): boolean {
  // Each level takes two brackets.
  if (text.length <= 2 * max) return false;
  const bytes = bytesOf(text);
  value(bytes, space(bytes, 0));
  return depthOfValue() > max;
}

/** The members of a JSON object, in order; undefined if the text is not one. */
export function membersOf(text: string): Member[] | undefined {
  const bytes = bytesOf(text);
  const members: Member[] = [];
  const ok = eachOf(bytes, OBJECT, OBJECT_END, (from) => {
    const named = string(bytes, from);
    const begin = named < 0 ? -1 : afterColon(bytes, named);
    const to = begin < 0 ? -1 : value(bytes, begin);
    if (to >= 0)
      members.push({
        name: JSON.parse(text.slice(from, named)),
        from,
        value: begin,
        to,
        depth: depthOfValue(),
      });
    return to;
  });
  return ok ? members : undefined;
}

/** The items of a JSON array, in order; undefined if the text is not one. */
export function itemsOf(text: string): Item[] | undefined {
  const bytes = bytesOf(text);
  const items: Item[] = [];
  const ok = eachOf(bytes, ARRAY, ARRAY_END, (from) => {
    const to = value(bytes, from);
    if (to >= 0) items.push({ from, to });
    return to;
  });
  return ok ? items : undefined;
}

/** Calls `over` at the start of each member or item between two brackets; whether they make up the whole text. */
function eachOf(bytes: Uint8Array, open: number, close: number, over: (from: number) => number): boolean {
  let at = space(bytes, 0);
  if (bytes[at] !== open) return false;
  at = space(bytes, at + 1);
  if (bytes[at] === close) return ends(bytes, at + 1);
  for (;;) {
    const to = over(at);
    if (to < 0) return false;
    at = space(bytes, to);
    if (bytes[at] === close) return ends(bytes, at + 1);
    if (bytes[at] !== COMMA) return false;
    at = space(bytes, at + 1);
  }
}

/** Whether a text is JSON, at any depth. */
export function isJson(text: string): boolean {
  const bytes = bytesOf(text);
  const to = value(bytes, space(bytes, 0));
  return to >= 0 && ends(bytes, to);
}
