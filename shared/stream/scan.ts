/**
 * Reads kind, id and host off the bytes of a record without parsing it, so that records which a tool only passes on
 * cost one pass over their bytes. As strict as JSON.parse: what it accepts is JSON. Where it is unsure it says so, and
 * JSON.parse decides.
 */
import {
  afterColon,
  COMMA,
  depthOfValue,
  forgetUnplain,
  isPlainSince,
  NEWLINE,
  OBJECT,
  OBJECT_END,
  space,
  string,
  value,
} from "./json-bytes.ts";

/** Levels of arrays and objects in a record, counting the record itself. Fields nested deeper are passed on unread. */
export const DEPTH_MAX = 256;

/** The top-level fields that say where a record goes. One object is reused for all lines: a new one each would cost as much as the scan. */
export interface Scanned {
  kind: string;
  host: string | undefined;
  /** Offsets of its id's first byte and of the one after its last; the id is ASCII. */
  idFrom: number;
  idTo: number;
}

/** Strings of kinds and hosts, by the hash of their bytes: there are few, so each string is made once. */
const TEXTS = 4096;
const texts: string[] = new Array(TEXTS).fill("");

function textOf(bytes: Buffer, from: number, end: number): string {
  let hash = 0;
  for (let i = from; i < end; i++) hash = (hash * 31 + bytes[i]!) | 0;
  const known = texts[hash & (TEXTS - 1)]!;
  if (known.length === end - from) {
    let i = 0;
    while (i < known.length && known.charCodeAt(i) === bytes[from + i]) i++;
    if (i === known.length) return known;
  }
  const text = bytes.toString("latin1", from, end);
  texts[hash & (TEXTS - 1)] = text;
  return text;
}

/** Offsets in the current record: at KIND, ID and HOST where the field's text begins (0: absent), at + END where it ends. */
const places = new Int32Array(8);
const KIND = 1;
const ID = 2;
const HOST = 3;
const END = 4;

/** Which of these fields a name is; 0: none. */
function fieldOf(bytes: Buffer, at: number, length: number): 0 | typeof KIND | typeof ID | typeof HOST {
  const c = bytes[at];
  if (length === 2) return c === 0x69 && bytes[at + 1] === 0x64 ? ID : 0;
  if (length !== 4) return 0;
  if (c === 0x6b)
    return bytes[at + 1] === 0x69 && bytes[at + 2] === 0x6e && bytes[at + 3] === 0x64 ? KIND : 0;
  return c === 0x68 && bytes[at + 1] === 0x6f && bytes[at + 2] === 0x73 && bytes[at + 3] === 0x74 ? HOST : 0;
}

/**
 * Scans the line that begins at `from`.
 * @param bytes UTF-8, ends with a newline
 * @param into filled if the line is a record
 * @returns the offset of the line's newline; -1 if it is no record or only JSON.parse can tell
 */
export function scanRecord(bytes: Buffer, from: number, into: Scanned): number {
  const object = space(bytes, from);
  if (bytes[object] !== OBJECT) return -1;
  forgetUnplain();
  places[KIND] = places[KIND + END] = places[ID] = places[ID + END] = places[HOST] = 0;
  const end = members(bytes, object + 1);
  const kind = places[KIND]!;
  const id = places[ID]!;
  const host = places[HOST]!;
  const kindEnd = places[KIND + END]!;
  const idEnd = places[ID + END]!;
  if (end < 0 || kind === kindEnd || id === idEnd || bytes[end] !== NEWLINE) return -1;
  into.kind = textOf(bytes, kind, kindEnd);
  into.host = host === 0 ? undefined : textOf(bytes, host, places[HOST + END]!);
  into.idFrom = id;
  into.idTo = idEnd;
  return end;
}

/** Walks over the members of the record to the end of the line, and fills `places`. */
function members(bytes: Buffer, from: number): number {
  let i = space(bytes, from);
  if (bytes[i] === OBJECT_END) return -1;
  for (;;) {
    const name = i + 1;
    i = string(bytes, i);
    // With escapes it may spell one of our names.
    if (i < 0 || !isPlainSince(name)) return -1;
    const field = fieldOf(bytes, name, i - 1 - name);
    i = afterColon(bytes, i);
    if (i < 0) return -1;
    const begin = i + 1;
    if (field === 0) {
      i = value(bytes, i);
      if (i < 0 || depthOfValue() >= DEPTH_MAX) return -1;
    } else {
      // A field given twice, or whose bytes are not its text, is left to JSON.parse.
      i = string(bytes, i);
      if (i < 0 || places[field] !== 0 || !isPlainSince(begin)) return -1;
      places[field] = begin;
      places[field + END] = i - 1;
    }
    i = space(bytes, i);
    const c = bytes[i];
    if (c === OBJECT_END) return space(bytes, i + 1);
    if (c !== COMMA) return -1;
    i = space(bytes, i + 1);
  }
}
