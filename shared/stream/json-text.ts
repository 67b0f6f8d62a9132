/**
 * JSON as text: where the members of an object and the items of an array stand in it, and how deep it is nested.
 * Without recursion, so that no depth is too much; strict where JSON is: what it accepts, JSON.parse accepts too.
 */

/** A value in a text, from its first character to the one after its last. */
export interface Item {
  from: number;
  to: number;
}

/** A member of an object: `from` … `to` is all of it, its value begins at `value`. */
export interface Member extends Item {
  name: string;
  value: number;
  /** How deep arrays and objects are nested in its value; 0: it is neither. */
  depth: number;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OBJECT = 0x7b;
const OBJECT_END = 0x7d;
const ARRAY = 0x5b;
const ARRAY_END = 0x5d;
const COMMA = 0x2c;
const COLON = 0x3a;

/** Whether arrays and objects are nested deeper than `max`. Of text that is no JSON it may say either. */
export function isDeeper(text: string, max: number): boolean {
  // Every level has two brackets.
  if (text.length <= 2 * max) return false;
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === QUOTE) {
      for (i++; i < text.length; i++) {
        const inside = text.charCodeAt(i);
        if (inside === QUOTE) break;
        if (inside === BACKSLASH) i++;
      }
    } else if (c === OBJECT || c === ARRAY) {
      if (++depth > max) return true;
    } else if (c === OBJECT_END || c === ARRAY_END) depth--;
  }
  return false;
}

/** The members of the object that a text is, in order; undefined where it is no JSON object. */
export function membersOf(text: string): Member[] | undefined {
  const members: Member[] = [];
  let at = space(text, 0);
  if (text.charCodeAt(at) !== OBJECT) return undefined;
  at = space(text, at + 1);
  if (text.charCodeAt(at) === OBJECT_END) return ends(text, at + 1) ? members : undefined;
  for (;;) {
    const from = at;
    const named = string(text, from);
    if (named < 0) return undefined;
    const value = afterColon(text, named);
    if (value < 0) return undefined;
    const found = skip(text, value);
    if (found === undefined) return undefined;
    const name: string = JSON.parse(text.slice(from, named));
    members.push({ name, from, value, to: found.to, depth: found.depth });
    at = space(text, found.to);
    const c = text.charCodeAt(at);
    if (c === OBJECT_END) return ends(text, at + 1) ? members : undefined;
    if (c !== COMMA) return undefined;
    at = space(text, at + 1);
  }
}

/** The items of the array that a text is, in order; undefined where it is no JSON array. */
export function itemsOf(text: string): Item[] | undefined {
  const items: Item[] = [];
  let at = space(text, 0);
  if (text.charCodeAt(at) !== ARRAY) return undefined;
  at = space(text, at + 1);
  if (text.charCodeAt(at) === ARRAY_END) return ends(text, at + 1) ? items : undefined;
  for (;;) {
    const found = skip(text, at);
    if (found === undefined) return undefined;
    items.push({ from: at, to: found.to });
    at = space(text, found.to);
    const c = text.charCodeAt(at);
    if (c === ARRAY_END) return ends(text, at + 1) ? items : undefined;
    if (c !== COMMA) return undefined;
    at = space(text, at + 1);
  }
}

/** Whether a text is JSON, however deep. */
export function isJson(text: string): boolean {
  const found = skip(text, space(text, 0));
  return found !== undefined && ends(text, found.to);
}

const ends = (text: string, at: number) => space(text, at) === text.length;

function space(text: string, at: number): number {
  let i = at;
  for (let c = text.charCodeAt(i); c === 0x20 || c === 9 || c === 13 || c === 10; c = text.charCodeAt(i)) i++;
  return i;
}

/** The brackets that are open; one walk is done before another begins. */
let open = new Uint8Array(256);

/** Over any value that begins here; undefined where there is none. */
function skip(text: string, from: number): { to: number; depth: number } | undefined {
  let i = from;
  let depth = 0;
  let deepest = 0;
  for (;;) {
    const c = text.charCodeAt(i);
    if (c === OBJECT || c === ARRAY) {
      if (depth === open.length) {
        const more = new Uint8Array(2 * depth);
        more.set(open);
        open = more;
      }
      open[depth++] = c;
      if (depth > deepest) deepest = depth;
      i = space(text, i + 1);
      if (text.charCodeAt(i) !== closing(c)) {
        if (c === OBJECT) i = key(text, i);
        if (i < 0) return undefined;
        continue;
      }
    } else {
      i = scalar(text, i);
      if (i < 0) return undefined;
    }
    // Behind a value: what was open may close, any number of times.
    for (;;) {
      if (depth === 0) return { to: i, depth: deepest };
      i = space(text, i);
      const inside = open[depth - 1]!;
      const next = text.charCodeAt(i);
      if (next === closing(inside)) {
        depth--;
        i++;
        continue;
      }
      if (next !== COMMA) return undefined;
      i = space(text, i + 1);
      if (inside === OBJECT) i = key(text, i);
      if (i < 0) return undefined;
      break;
    }
  }
}

const closing = (c: number) => (c === OBJECT ? OBJECT_END : ARRAY_END);

/** Over a member's name and its colon, to its value; -1 where they are not there. */
function key(text: string, at: number): number {
  const named = string(text, at);
  return named < 0 ? -1 : afterColon(text, named);
}

function afterColon(text: string, at: number): number {
  const colon = space(text, at);
  return text.charCodeAt(colon) === COLON ? space(text, colon + 1) : -1;
}

/** Over a string; -1 where there is none. */
function string(text: string, at: number): number {
  if (text.charCodeAt(at) !== QUOTE) return -1;
  for (let i = at + 1; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === QUOTE) return i + 1;
    if (c < 0x20) return -1;
    if (c !== BACKSLASH) continue;
    i++;
    const escaped = text[i];
    if (escaped === "u") {
      if (!/^[0-9a-fA-F]{4}$/.test(text.slice(i + 1, i + 5))) return -1;
      i += 4;
    } else if (escaped === undefined || !'"\\/bfnrt'.includes(escaped)) return -1;
  }
  return -1;
}

const NUMBER_OR_WORD = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;

/** Over a string, a number or a word; -1 where there is none. */
function scalar(text: string, at: number): number {
  if (text.charCodeAt(at) === QUOTE) return string(text, at);
  NUMBER_OR_WORD.lastIndex = at;
  return NUMBER_OR_WORD.test(text) ? NUMBER_OR_WORD.lastIndex : -1;
}
