/**
 * Node sets as cluster people write them, in ClusterShell's syntax: `rack[1-4]n[01-32]`, `kn[0-10/2]`,
 * `@gpu`, joined by `,` or blanks (union), `!` (difference), `&` (intersection), `^` (symmetric difference), from
 * left to right without precedence. `*` and `?` in a name match hosts of `@all`. fold.ts is the inverse. Record ids are
 * simpler and in ranges.ts: one bracket, no operators.
 */
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError, mtError } from "../errors.ts";
import { HOST_LENGTH_MAX, NAME, paddedTo } from "./ranges.ts";

/** The most names in one set: more are taken for a mistake. Counted before any name is made. */
export const NODES_MAX = 10_000_000;

type Op = "," | "!" | "&" | "^";
/** Numbers `lo`, `lo + step`, … `hi`, with at least `width` digits (0: no padding). */
interface Span {
  lo: number;
  hi: number;
  step: number;
  width: number;
}
/** A name with brackets: texts and numbers in turn. */
type Pattern = (string | Span[])[];
interface Term {
  op: Op;
  /** One name, a pattern, or the members of groups. */
  what: string | Pattern | ReadonlySet<string>[];
}

/** The members of the group with this name (without its @). */
export type GroupOf = (name: string) => Result<ReadonlySet<string>, MtError>;
export interface NodesOptions {
  group?: GroupOf;
  /** Where the text comes from, if not from a command line; it is added to the message of an error. */
  where?: string;
}

/** What is wrong with a node set, and at which character of the text, from 0. */
interface Bad {
  why: string;
  at: number;
  hint?: string;
}

const HINT = "as kn[1-4,7], kn[0-10/2], rack[1-4]n[01-32], @group, kn*; a,b  a!b  a&b  a^b";
const noGroups: GroupOf = (name) => fail("usage", `Cannot use group @${name}: there are no groups here`);

/**
 * The names of a set, each once, in the order in which they are written; it may be empty.
 * Errors: `usage` (`data` if `where` is given), with the offending character; those of `group`.
 */
export function expandNodes(text: string, options: NodesOptions = {}): Result<Set<string>, MtError> {
  const refuse = ({ why, at, hint = HINT }: Bad) => {
    const place = text.length > 60 || at > 0 ? ` at character ${at + 1}` : "";
    const { where } = options;
    return fail<Set<string>>(
      where === undefined ? "usage" : "data",
      `Cannot read node set ${excerpt(text, at)}: ${why}${place}${where === undefined ? "" : `, ${where}`}`,
      hint,
    );
  };
  const terms: Term[] = [];
  let count = 0;
  let op: Op | undefined;
  let i = 0;
  for (;;) {
    const before = i;
    while (isBlank(text.charCodeAt(i))) i++;
    const c = text[i];
    if (c === undefined) break;
    if (isOp(c)) {
      if (terms.length === 0) return refuse({ why: `nothing stands before ${c}`, at: i });
      if (op !== undefined) return refuse({ why: `nothing stands between ${op} and ${c}`, at: i });
      op = c;
      i++;
      continue;
    }
    if (terms.length > 0 && op === undefined && i > before) op = ",";
    const end = endOfTerm(text, i);
    if (typeof end !== "number") return refuse(end);
    const word = text.slice(i, end);
    const term = word.startsWith("@")
      ? groupsIn(word, options.group ?? noGroups)
      : /[*?]/.test(word)
        ? matchesOf(word, options.group ?? noGroups)
        : patternIn(word);
    if ("error" in term) return term.error;
    if ("why" in term) return refuse({ ...term, at: i + term.at });
    count += term.count;
    if (count > NODES_MAX)
      return refuse({
        why: `${Number.isSafeInteger(count) ? `${count} names, ` : ""}more than ${NODES_MAX}`,
        at: i,
        hint: "a smaller set",
      });
    terms.push({ op: op ?? ",", what: term.what });
    op = undefined;
    i = end;
  }
  if (op !== undefined) return refuse({ why: `nothing stands after ${op}`, at: text.length - 1 });
  const names = new Set<string>();
  for (const term of terms) apply(names, term);
  return ok(names);
}

