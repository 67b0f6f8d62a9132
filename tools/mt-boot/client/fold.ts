/**
 * Many guests as few records: the members of one record with their outcomes, and neighbouring guests whose range is not
 * known any more.
 */
import type { Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import { formatRange, parseRange, splitName } from "../../../shared/nodeset/ranges.ts";
import type { Guest } from "../../../shared/records/index.ts";
import { foldOutcomes, type Outcome, sliceGuest } from "../../../shared/records/members.ts";
import { nameGuest } from "../protocol.ts";
import { textOf } from "./came-as.ts";

/** The record, split where its members differ; {id} in an error becomes the range's name. */
export function foldNamed(guest: Guest, outcomes: readonly Outcome[]): Result<Guest[], MtError> {
  return foldOutcomes(guest, outcomes).map((records) =>
    records.map((record) =>
      record.error ? { ...record, error: nameGuest(record.error, record.id)! } : record,
    ),
  );
}

/** Single guests in order, folded where each counts on from the one before. Errors as in foldNamed. */
export function foldGuests(guests: readonly Guest[]): Guest[] {
  const runs: { first: Guest; count: number }[] = [];
  for (const guest of guests) {
    const run = runs[runs.length - 1];
    if (run && follows(run.first, run.count, guest)) run.count++;
    else runs.push({ first: guest, count: 1 });
  }
  return runs.map(({ first, count }) => {
    const record = { ...first, id: count === 1 ? first.id : rangeFrom(first.id, count)! };
    return record.error ? { ...record, error: nameGuest(record.error, record.id)! } : record;
  });
}

/** `g3` and the next of it, as `g[3-6]`; undefined for a name without a number. */
function rangeFrom(name: string, count: number): string | undefined {
  const split = splitName(name);
  if (!split) return undefined;
  const { prefix, suffix, width } = split.family;
  const id = formatRange({ prefix, suffix, spans: [{ lo: split.n, hi: split.n + count - 1, width }] });
  return parseRange(id).isOk() ? id : undefined;
}

/** Whether `next` is what member `k` of a range that begins with `first` would be. */
function follows(first: Guest, k: number, next: Guest): boolean {
  const id = rangeFrom(first.id, k + 1);
  if (id === undefined) return false;
  const member = sliceGuest({ ...first, id }, k, 1);
  return member.isOk() && textOf(member.value) === textOf(next);
}
