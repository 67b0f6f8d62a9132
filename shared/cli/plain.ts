/**
 * Makes text of records, guests and other programs safe to show to people: without characters that move the cursor,
 * colour, change the reading direction, hide text or begin a new line. Records on stdout are not changed by it.
 */

/**
 * Controls (C0, C1, DEL), format characters (bidi embeddings, overrides, isolates and marks, zero-width ones, tags),
 * line and paragraph separators, halves of surrogate pairs, and other characters that are drawn as nothing.
 */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]+/gu;
/** The same without line ends and tabs. */
const UNSEEN_IN_LINES = /(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;
const JSON_LEAVES = /[\x7f-\x9f\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

/** As one line: each run of such characters becomes one blank. */
export function plain(text: string): string {
  return text.replaceAll(UNSEEN, " ");
}

/** As several lines: line ends and tabs stay. */
export function plainLines(text: string): string {
  return text.replaceAll(UNSEEN_IN_LINES, "");
}

/** As JSON of the same value, with such characters escaped. */
export function plainJson(value: unknown): string {
  return JSON.stringify(value).replaceAll(JSON_LEAVES, (c) =>
    Array.from({ length: c.length }, (_, i) => `\\u${c.charCodeAt(i).toString(16).padStart(4, "0")}`).join(
      "",
    ),
  );
}

/** Characters that take two cells of a terminal: East Asian wide and fullwidth ones, emoji. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{16fe0}-\u{18cff}\u{1b000}-\u{1b2ff}\u{20000}-\u{3fffd}]|(?!\p{Regional_Indicator})\p{Emoji_Presentation}/u;
const NO_CELL = /[\p{Mn}\p{Me}]/u;

/** How many cells of a terminal the text takes. */
export function cells(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let n = 0;
  for (const c of text) n += NO_CELL.test(c) ? 0 : WIDE.test(c) ? 2 : 1;
  return n;
}

/** Pads the text with blanks to so many cells, after it or before it. */
export function padCells(text: string, width: number, before = false): string {
  const blanks = " ".repeat(Math.max(0, width - cells(text)));
  return before ? blanks + text : text + blanks;
}

/** As much of the text as fits into so many cells. */
export function cutCells(text: string, width: number): string {
  let n = 0;
  let kept = "";
  for (const c of text) {
    n += cells(c);
    if (n > width) break;
    kept += c;
  }
  return kept;
}