/** The text around a character, as one line of 60 characters at most. */
function excerpt(text: string, at: number): string {
  if (text.length <= 60) return JSON.stringify(text);
  const from = Math.max(0, Math.min(at - 20, text.length - 54));
  const to = Math.min(text.length, from + 54);
  return JSON.stringify(`${from > 0 ? "..." : ""}${text.slice(from, to)}${to < text.length ? "..." : ""}`);
}

/** A newline is not a blank: nobody types one in a set, so it is more likely an injected text. */
const isBlank = (c: number) => c === 32 || c === 9;
const isOp = (c: string): c is Op => c === "," || c === "!" || c === "&" || c === "^";

/** Where the term that begins at `from` ends: at an operator or a blank outside brackets. */
function endOfTerm(text: string, from: number): number | Bad {
  let open = -1;
  for (let i = from; i < text.length; i++) {
    const c = text[i]!;
    if (c === "[") {
      if (open >= 0) return { why: "[ inside [ ]", at: i };
      open = i;
    } else if (c === "]") {
      if (open < 0) return { why: "] without [", at: i };
      open = -1;
    } else if (open < 0 && (isOp(c) || isBlank(text.charCodeAt(i)))) return i;
  }
  return open < 0 ? text.length : { why: "[ without ]", at: open };
}

/** @param wild whether `*` and `?` are allowed in the name */
function patternIn(word: string, wild = false): { what: string | Pattern; count: number } | Bad {
  if (word.length <= HOST_LENGTH_MAX && NAME.test(word)) return { what: word, count: 1 };
  const pattern: Pattern = [];
  let count = 1;
  let longest = 0;
  for (let at = 0; at < word.length; ) {
    const open = word.indexOf("[", at);
    const piece = word.slice(at, open < 0 ? word.length : open);
    const checked = wild ? piece.replaceAll(/[*?]/g, "x") : piece;
    const bad = checked.search(at === 0 ? /^[^A-Za-z0-9_]|[^A-Za-z0-9._-]/ : /[^A-Za-z0-9._-]/);
    if (bad >= 0) return badCharacter(word, at + bad);
    if (piece !== "") pattern.push(piece);
    longest += piece.length;
    if (open < 0) break;
    const close = word.indexOf("]", open);
    const spans = spansIn(word, open + 1, close);
    if ("why" in spans) return spans;
    pattern.push(spans.spans);
    count *= spans.count;
    longest += spans.digits;
    at = close + 1;
  }
  if (longest > HOST_LENGTH_MAX)
    return {
      why: `its longest name has ${longest} characters, more than ${HOST_LENGTH_MAX}`,
      at: 0,
      hint: "the host's short name",
    };
  return { what: pattern, count };
}

function badCharacter(word: string, at: number): Bad {
  const c = String.fromCodePoint(word.codePointAt(at)!);
  if (at === 0 && (c === "-" || c === ".")) return { why: `a name does not begin with ${c}`, at };
  return { why: `${JSON.stringify(c)} is in no host's name`, at };
}

/** The spans between `from` and `to`, inside brackets. */
function spansIn(
  word: string,
  from: number,
  to: number,
): { spans: Span[]; count: number; digits: number } | Bad {
  const spans: Span[] = [];
  let count = 0;
  let digits = 0;
  let at = from;
  for (const part of word.slice(from, to).split(",")) {
    const m = /^\s*(\d{1,15})\s*(?:-\s*(\d{1,15})\s*(?:\/\s*(\d{1,15})\s*)?)?$/.exec(part);
    const shown = JSON.stringify(part.length > 40 ? `${part.slice(0, 37)}...` : part);
    if (!m) return { why: `${shown} is no number and no range`, at };
    const [, first = "", last = first, every = "1"] = m;
    const [lo, hi, step] = [Number(first), Number(last), Number(every)];
    if (hi < lo) return { why: `${part} counts down`, at };
    if (step < 1) return { why: `${part} steps by nothing`, at };
    const width = paddedTo(first);
    if (paddedTo(last) > 0 && last.length !== first.length)
      return { why: `${first} and ${last} are padded to different lengths`, at };
    spans.push({ lo, hi, step, width });
    count += Math.floor((hi - lo) / step) + 1;
    digits = Math.max(digits, width, String(hi).length);
    at += part.length + 1;
  }
  return { spans, count, digits };
}

