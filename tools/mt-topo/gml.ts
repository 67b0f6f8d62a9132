/**
 * GML as text → nested lists of keys and values. Keys may repeat, lists nest to any depth, `#` begins a
 * comment, strings span lines and carry HTML entities. One pass, no recursion: linear in the file.
 */
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../shared/errors.ts";
import { decodeEntities } from "./entities.ts";

export type GmlValue = number | string | GmlList;
/** A list of pairs; `line` is where it began, for messages. */
export interface GmlList {
  line: number;
  pairs: [key: string, value: GmlValue][];
}

/** Bytes as text: UTF-8 where they are, else Latin-1, which GML's standard names. */
export function decodeText(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return Buffer.from(bytes).toString("latin1");
  }
}

// One token at a place; the sticky flag makes every match begin where the last one ended.
const TOKEN =
  /(?<space>[\s\uFEFF]+)|(?<comment>#[^\n]*)|(?<mark>[[\]])|"(?<text>[^"]*)"|(?<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![^\s[\]#"])|(?<infinite>[+-]?INF|NAN)(?![^\s[\]#"])|(?<key>[A-Za-z_][\w.:-]*)/y;

export function parseGml(text: string): Result<GmlList, MtError> {
  const root: GmlList = { line: 1, pairs: [] };
  const stack: GmlList[] = [];
  const token = new RegExp(TOKEN.source, TOKEN.flags);
  let list = root;
  let key: string | undefined;
  let line = 1;
  const bad = (why: string) => fail<GmlList>("data", `Cannot read GML line ${line}: ${why}`);
  const give = (value: GmlValue) => {
    list.pairs.push([key!, value]);
    key = undefined;
  };
  while (token.lastIndex < text.length) {
    const at = token.lastIndex;
    const found = token.exec(text);
    if (!found) {
      if (text[at] === '"') return bad('a string begins here and never ends: " is missing');
      return bad(
        `${JSON.stringify(text.slice(at, at + 20).split(/\s/)[0])} is no key, number, string or list`,
      );
    }
    const { space, mark, text: string, number, infinite, key: word } = found.groups!;
    if (mark === "[") {
      if (key === undefined) return bad("[ without a key before it");
      const inner: GmlList = { line, pairs: [] };
      give(inner);
      stack.push(list);
      list = inner;
    } else if (mark === "]") {
      if (key !== undefined) return bad(`${key} has no value`);
      const outer = stack.pop();
      if (!outer) return bad("] without a [ before it");
      list = outer;
    } else if (string !== undefined || number !== undefined || infinite !== undefined) {
      if (key === undefined) return bad(`${JSON.stringify(found[0].slice(0, 40))} without a key before it`);
      give(
        string !== undefined ? decodeEntities(string) : number !== undefined ? Number(number) : Number.NaN,
      );
    } else if (word !== undefined) {
      if (key !== undefined)
        return bad(`${key} has no value: ${word.slice(0, 40)} is no number, string or list`);
      key = word;
    }
    if (space !== undefined || string !== undefined) line += newlines(found[0]);
  }
  if (key !== undefined) return bad(`${key} has no value: the file ends here`);
  if (stack.length > 0)
    return bad(`the file ends inside a list that began at line ${list.line}: ] is missing`);
  return ok(root);
}

function newlines(text: string): number {
  let n = 0;
  for (let i = text.indexOf("\n"); i >= 0; i = text.indexOf("\n", i + 1)) n++;
  return n;
}

/** The first value of a key, whatever its case: files differ in `Latitude` and `latitude`. */
export function firstOf(list: GmlList, ...keys: string[]): GmlValue | undefined {
  for (const key of keys) {
    const wanted = key.toLowerCase();
    const pair = list.pairs.find(([k]) => k.toLowerCase() === wanted);
    if (pair) return pair[1];
  }
  return undefined;
}

/** All lists of a key. */
export function listsOf(list: GmlList, key: string): GmlList[] {
  return list.pairs.flatMap(([k, v]) => (k.toLowerCase() === key && typeof v === "object" ? [v] : []));
}
