/**
 * Names folded into a node set that expands to them again, in as many dimensions as they have numbers: the
 * names rack1n1 … rack4n32 are `rack[1-4]n[1-32]`. Linear in the names, whether they are regular or not.
 */
import { paddedTo } from "./ranges.ts";

/** Names as a node set that expands to them: `kn1 kn2 gw` → `kn[1-2],gw`. Padding is kept. */
export const foldNodes = (names: Iterable<string>): string => foldTerms(names).join(",");

/** As `foldNodes`, as a list of terms. Names that differ only in their numbers are together, in the order of their first. */
export function foldTerms(names: Iterable<string>): string[] {
  /** Names that differ only in their numbers: `rack1n07` looks like `rack·n·`. */
  const alike = new Map<string, string[]>();
  for (const name of new Set(names)) {
    const shape = TOO_LONG.test(name) ? name : name.replace(NUMBERS, "\0");
    const known = alike.get(shape);
    if (known) known.push(name);
    else alike.set(shape, [name]);
  }
  const terms: string[] = [];
  for (const [shape, members] of alike) {
    if (members.length === 1) terms.push(members[0]!);
    else {
      const texts = shape.split("\0");
      for (const box of boxesOf(members.map((name) => name.match(NUMBERS)!)))
        terms.push(texts.map((text, k) => text + (k < box.length ? bracket(box[k]!) : "")).join(""));
    }
  }
  return terms;
}

const NUMBERS = /\d+/g;
/** Too long to be an exact number: such a name is left alone. */
const TOO_LONG = /\d{16}/;

/** The numbers in each dimension; a box stands for all combinations. */
type Box = string[][];

/**
 * Points as few boxes: dimension by dimension, boxes that are equal in all other dimensions are merged.
 * Each pass is linear in the numbers. Both orders of the dimensions are tried, unless the first shows no grid.
 */
function boxesOf(points: string[][]): Box[] {
  const boxes = () => points.map((point) => point.map((n) => [n]));
  const varying = points[0]!.map((_, k) => k).filter((k) => points.some((p) => p[k] !== points[0]![k]));
  if (varying.length < 2)
    return [points[0]!.map((n, k) => (k === varying[0] ? points.map((p) => p[k]!) : [n]))];
  const last = mergeAlong(boxes(), [...varying].reverse());
  // If little could be merged there is no grid, and another order would not find one.
  if (last.length === 1 || last.length * 2 > points.length) return last;
  const first = mergeAlong(boxes(), varying);
  return first.length < last.length ? first : last;
}

const ROUNDS_MAX = 8;

function mergeAlong(boxes: Box[], dimensions: readonly number[]): Box[] {
  let now = boxes.map((box) => ({ box, keys: box.map(bracket) }));
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const before = now.length;
    for (const k of dimensions) {
      const merged = new Map<string, (typeof now)[number]>();
      const grown = new Set<(typeof now)[number]>();
      for (const one of now) {
        let key = "";
        for (const d of dimensions) if (d !== k) key += `${one.keys[d]} `;
        const known = merged.get(key);
        if (known) {
          for (const n of one.box[k]!) known.box[k]!.push(n);
          grown.add(known);
        } else merged.set(key, one);
      }
      for (const one of grown) one.keys[k] = bracket(one.box[k]!);
      now = [...merged.values()];
    }
    if (now.length === before || now.length === 1) break;
  }
  return now.map(({ box }) => box);
}

/** `7` or `[1-3,7]`: equal sets of numbers give equal texts. */
function bracket(numbers: readonly string[]): string {
  if (numbers.length === 1) return numbers[0]!;
  // With 08 in the set, 10 counts as padded to two digits too.
  const widths = new Set(numbers.map(paddedTo).filter((width) => width > 0));
  const items = numbers.map((n) => ({ n: Number(n), width: widths.has(n.length) ? n.length : 0 }));
  items.sort((a, b) => a.width - b.width || a.n - b.n);
  const spans: { lo: number; hi: number; width: number }[] = [];
  for (const { n, width } of items) {
    const last = spans[spans.length - 1];
    if (last && last.width === width && n === last.hi + 1) last.hi = n;
    else spans.push({ lo: n, hi: n, width });
  }
  spans.sort((a, b) => a.lo - b.lo || a.width - b.width);
  const text = (n: number, width: number) => String(n).padStart(width, "0");
  const parts = spans.map(({ lo, hi, width }) =>
    lo === hi ? text(lo, width) : `${text(lo, width)}-${text(hi, width)}`,
  );
  return `[${parts.join(",")}]`;
}