/** The members of `@gpu`, `@rack[1-4]` or `@*`, a set per group. */
function groupsIn(
  word: string,
  group: GroupOf,
): { what: ReadonlySet<string>[]; count: number } | Bad | { error: Result<Set<string>, MtError> } {
  const name = word.slice(1);
  if (name === "") return { why: "@ without the name of a group", at: 0 };
  if (name.includes(":"))
    return {
      why: "groups have no sources here",
      at: word.indexOf(":"),
      hint: "@group, from the groups file",
    };
  const named = name === "*" ? { what: name, count: 1 } : patternIn(name);
  if ("why" in named) return { ...named, why: named.why.replace("host", "group"), at: named.at + 1 };
  const sets: ReadonlySet<string>[] = [];
  let count = 0;
  if (named.count > NODES_MAX) return { why: `${named.count} groups`, at: 0, hint: "fewer of them" };
  let error: Result<Set<string>, MtError> | undefined;
  eachName(named.what, (each) => {
    if (error) return;
    const members = group(each);
    if (members.isErr()) error = err(members.error);
    else {
      sets.push(members.value);
      count += members.value.size;
    }
  });
  return error ? { error } : { what: sets, count };
}

/** The most comparisons of a name with a wildcard: more are taken for a mistake. */
const TRIES_MAX = 20_000_000;

/** The hosts of `@all` that match a word with wildcards; possibly none. */
function matchesOf(word: string, group: GroupOf): ReturnType<typeof groupsIn> {
  const wild = patternIn(word, true);
  if ("why" in wild) return wild;
  const all = group("all");
  if (all.isErr()) {
    const message = all.error.message.replace(
      "Cannot use @all",
      `Cannot match ${JSON.stringify(word.slice(0, 60))}`,
    );
    return { error: err({ ...all.error, message }) };
  }
  if (wild.count * all.value.size > TRIES_MAX)
    return { why: "too many names with wildcards", at: 0, hint: "a smaller set" };
  const found = new Set<string>();
  eachName(wild.what, (each) => {
    for (const host of all.value) if (matches(host, each)) found.add(host);
  });
  return { what: [found], count: found.size };
}

/** Whether a name matches a wildcard. On a mismatch it goes back to the last `*` only, so it is no worse than quadratic. */
function matches(name: string, wild: string): boolean {
  let [n, w, star, mark] = [0, 0, -1, 0];
  while (n < name.length) {
    if (wild[w] === "*") [star, mark] = [w++, n];
    else if (w < wild.length && (wild[w] === "?" || wild[w] === name[n])) {
      n++;
      w++;
    } else if (star < 0) return false;
    else [w, n] = [star + 1, ++mark];
  }
  while (wild[w] === "*") w++;
  return w === wild.length;
}

function apply(names: Set<string>, { op, what }: Term): void {
  if (op === ",") eachName(what, (name) => names.add(name));
  else if (op === "!") eachName(what, (name) => names.delete(name));
  else {
    const other = new Set<string>();
    eachName(what, (name) => other.add(name));
    if (op === "&") for (const name of names) other.has(name) || names.delete(name);
    if (op === "^") for (const name of other) names.delete(name) || names.add(name);
  }
}

function eachName(what: Term["what"], take: (name: string) => void): void {
  if (typeof what === "string") take(what);
  else if (what[0] instanceof Set) for (const set of what as ReadonlySet<string>[]) set.forEach(take);
  else eachMember(what as Pattern, 0, "", take);
}

/** All names of a pattern; the last number varies fastest. */
function eachMember(pattern: Pattern, from: number, before: string, take: (name: string) => void): void {
  const piece = pattern[from];
  const whole = from + 1 === pattern.length;
  for (const { lo, hi, step, width } of typeof piece === "string" ? [] : piece!)
    for (let n = lo; n <= hi; n += step) {
      const name = before + (width > 0 ? String(n).padStart(width, "0") : n);
      if (whole) take(name);
      else eachMember(pattern, from + 1, name, take);
    }
  if (typeof piece !== "string") return;
  if (whole) take(before + piece);
  else eachMember(pattern, from + 1, before + piece, take);
}

/** The error for a set that is empty where hosts are needed. */
export const emptySet = (text: string): MtError =>
  mtError("usage", `Cannot use node set ${excerpt(text, 0)}: no host is in it`, HINT);
