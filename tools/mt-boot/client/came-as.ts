/**
 * The line that a guest's record came as, kept with the record on its way through requests, the ledger and notes, so
 * that it goes out again as it came: digits that no double holds, how fields are written, what is nested deeply.
 */
import { readRecord } from "../../../shared/stream/record-line.ts";
import { rewrite } from "../../../shared/stream/rewrite.ts";

/** A symbol: copies of a record (`{ ...guest }`, members of a range) keep what it names, and JSON leaves it out. */
const CAME_AS = Symbol("the line that it came as");

interface CameAs {
  text: string;
  /** What was read from it. */
  record: object;
}

const cameAs = (record: object) => (record as { [CAME_AS]?: CameAs })[CAME_AS];

/** A record, changed or not, with the line that it came as, where JSON alone would not write that line again. */
export function withText<R extends object>(record: R, text: string | undefined): R {
  if (text === undefined) return record;
  const read = readRecord({ text });
  if (read === undefined || "why" in read || JSON.stringify(read.line) === text) return record;
  return { ...record, [CAME_AS]: { text, record: read.line } satisfies CameAs };
}

/** A record that was sent or stored as JSON, with its `keptText` beside it, as it was before. */
export function fromKept<R extends object>(record: R, kept: string | undefined): R {
  const read = kept === undefined ? undefined : readRecord({ text: kept });
  return read === undefined || "why" in read ? record : withText(read.line as unknown as R, kept);
}

/** The record as a line: what has changed since it came is written anew. */
export function textOf(record: object): string {
  const came = cameAs(record);
  return came === undefined ? JSON.stringify(record) : rewrite(came.text, came.record, record);
}

/** `textOf`, for whoever sends or stores the record as JSON; undefined where that JSON is enough. */
export const keptText = (record: object): string | undefined =>
  cameAs(record) === undefined ? undefined : textOf(record);
