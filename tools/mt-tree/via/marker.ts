/**
 * A marker by which our lines are found in the output of ssh and srun. It may be anywhere in a line: what a login
 * shell's profile prints before it need not end with a newline.
 */
export const MARK = "@mt ";

/** What follows the marker; undefined where the line is not ours. */
export function marked(line: string): string | undefined {
  const at = line.lastIndexOf(MARK);
  return at < 0 ? undefined : line.slice(at + MARK.length);
}

/** A line of ours, which begins on a new line. */
export const markedLine = (text: string) => Buffer.from(`\n${MARK}${text}\n`);
