/**
 * The records that a host was sent and has not given back, by kind and id, ranges as sets. A range may come back in
 * parts, each of which is taken off; what is left when the host has ended has failed.
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

interface Account {
  text: string;
  kind: string;
  /** Set once a part has come back: the range, and what is still missing of it, in order. */
  range?: Range;
  gaps?: Gap[];
}

const keyOf = (kind: string, id: string) => `${kind}\0${id}`;
const bracket = (id: string) => id.indexOf("[");

export class Accounts {
  readonly #open = new Map<string, Account>();
  /** Keys of ranges, by kind and the letters before the numbers: finds the ranges to which a part may belong. */
  readonly #ranges = new Map<string, Set<string>>();

  /** A record went out to the host. */
  sent(line: Pick<Line, "kind" | "id">, text: string): void {
    const key = keyOf(line.kind, line.id);
    this.#open.set(key, { text, kind: line.kind });
    const at = bracket(line.id);
    // An id that is no valid range is taken as a name: the filter on the host reports what is wrong with it.
    if (at < 0 || parseRange(line.id).isErr()) return;
    const family = keyOf(line.kind, line.id.slice(0, at));
    const keys = this.#ranges.get(family);
    if (keys) keys.add(key);
    else this.#ranges.set(family, new Set([key]));
  }

  get size(): number {
    return this.#open.size;
  }

  /** A record came back, whole or as a part of a range. Gives whether it was open. */
  came(line: Pick<Line, "kind" | "id">): boolean {
    if (this.#open.delete(keyOf(line.kind, line.id))) return true;
    if (this.#ranges.size === 0) return false;
    const part = parseRange(line.id);
    if (part.isErr()) return false;
    let settled = false;
    const at = bracket(line.id);
    // `g7` may be part of `g[0-9]`: its number is what follows the letters.
    const prefixes = at >= 0 ? [line.id.slice(0, at)] : prefixesOf(line.id);
    for (const prefix of prefixes)
      for (const key of this.#ranges.get(keyOf(line.kind, prefix)) ?? []) {
        const account = this.#open.get(key);
        if (!account) this.#ranges.get(keyOf(line.kind, prefix))?.delete(key);
        else if (this.#settle(key, account, part.value, line.id)) settled = true;
      }
    return settled;
  }

  #settle(key: string, account: Account, part: Range, partId: string): boolean {
    const range = (account.range ??= parseRange(lineOf(account).id)._unsafeUnwrap());
    let gaps = (account.gaps ??= [{ from: 0, to: rangeCount(range) - 1 }]);
    let settled = false;
    for (const span of spansOf(part, partId, range)) {
      const taken = positions(range, span);
      settled ||= taken.length > 0;
      gaps = subtract(gaps, taken);
    }
    account.gaps = gaps;
    if (gaps.length === 0) this.#open.delete(key);
    return settled;
  }

  /** The lines that did not come back, as they were sent (ranges cut to what is missing). */
  *missing(): Generator<string> {
    for (const account of this.#open.values()) {
      if (!account.gaps || account.kind !== "guest") {
        yield account.text;
        continue;
      }
      const line = lineOf(account);
      for (const gap of account.gaps) yield rewrite(account.text, line, cut(line, account.range!, gap));
    }
  }
}

/** Only records are sent. */
function lineOf({ text }: Account): Line {
  const read = readRecord({ text });
  if (read === undefined || "why" in read) throw new TypeError(`no record: ${text.slice(0, 80)}`);
  return read.line;
}

/** The line for the members of a gap. Where it is no valid guest only its id is cut: the record is not lost for that. */
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

/** The numbers of a part that may be in this range; a plain name has one number. */
function spansOf(part: Range, partId: string, range: Range): Span[] {
  if (part.spans.length > 0)
    return part.prefix === range.prefix && part.suffix === range.suffix ? part.spans : [];
  const number = partId.slice(range.prefix.length, partId.length - range.suffix.length);
  if (!partId.endsWith(range.suffix) || !/^\d{1,15}$/.test(number)) return [];
  const n = Number(number);
  return [{ lo: n, hi: n, width: paddedTo(number) }];
}

/** At which positions of the range the numbers of a span are. */
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
