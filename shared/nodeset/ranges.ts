/**
 * Ranges of names, as in record ids: `g[0-226]`, `kn[01-16,20]`, and sets of them: `g[1-4],gw`. The host sets that people
 * write, with operators and groups, are in nodeset.ts.
 * A range is kept as spans of numbers, so that a range of a million costs as much as one of two; it is expanded only
 * where the members are needed.
 */
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError } from "../errors.ts";

/** Numbers `lo`…`hi`, written with at least `width` digits (0: no padding). */
export interface Span {
  lo: number;
  hi: number;
  width: number;
}

/** One name, or a range: `prefix[spans]suffix`. `spans` is empty for a plain name. */
export interface Range {
  prefix: string;
  suffix: string;
  spans: Span[];
}

/** An id. It begins with a letter, a digit or `_`, so it cannot be taken for an option or `..`. */
export const NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]*$/;
const PIECE = /^[A-Za-z0-9._-]*$/;
export const NAME_LENGTH_MAX = 40;
/** The longest name of a host: hosts have the names that their cloud gave them; directories are named after them. */
export const HOST_LENGTH_MAX = 255;
/** The most members of one range: more are taken for a mistake. */
export const RANGE_COUNT_MAX = 10_000_000;

const quote = (text: string) => JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text);

export function parseRange(text: string): Result<Range, MtError> {
  const bad = (why: string, hint = "letters, digits, . _ - and one [a-b,c] at most, 40 characters a name") =>
    fail<Range>("data", `Cannot read id ${quote(text)}: ${why}`, hint);
  const open = text.indexOf("[");
  if (open < 0) {
    if (text.length > NAME_LENGTH_MAX) return bad(`${text.length} characters`);
    if (!NAME.test(text)) return bad(text === "" ? "it is empty" : "a character that no id has");
    return ok({ prefix: text, suffix: "", spans: [] });
  }
  const close = text.indexOf("]", open);
  if (close < 0) return bad("[ without ]");
  const prefix = text.slice(0, open);
  const suffix = text.slice(close + 1);
  if (!PIECE.test(prefix) || !PIECE.test(suffix) || (prefix !== "" && !NAME.test(prefix)))
    return bad("a character that no id has");
  const spans: Span[] = [];
  let count = 0;
  for (const part of text.slice(open + 1, close).split(",")) {
    const m = /^(\d{1,15})(?:-(\d{1,15}))?$/.exec(part);
    if (!m) return bad(`${quote(part)} is no number and no range`);
    const lo = Number(m[1]);
    const hi = Number(m[2] ?? m[1]);
    if (hi < lo) return bad(`${part} counts down`);
    const width = paddedTo(m[1]!);
    spans.push({ lo, hi, width });
    count += hi - lo + 1;
    if (prefix.length + suffix.length + Math.max(width, String(hi).length) > NAME_LENGTH_MAX)
      return bad("its members have more than 40 characters");
  }
  if (count > RANGE_COUNT_MAX)
    return bad(
      `${count} members, more than ${RANGE_COUNT_MAX}`,
      "several records with a part of the range each",
    );
  const sorted = [...spans].sort((a, b) => a.lo - b.lo);
  for (const [i, s] of sorted.entries())
    if (i > 0 && s.lo <= sorted[i - 1]!.hi) return bad(`${s.lo} stands in it twice`);
  return ok({ prefix, suffix, spans });
}

/** The number of digits that a number is padded to: 3 for `007`, 0 for `7`. */
export const paddedTo = (number: string) => (number.length > 1 && number.startsWith("0") ? number.length : 0);
const digits = (n: number, width: number) => (width > 0 ? String(n).padStart(width, "0") : String(n));

export function rangeCount(range: Range): number {
  if (range.spans.length === 0) return 1;
  return range.spans.reduce((sum, s) => sum + s.hi - s.lo + 1, 0);
}

/** Member k, from 0. */
export function memberAt(range: Range, k: number): string {
  if (range.spans.length === 0) return range.prefix;
  let left = k;
  for (const s of range.spans) {
    const n = s.hi - s.lo + 1;
    if (left < n) return range.prefix + digits(s.lo + left, s.width) + range.suffix;
    left -= n;
  }
  throw new RangeError(`member ${k} of ${formatRange(range)}`);
}

export function* members(range: Range): Generator<string> {
  if (range.spans.length === 0) yield range.prefix;
  for (const s of range.spans)
    for (let n = s.lo; n <= s.hi; n++) yield range.prefix + digits(n, s.width) + range.suffix;
}

