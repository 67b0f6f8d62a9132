/**
 * GML as text → nested lists of keys and values. Keys may repeat, lists nest to any depth, `#` begins a
 * comment, strings span lines and carry HTML entities. One pass, no recursion: linear in the file.
 */
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../../shared/errors.ts";
import { decodeEntities } from "./entities.ts";

/** A whole number that a double cannot hold is a bigint, so that ids stay what they are. */
export type GmlScalar = number | bigint | string;
export type GmlValue = GmlScalar | GmlList;
/** A list of pairs; `line` is where it began, `lines` where each key stands, for messages. */
export interface GmlList {
  line: number;
  pairs: [key: string, value: GmlValue][];
  lines: number[];
}

// One token at a place; the sticky flag makes every match begin where the last one ended. `infinite` has the
// spellings of C libraries and of Windows; `bare` is text that lacks its quotes: 48,85 or 5ms.
const TOKEN =
  /(?<space>[\s\uFEFF]+)|(?<comment>#[^\r\n]*)|(?<mark>[[\]])|(?<infinite>[+-]?(?:[iI][nN][fF](?:[iI][nN][iI][tT][yY])?|[nN][aA][nN](?:\([A-Za-z0-9]*\))?|1\.#[A-Z]+\d*))(?![^\s[\]#"])|(?<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![^\s[\]#"])|(?<bare>[+-]?[.,]?\d[^\s[\]#"]*)|(?<key>[A-Za-z_\u00A1-\u1FFF\u2C00-\uFEFE][\w.:\u00A1-\u1FFF\u2C00-\uFEFE-]*)/y;

/** Keys whose value has to be exact: text without quotes is no id. */
const EXACT: ReadonlySet<string> = new Set(["id", "source", "target"]);

/**
 * A quote inside a string is `&quot;` in GML, but some programs write `\"`, while a string of others ends in a
 * backslash. So `\"` is a quote only in a file that cannot be read otherwise.
 */
export function parseGml(text: string): Result<GmlList, MtError> {
  const plain = parse(text, false);
  if (!plain.bad || !text.includes('\\"')) return resultOf(plain);
  const escaped = parse(text, true);
  return resultOf(escaped.bad && escaped.bad.at < plain.bad.at ? plain : escaped);
}

interface Parsed {
  root: GmlList;
  bad?: { at: number; line: number; why: string };
}

function resultOf({ root, bad }: Parsed): Result<GmlList, MtError> {
  return bad ? fail("data", `Cannot read GML line ${bad.line}: ${bad.why}`) : ok(root);
}

function parse(text: string, escapes: boolean): Parsed {
  const root: GmlList = { line: 1, pairs: [], lines: [] };
  const stack: GmlList[] = [];
  const token = new RegExp(TOKEN.source, TOKEN.flags);
  let list = root;
  let key: string | undefined;
  let keyLine = 1;
  let line = 1;
  let at = 0;
  const bad = (why: string): Parsed => ({ root, bad: { at, line, why } });
  const give = (value: GmlValue) => {
    list.pairs.push([key!, value]);
    list.lines.push(keyLine);
    key = undefined;
  };
  const noKey = (shown: string) => bad(`${JSON.stringify(shown.slice(0, 40))} without a key before it`);
  for (; at < text.length; at = token.lastIndex) {
    if (text[at] === '"') {
      const end = endOfString(text, at + 1, escapes);
      if (end < 0) return bad('a string begins here and never ends: " is missing');
      if (key === undefined) return noKey(text.slice(at, end + 1));
      const inside = text.slice(at + 1, end);
      give(decodeEntities(escapes ? inside.replace(/\\(["\\])/g, "$1") : inside));
      line += newlines(inside);
      token.lastIndex = end + 1;
      continue;
    }
    token.lastIndex = at;
    const found = token.exec(text);
    if (!found)
      return bad(
        `${JSON.stringify(text.slice(at, at + 20).split(/\s/)[0])} is no key, number, string or list`,
      );
    const { space, comment, mark, infinite, number, bare, key: word } = found.groups!;
    if (space !== undefined) line += newlines(space);
    else if (comment !== undefined) continue;
    else if (mark === "[") {
      if (key === undefined) return bad("[ without a key before it");
      const inner: GmlList = { line, pairs: [], lines: [] };
      give(inner);
      stack.push(list);
      list = inner;
    } else if (mark === "]") {
      if (key !== undefined) return bad(`${key} has no value`);
      const outer = stack.pop();
      if (!outer) return bad("] without a [ before it");
      list = outer;
    } else if (number !== undefined) {
      if (key === undefined) return noKey(number);
      give(exactly(number));
    } else if (infinite !== undefined && (key !== undefined || !/^[A-Za-z]/.test(infinite))) {
      if (key === undefined) return noKey(infinite);
      if (EXACT.has(key.toLowerCase())) return bad(`${key} has no value: ${infinite} is no id`);
      give(/inf/i.test(infinite) ? (infinite.startsWith("-") ? -Infinity : Infinity) : Number.NaN);
    } else if (bare !== undefined) {
      if (key === undefined) return noKey(bare);
      if (EXACT.has(key.toLowerCase()))
        return bad(`${key} has no value: ${bare.slice(0, 40)} is no number, string or list`);
      give(bare);
    } else if (key !== undefined && /^(?:true|false)$/i.test(word ?? "")) {
      give(/^t/i.test(word!) ? 1 : 0);
    } else {
      if (key !== undefined)
        return bad(`${key} has no value: ${word!.slice(0, 40)} is no number, string or list`);
      key = word ?? infinite;
      keyLine = line;
    }
  }
  if (key !== undefined) return bad(`${key} has no value: the file ends here`);
  if (stack.length > 0)
    return bad(`the file ends inside a list that began at line ${list.line}: ] is missing`);
  return { root };
}

function endOfString(text: string, from: number, escapes: boolean): number {
  for (let end = text.indexOf('"', from); end >= 0; end = text.indexOf('"', end + 1)) {
    let slashes = 0;
    while (escapes && end - slashes > from && text[end - slashes - 1] === "\\") slashes++;
    if (slashes % 2 === 0) return end;
  }
  return -1;
}

function exactly(number: string): number | bigint {
  const n = Number(number);
  const whole = Number.isSafeInteger(n) ? undefined : /^[+-]?\d+(?=\.?0*$)/.exec(number)?.[0];
  return whole === undefined ? n : BigInt(whole.replace(/^\+/, ""));
}

/** Lines end in LF, CR LF, or CR alone. */
function newlines(text: string): number {
  let n = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 10 || (c === 13 && text.charCodeAt(i + 1) !== 10)) n++;
  }
  return n;
}

/** A value with the line of its key. */
export interface Found {
  key: string;
  value: GmlValue;
  line: number;
}

/** All values of a key: as it is written, else whatever its case, since files differ in `Latitude` and `latitude`. */
export function valuesOf(list: GmlList, key: string): Found[] {
  const wanted = key.toLowerCase();
  const found = list.pairs.flatMap(([k, value], i) =>
    k.toLowerCase() === wanted ? [{ key: k, value, line: list.lines[i]! }] : [],
  );
  const exact = found.filter((f) => f.key === key);
  return exact.length > 0 ? exact : found;
}

/** The first value of the first of these keys that is there. */
export function firstOf(list: GmlList, ...keys: string[]): GmlValue | undefined {
  for (const key of keys) {
    const [found] = valuesOf(list, key);
    if (found) return found.value;
  }
  return undefined;
}

/** All lists of a key. */
export function listsOf(list: GmlList, key: string): GmlList[] {
  return list.pairs.flatMap(([k, v]) => (k.toLowerCase() === key && typeof v === "object" ? [v] : []));
}
