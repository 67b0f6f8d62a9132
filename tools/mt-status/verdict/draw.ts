/**
 * Random numbers that are the same for the same seed and purpose, so that a check can be repeated.
 */
import { createHash } from "node:crypto";

/** A generator of whole numbers below `n` (mulberry32, seeded by a digest of the words). */
export function drawer(...words: readonly (string | number)[]): (n: number) => number {
  let state = createHash("sha256").update(words.join("\0")).digest().readUInt32LE();
  return (n) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n);
  };
}

/** `count` of the items (all, where there are no more), in an order drawn at random. */
export function sample<T>(items: readonly T[], count: number, draw: (n: number) => number): T[] {
  // Fisher-Yates that keeps only the indexes it moved: the cost grows with `count`, not with the items.
  const moved = new Map<number, number>();
  const out: T[] = [];
  for (let i = 0; i < Math.min(count, items.length); i++) {
    const j = i + draw(items.length - i);
    out.push(items[moved.get(j) ?? j]!);
    moved.set(j, moved.get(i) ?? i);
  }
  return out;
}