/** Members `from` … `from + count - 1`, as a range of their own. */
export function sliceRange(range: Range, from: number, count: number): Range {
  if (range.spans.length === 0) return range;
  const spans: Span[] = [];
  let skip = from;
  let need = count;
  for (const s of range.spans) {
    const n = s.hi - s.lo + 1;
    if (skip >= n) {
      skip -= n;
      continue;
    }
    const take = Math.min(n - skip, need);
    if (take > 0) spans.push({ lo: s.lo + skip, hi: s.lo + skip + take - 1, width: s.width });
    need -= take;
    skip = 0;
    if (need <= 0) break;
  }
  return { prefix: range.prefix, suffix: range.suffix, spans };
}

export function formatRange(range: Range): string {
  if (range.spans.length === 0) return range.prefix;
  const only = range.spans.length === 1 ? range.spans[0]! : undefined;
  if (only && only.lo === only.hi) return range.prefix + digits(only.lo, only.width) + range.suffix;
  const parts = range.spans.map((s) =>
    s.lo === s.hi ? digits(s.lo, s.width) : `${digits(s.lo, s.width)}-${digits(s.hi, s.width)}`,
  );
  return `${range.prefix}[${parts.join(",")}]${range.suffix}`;
}

/** What the ranges of a family have in common: members of different families are never equal or neighbours. */
export interface Family {
  prefix: string;
  suffix: string;
  width: number;
}

/** A name split at its last number: `kn7` belongs to the family of `kn[1-4]`. */
export function splitName(name: string): { family: Family; n: number } | undefined {
  const m = /^(.*?)(\d{1,15})(\D*)$/.exec(name);
  if (!m) return undefined;
  const number = m[2]!;
  return { family: { prefix: m[1]!, suffix: m[3]!, width: paddedTo(number) }, n: Number(number) };
}

/** Names as ranges: `kn1 kn2 kn4 gw` → `kn[1-2,4]`, `gw`, in the order in which the families first appear. */
export function fold(names: Iterable<string>): string[] {
  const families = new Map<string, { family: Family; numbers: number[] } | null>();
  for (const name of names) {
    const split = splitName(name);
    if (!split) {
      families.set(name, null);
      continue;
    }
    const key = `${split.family.prefix}\0${split.family.suffix}\0${split.family.width}`;
    const known = families.get(key);
    if (known) known.numbers.push(split.n);
    else families.set(key, { family: split.family, numbers: [split.n] });
  }
  const out: string[] = [];
  for (const [key, entry] of families) {
    if (!entry) {
      out.push(key);
      continue;
    }
    const { prefix, suffix, width } = entry.family;
    const spans: Span[] = [];
    for (const n of entry.numbers.sort((a, b) => a - b)) {
      const last = spans[spans.length - 1];
      if (last && n <= last.hi + 1) last.hi = Math.max(last.hi, n);
      else spans.push({ lo: n, hi: n, width });
    }
    out.push(formatRange({ prefix, suffix, spans }));
  }
  return out;
}

/** Splits `a[1,2],b` at the commas outside brackets. */
function splitSet(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === "[") depth++;
    else if (c === "]") depth--;
    else if (c === "," && depth === 0) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

/** Parses a set of ids: names and ranges separated by commas. */
export function parseSet(text: string): Result<Range[], MtError> {
  const ranges: Range[] = [];
  let count = 0;
  for (const part of splitSet(text)) {
    const range = parseRange(part.trim());
    if (range.isErr()) return err(range.error);
    ranges.push(range.value);
    count += rangeCount(range.value);
    if (count > RANGE_COUNT_MAX)
      return fail("data", `Cannot read set ${quote(text)}: more than ${RANGE_COUNT_MAX} members`);
  }
  return ok(ranges);
}

/** The members of a set of ids, each once, in order. */
export function expandSet(text: string): Result<string[], MtError> {
  return parseSet(text).map((ranges) => {
    const names = new Set<string>();
    for (const range of ranges) for (const name of members(range)) names.add(name);
    return [...names];
  });
}

/** Whether a name is in one of the ranges, without expanding them. */
export function setHas(ranges: readonly Range[], name: string): boolean {
  return ranges.some((range) => positionIn(range, name) >= 0);
}

/** The position of a name among the members of a range, from 0; -1 if it is none. */
export function positionIn(range: Range, name: string): number {
  if (range.spans.length === 0) return range.prefix === name ? 0 : -1;
  if (!name.startsWith(range.prefix) || !name.endsWith(range.suffix)) return -1;
  const number = name.slice(range.prefix.length, name.length - range.suffix.length);
  if (!/^\d+$/.test(number)) return -1;
  let before = 0;
  for (const s of range.spans) {
    const n = Number(number);
    if (n >= s.lo && n <= s.hi && digits(n, s.width) === number) return before + n - s.lo;
    before += s.hi - s.lo + 1;
  }
  return -1;
}
