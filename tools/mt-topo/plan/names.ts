/** Labels as ids: short, readable, unique, 40 characters at most. */
import { NAME_LENGTH_MAX } from "../../../shared/nodeset/ranges.ts";

/** Letters that Unicode does not decompose into a base letter and a mark. */
const LETTERS: Readonly<Record<string, string>> = {
  ß: "ss",
  æ: "ae",
  œ: "oe",
  ø: "o",
  đ: "d",
  ð: "d",
  ł: "l",
  þ: "th",
  ı: "i",
  ħ: "h",
};

/** "New York" → "new-york", "Zürich" → "zurich"; empty where no character of the label fits into an id. */
export function slug(label: string): string {
  return label
    .toLowerCase()
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .replace(/[ßæœøđðłþıħ]/g, (c) => LETTERS[c]!)
    .replace(/[^a-z0-9]+/g, "-")
    .slice(0, NAME_LENGTH_MAX)
    .replace(/^-|-$/g, "");
}

/** Makes names unique: the second `paris` becomes `paris-2`. Linear, also where all names are equal. */
export class UniqueNames {
  readonly #taken: Set<string>;
  readonly #next = new Map<string, number>();

  constructor(taken: Iterable<string> = []) {
    this.#taken = new Set(taken);
  }

  take(wanted: string): string {
    let name = wanted.slice(0, NAME_LENGTH_MAX);
    let n = this.#next.get(name) ?? 2;
    const base = name;
    while (this.#taken.has(name)) {
      const suffix = `-${n++}`;
      name = base.slice(0, NAME_LENGTH_MAX - suffix.length).replace(/-+$/, "") + suffix;
    }
    this.#next.set(base, n);
    this.#taken.add(name);
    return name;
  }
}

/** `<a>-<b>`: where both do not fit, each keeps its beginning. */
export function linkName(a: string, b: string): string {
  const whole = `${a}-${b}`;
  if (whole.length <= NAME_LENGTH_MAX) return whole;
  const half = Math.floor((NAME_LENGTH_MAX - 1) / 2);
  const left = a.slice(0, Math.max(half, NAME_LENGTH_MAX - 1 - b.length));
  return `${left}-${b.slice(0, NAME_LENGTH_MAX - 1 - left.length)}`;
}
