/** A file that has more is no file that somebody mends by hand. */
const KINDS_SHOWN = 20;

/** What an import could not take, for people: one line a kind of trouble, counted, with the first place. */
export class Notes {
  readonly #seen = new Map<string, { count: number; first: string }>();

  /**
   * @param what `node` or `edge`
   * @param trouble the kind of it, for all values the same: "delay not understood"
   * @param value what stood there
   */
  add(what: string, trouble: string, line: number, value = ""): void {
    const key = `${what}\0${trouble}`;
    const known = this.#seen.get(key);
    if (known) known.count++;
    else
      this.#seen.set(key, { count: 1, first: `${value === "" ? "" : `: ${value}`} (first: line ${line})` });
  }

  /** "3 edges: delay not understood: "fast" (first: line 12)". */
  lines(): string[] {
    const all = [...this.#seen].map(([key, { count, first }]) => {
      const [what, trouble] = key.split("\0");
      return `${count} ${what}${count > 1 ? "s" : ""}: ${trouble}${first}`;
    });
    const more = all.length - KINDS_SHOWN;
    return more > 0 ? [...all.slice(0, KINDS_SHOWN), `and ${more} kinds of such things more`] : all;
  }
}
