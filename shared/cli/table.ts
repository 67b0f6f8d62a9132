/** Rows as lines of text for people: every column as wide as its widest cell. The first row is the header. */
import { cells, padCells, plain } from "./plain.ts";

/** @param numbersFrom columns from this one on are aligned to the right */
export function tableLines(
  rows: readonly (readonly string[])[],
  numbersFrom = Number.POSITIVE_INFINITY,
): string[] {
  const shown = rows.map((row) => row.map(plain));
  const widths = shown[0]!.map((_, column) =>
    shown.reduce((most, row) => Math.max(most, cells(row[column]!)), 0),
  );
  return shown.map((row) =>
    row
      .map((cell, column) => padCells(cell, widths[column]!, column >= numbersFrom))
      .join("  ")
      .trimEnd(),
  );
}
