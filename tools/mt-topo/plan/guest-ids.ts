/**
 * Finds guests that are in two records. Ranges are compared as spans of numbers: a million guests in a thousand ranges
 * are a thousand spans.
 */
import { members, type Range, splitName } from "../../../shared/nodeset/ranges.ts";

interface Taken {
  lo: number;
  hi: number;
  line: number;
}

export class GuestIds {
  /** Spans by prefix, suffix and width of the number: `["g","",0]`. */
  readonly #families = new Map<string, Taken[]>();

  add(range: Range, line: number): void {
    // With a digit beside the brackets, as in `a1[0-9]` and `a[10-19]`, the names themselves are compared.
    if (range.spans.length === 0 || /\d$/.test(range.prefix) || /\d/.test(range.suffix)) {
      for (const name of members(range)) this.#addName(name, line);
      return;
    }
    for (const { lo, hi, width } of range.spans) {
      // Numbers that fill their width look as without padding.
      const full = width > 1 ? 10 ** (width - 1) : 0;
      if (lo < full) this.#put(range.prefix, range.suffix, width, { lo, hi: Math.min(hi, full - 1), line });
      if (hi >= full) this.#put(range.prefix, range.suffix, 0, { lo: Math.max(lo, full), hi, line });
    }
  }

  #addName(name: string, line: number): void {
    const split = splitName(name);
    if (split)
      this.#put(split.family.prefix, split.family.suffix, split.family.width, {
        lo: split.n,
        hi: split.n,
        line,
      });
    else this.#put(name, "", -1, { lo: 0, hi: 0, line });
  }

  #put(prefix: string, suffix: string, width: number, taken: Taken): void {
    const key = JSON.stringify([prefix, suffix, width]);
    const known = this.#families.get(key);
    if (known) known.push(taken);
    else this.#families.set(key, [taken]);
  }

  /** The first guest that is in two records, with their lines. */
  overlap(): { name: string; line: number; first: number } | undefined {
    for (const [key, spans] of this.#families) {
      spans.sort((a, b) => a.lo - b.lo || a.line - b.line);
      for (let i = 1; i < spans.length; i++) {
        const [a, b] = [spans[i - 1]!, spans[i]!];
        if (b.lo > a.hi) continue;
        const [prefix, suffix, width] = JSON.parse(key) as [string, string, number];
        const number = width < 0 ? "" : String(b.lo).padStart(width, "0");
        return {
          name: prefix + number + suffix,
          line: Math.max(a.line, b.line),
          first: Math.min(a.line, b.line),
        };
      }
    }
    return undefined;
  }

  /** The first number after all of `<prefix>N`. */
  after(prefix: string): number {
    let next = 0;
    for (const { hi } of this.#families.get(JSON.stringify([prefix, "", 0])) ?? [])
      next = Math.max(next, hi + 1);
    return next;
  }
}
