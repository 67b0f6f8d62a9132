/**
 * What went to a host and has not come out again: by kind and id, ranges as sets. A range that comes back
 * in parts is settled part by part; what is left when the host has ended is what failed.
 */
import {
  formatRange,
  paddedTo,
  parseRange,
  type Range,
  rangeCount,
  type Span,
  sliceRange,
} from "../../../shared/nodeset/ranges.ts";
import type { Line } from "../../../shared/records/line.ts";
import { sliceGuest } from "../../../shared/records/members.ts";
import { validate } from "../../../shared/records/validate.ts";
import { readRecord } from "../../../shared/stream/record-line.ts";
import { rewrite } from "../../../shared/stream/rewrite.ts";

/** Members `from` … `to` of a range record, by position. */
interface Gap {
  from: number;
  to: number;
}

interface Entry {
  text: string;
  kind: string;
  /** Only once a part has come back: what is still missing, in order. */
  range?: Range;
  gaps?: Gap[];
}

const keyOf = (kind: string, id: string) => `${kind}\0${id}`;
const bracket = (id: string) => id.indexOf("[");

export class Accounts {
  readonly #open = new Map<string, Entry>();
  /** Keys of ranges by kind and the letters before the numbers: where a part may belong. */
  readonly #ranges = new Map<string, Set<string>>();

  /** A record went out to the host. */
  sent(line: Pick<Line, "kind" | "id">, text: string): void {
    const key = keyOf(line.kind, line.id);
    this.#open.set(key, { text, kind: line.kind });
    const at = bracket(line.id);
    // What is no range is a name like any other: whoever gets it says what is wrong with it.
    if (at < 0 || parseRange(line.id).isErr()) return;
    const family = keyOf(line.kind, line.id.slice(0, at));
    const keys = this.#ranges.get(family);
    if (keys) keys.add(key);
    else this.#ranges.set(family, new Set([key]));
  }

  get size(): number {
    return this.#open.size;
  }

  /** A record came back, whole or as a part of a range; false where it is none of those that are open. */
  came(line: Pick<Line, "kind" | "id">): boolean {
    if (this.#open.delete(keyOf(line.kind, line.id))) return true;
    if (this.#ranges.size === 0) return false;
    const part = parseRange(line.id);
    if (part.isErr()) return false;
    let settled = false;
    const at = bracket(line.id);
    // `g7` may be of `g[0-9]`: its own number is what follows the letters of the family.
    const prefixes = at >= 0 ? [line.id.slice(0, at)] : prefixesOf(line.id);
    for (const prefix of prefixes)
      for (const key of this.#ranges.get(keyOf(line.kind, prefix)) ?? []) {
        const entry = this.#open.get(key);
        if (!entry) this.#ranges.get(keyOf(line.kind, prefix))?.delete(key);
        else if (this.#settle(key, entry, part.value, line.id)) settled = true;
      }
    return settled;
  }

  #settle(key: string, entry: Entry, part: Range, partId: string): boolean {
    const range = (entry.range ??= parseRange(lineOf(entry).id)._unsafeUnwrap());
    let gaps = (entry.gaps ??= [{ from: 0, to: rangeCount(range) - 1 }]);
    let settled = false;
    for (const span of spansOf(part, partId, range)) {
      const taken = positions(range, span);
      settled ||= taken.length > 0;
      gaps = subtract(gaps, taken);
    }
    entry.gaps = gaps;
    if (gaps.length === 0) this.#open.delete(key);
    return settled;
  }

  /** What did not come back, as the lines that it was (ranges cut to what is missing). */
  *missing(): Generator<string> {
    for (const entry of this.#open.values()) {
      if (!entry.gaps || entry.kind !== "guest") {
        yield entry.text;
        continue;
      }
      const line = lineOf(entry);
      for (const gap of entry.gaps) yield rewrite(entry.text, line, cut(line, entry.range!, gap));
    }
  }
}

/** Only records are sent. */
function lineOf({ text }: Entry): Line {
  const read = readRecord({ text });
  if (read === undefined || "why" in read) throw new TypeError(`no record: ${text.slice(0, 80)}`);
  return read.line;
}

/** The members of a gap, with what counts up where it can be counted; a record is never lost over that. */
function cut(line: Line, range: Range, { from, to }: Gap): Line {
  const id = formatRange(sliceRange(range, from, to - from + 1));
  return validate("guest", line)
    .andThen((guest) => sliceGuest(guest, from, to - from + 1))
    .match(
      (slice) => slice as unknown as Line,
      () => ({ ...line, id }),
    );
}

/** The letters that may stand before a name's number: `g10` → `g`, `g1` (of `g1[0-9]`) and `g10`. */
function prefixesOf(id: string): string[] {
  const out: string[] = [];
  for (let i = 0; i < id.length; i++) if (id[i]! >= "0" && id[i]! <= "9") out.push(id.slice(0, i));
  return out;
}

/** The numbers of a part that are of this range's family; a plain name counts as its one number. */
function spansOf(part: Range, partId: string, range: Range): Span[] {
  if (part.spans.length > 0)
    return part.prefix === range.prefix && part.suffix === range.suffix ? part.spans : [];
  const number = partId.slice(range.prefix.length, partId.length - range.suffix.length);
  if (!partId.endsWith(range.suffix) || !/^\d{1,15}$/.test(number)) return [];
  const n = Number(number);
  return [{ lo: n, hi: n, width: paddedTo(number) }];
}

/** Where the numbers of a span stand in the range. */
function positions(range: Range, span: Span): Gap[] {
  const out: Gap[] = [];
  let before = 0;
  for (const s of range.spans) {
    const lo = Math.max(s.lo, span.lo);
    const hi = Math.min(s.hi, span.hi);
    if (lo <= hi && padded(s.width, lo) === padded(span.width, lo))
      out.push({ from: before + lo - s.lo, to: before + hi - s.lo });
    before += s.hi - s.lo + 1;
  }
  return out;
}
const padded = (width: number, n: number) => String(n).padStart(width, "0");

function subtract(gaps: Gap[], taken: Gap[]): Gap[] {
  let left = gaps;
  for (const t of taken)
    left = left.flatMap((g) => {
      if (t.to < g.from || t.from > g.to) return [g];
      const out: Gap[] = [];
      if (t.from > g.from) out.push({ from: g.from, to: t.from - 1 });
      if (t.to < g.to) out.push({ from: t.to + 1, to: g.to });
      return out;
    });
  return left;
}
