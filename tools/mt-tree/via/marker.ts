/**
 * What tells our own lines from all else that comes out of ssh or srun: a marker, wherever it stands in the line. A
 * login shell's profile may print whatever it likes before them, with a newline at its end or without.
 */
export const MARK = "@mt ";

/** What is said after the marker; undefined where the line is not ours. */
export function marked(line: string): string | undefined {
  const at = line.lastIndexOf(MARK);
  return at < 0 ? undefined : line.slice(at + MARK.length);
}

/** A line of ours, on a line of its own. */
export const markedLine = (text: string) => Buffer.from(`\n${MARK}${text}\n`);
