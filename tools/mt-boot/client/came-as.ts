/**
 * The line that a guest's record was read from, kept with the record through requests, the ledger and notes, so that
 * it is written again byte for byte: digits that no double holds, the spelling of fields, deep nesting.
 */
import { readRecord } from "../../../shared/stream/record-line.ts";
import { rewrite } from "../../../shared/stream/rewrite.ts";

/** A symbol, because copies of a record (`{ ...guest }`, members of a range) keep its value, and JSON leaves it out. */
const CAME_AS = Symbol("the line that it came as");

interface CameAs {
  text: string;
  /** What was read from it. */
  record: object;
}

const cameAs = (record: object) => (record as { [CAME_AS]?: CameAs })[CAME_AS];

/** The record with the line that it was read from, where JSON.stringify would not give that line. */
export function withText<R extends object>(record: R, text: string | undefined): R {
  if (text === undefined) return record;
  const read = readRecord({ text });
  if (read === undefined || "why" in read || JSON.stringify(read.line) === text) return record;
  return { ...record, [CAME_AS]: { text, record: read.line } satisfies CameAs };
}

/** A record that was sent or stored as JSON with its `keptText`, as it was before. */
export function fromKept<R extends object>(record: R, kept: string | undefined): R {
  const read = kept === undefined ? undefined : readRecord({ text: kept });
  return read === undefined || "why" in read ? record : withText(read.line as unknown as R, kept);
}

/** The record as a line: only what has changed since it was read is written anew. */
export function textOf(record: object): string {
  const came = cameAs(record);
  return came === undefined ? JSON.stringify(record) : rewrite(came.text, came.record, record);
}

/** `textOf`, to be sent or stored beside the record's JSON; undefined where the JSON is enough. */
export const keptText = (record: object): string | undefined =>
  cameAs(record) === undefined ? undefined : textOf(record);
