/**
 * Reads off a record's bytes what says where it goes, without making the record: that is what lets a stream
 * of a million records pass at the speed of its bytes. Strict where JSON is: what it accepts, JSON.parse
 * accepts too (bytes are taken to be UTF-8). What it is unsure of it leaves to JSON.parse.
 */

/** The fields of a record at its top level that say where it goes. */
export class Scanned {
  readonly kind: string;
  readonly host: string | undefined;
  /** Where the line ends: the place of its newline, or of the end of the bytes. */
  readonly end: number;
  readonly #buffer: Buffer;
  readonly #id: number;
  readonly #idLength: number;

  constructor(
    kind: string,
    host: string | undefined,
    end: number,
    buffer: Buffer,
    id: number,
    length: number,
  ) {
    this.kind = kind;
    this.host = host;
    this.end = end;
    this.#buffer = buffer;
    this.#id = id;
    this.#idLength = length;
  }

  get id(): string {
    return this.#buffer.toString("latin1", this.#id, this.#id + this.#idLength);
  }
}

/** Kinds and hosts are few: each is made a string once. Found by the hash of their bytes. */
const TEXTS = 4096;
const texts: (string | undefined)[] = new Array(TEXTS).fill(undefined);

function textOf(from: number, end: number): string {
  let hash = 0;
  for (let i = from; i < end; i++) hash = (hash * 31 + bytes[i]!) | 0;
  const slot = hash & (TEXTS - 1);
  const known = texts[slot];
  if (known?.length === end - from) {
    let i = 0;
    while (i < known.length && known.charCodeAt(i) === bytes[from + i]) i++;
    if (i === known.length) return known;
  }
  const text = bytes.toString("latin1", from, end);
  texts[slot] = text;
  return text;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OBJECT = 0x7b;
const OBJECT_END = 0x7d;
const ARRAY = 0x5b;
const ARRAY_END = 0x5d;
const COMMA = 0x2c;
const COLON = 0x3a;
const DEPTH_MAX = 64;

let bytes: Buffer;
let at = 0;
let to = 0;
/** A string that is not plain ASCII, or has escapes: its text is not its bytes. */
let plain = true;

/** Scans the line of bytes that begins at `from`; undefined where it is no record, or JSON.parse has to say. */
export function scanRecord(buffer: Buffer, from: number): Scanned | undefined {
  bytes = buffer;
  at = from;
  to = buffer.length;
  let kind: string | undefined;
  let id = -1;
  let idLength = 0;
  let host: string | undefined;
  space();
  if (bytes[at] !== OBJECT) return undefined;
  at++;
  space();
  for (let first = true; bytes[at] !== OBJECT_END; first = false) {
    if (!first && !sign(COMMA)) return undefined;
    const name = at + 1;
    plain = true;
    if (!string() || !plain) return undefined;
    const length = at - 1 - name;
    space();
    if (!sign(COLON)) return undefined;
    const field = length === 2 ? isId(name) : length === 4 ? isKindOrHost(name) : 0;
    const value = at;
    if (field === 0) {
      if (!skip(0)) return undefined;
    } else {
      plain = true;
      if (!string() || !plain) return undefined;
      // A field that stands twice is for JSON.parse to decide.
      if (field === 1) {
        if (id >= 0) return undefined;
        id = value + 1;
        idLength = at - 1 - id;
      } else if (field === 2) {
        if (kind !== undefined) return undefined;
        kind = textOf(value + 1, at - 1);
      } else {
        if (host !== undefined) return undefined;
        host = textOf(value + 1, at - 1);
      }
    }
    space();
    if (at >= to) return undefined;
  }
  at++;
  space();
  if ((at < to && bytes[at] !== 10) || !kind || idLength < 1) return undefined;
  return new Scanned(kind, host, at, buffer, id, idLength);
}

/** 1: id. */
const isId = (p: number) => (bytes[p] === 0x69 && bytes[p + 1] === 0x64 ? 1 : 0);
/** 2: kind, 3: host. */
function isKindOrHost(p: number): 0 | 2 | 3 {
  const a = bytes[p];
  if (a === 0x6b && bytes[p + 1] === 0x69 && bytes[p + 2] === 0x6e && bytes[p + 3] === 0x64) return 2;
  return a === 0x68 && bytes[p + 1] === 0x6f && bytes[p + 2] === 0x73 && bytes[p + 3] === 0x74 ? 3 : 0;
}

/** Over one character and the white space after it; false where it is not there. */
function sign(c: number): boolean {
  if (bytes[at] !== c) return false;
  at++;
  space();
  return true;
}

/** White space within a line. */
function space(): void {
  const b = bytes;
  let i = at;
  for (let c = b[i]; c === 0x20 || c === 9 || c === 13; c = b[i]) i++;
  at = i;
}

/** Over a string; false where there is none. Locals, here and below: they are what is compiled well. */
function string(): boolean {
  const b = bytes;
  const end = to;
  let i = at;
  if (b[i] !== QUOTE) return false;
  for (i++; i < end; i++) {
    const c = b[i]!;
    if (c === QUOTE) {
      at = i + 1;
      return true;
    }
    if (c < 0x20) return false;
    if (c === BACKSLASH) {
      plain = false;
      i = escaped(i + 1);
      if (i < 0) return false;
    } else if (c > 0x7f) plain = false;
  }
  return false;
}

/** What follows a backslash: the place of its last character, -1 where it is no escape. */
function escaped(i: number): number {
  switch (bytes[i]) {
    case 0x75:
      for (let k = 1; k <= 4; k++) if (!isHex(bytes[i + k])) return -1;
      return i + 4;
    // " \ / b f n r t
    case QUOTE:
    case BACKSLASH:
    case 0x2f:
    case 0x62:
    case 0x66:
    case 0x6e:
    case 0x72:
    case 0x74:
      return i;
    default:
      return -1;
  }
}

function isHex(c: number | undefined): boolean {
  return c !== undefined && ((c >= 0x30 && c <= 0x39) || ((c | 0x20) >= 0x61 && (c | 0x20) <= 0x66));
}

/** Over any value. */
function skip(depth: number): boolean {
  const c = bytes[at];
  if (c === QUOTE) return string();
  if (c === OBJECT) return nested(OBJECT_END, depth);
  if (c === ARRAY) return nested(ARRAY_END, depth);
  if (c === 0x74) return word("true");
  if (c === 0x66) return word("false");
  if (c === 0x6e) return word("null");
  return number();
}

/** Over an object or an array, up to its closing bracket. */
function nested(close: typeof OBJECT_END | typeof ARRAY_END, depth: number): boolean {
  if (depth === DEPTH_MAX) return false;
  at++;
  space();
  for (let first = true; bytes[at] !== close; first = false) {
    if (!first && !sign(COMMA)) return false;
    if (close === OBJECT_END && !key()) return false;
    if (!skip(depth + 1)) return false;
    space();
    if (at >= to) return false;
  }
  at++;
  return true;
}

/** Over a member's name and its colon. */
function key(): boolean {
  if (!string()) return false;
  space();
  return sign(COLON);
}

function word(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false;
  at += text.length;
  return true;
}

function digits(): boolean {
  const b = bytes;
  let i = at;
  for (let c = b[i]; c !== undefined && c >= 0x30 && c <= 0x39; c = b[i]) i++;
  const any = i > at;
  at = i;
  return any;
}

function number(): boolean {
  if (bytes[at] === 0x2d) at++;
  if (bytes[at] === 0x30) at++;
  else if (!digits()) return false;
  if (bytes[at] === 0x2e) {
    at++;
    if (!digits()) return false;
  }
  if (((bytes[at] ?? 0) | 0x20) === 0x65) {
    at++;
    if (bytes[at] === 0x2b || bytes[at] === 0x2d) at++;
    if (!digits()) return false;
  }
  return true;
}
