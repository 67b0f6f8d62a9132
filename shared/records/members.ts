/**
 * Guests of a range: member by member, split where they differ, folded again.
 * Member k has index + k, and every address counted up by k.
 */
import { err, ok, type Result } from "neverthrow";
import { cidrPlus } from "../addresses.ts";
import { fail, type MtError } from "../errors.ts";
import { formatRange, memberAt, parseRange, rangeCount, sliceRange } from "../nodeset/ranges.ts";
import type { Guest } from "./guest.ts";

/** The last index that a MAC can hold. */
const INDEX_MAX = 4294967295;

/** Members `from` … `from + n - 1` of a guest record, as a record of their own. All else is copied. */
export function sliceGuest(guest: Guest, from: number, n: number): Result<Guest, MtError> {
  return parseRange(guest.id).andThen((range) => {
    const interfaces: Guest["interfaces"] = [];
    for (const nic of guest.interfaces) {
      if (nic.ip === undefined) {
        interfaces.push(nic);
        continue;
      }
      const address = cidrPlus(nic.ip, from);
      if (address.isErr()) return err(address.error);
      interfaces.push({ ...nic, ip: address.value });
    }
    return ok({
      ...guest,
      id: formatRange(sliceRange(range, from, n)),
      index: guest.index + from,
      interfaces,
    });
  });
}

/** Every member as a record of its own. The last one is checked first, so that no half is made. */
export function guestMembers(guest: Guest): Result<Guest[], MtError> {
  return parseRange(guest.id).andThen((range) => {
    const n = rangeCount(range);
    if (guest.index + n - 1 > INDEX_MAX)
      return fail<Guest[]>(
        "data",
        `Cannot number ${guest.id}: index ${guest.index + n - 1} is more than ${INDEX_MAX}`,
        "MACs come from it, and have four bytes for it",
      );
    const last = sliceGuest(guest, n - 1, 1);
    if (last.isErr()) return err(last.error);
    const out: Guest[] = [];
    for (let k = 0; k < n; k++) {
      const member = sliceGuest(guest, k, 1);
      if (member.isErr()) return err(member.error);
      out.push({ ...member.value, id: memberAt(range, k) });
    }
    return ok(out);
  });
}

/** What became of one member. */
export type Outcome = Pick<Guest, "state" | "error">;

/**
 * The record again after its members went different ways: neighbours with the same state and error stay
 * one range, so that `g[0-226]` with one failure comes out as three records.
 * @param outcomes one a member, in order
 */
export function foldOutcomes(guest: Guest, outcomes: readonly Outcome[]): Result<Guest[], MtError> {
  const out: Guest[] = [];
  let start = 0;
  const key = (o: Outcome) => JSON.stringify([o.state, o.error]);
  for (let k = 1; k <= outcomes.length; k++) {
    if (k < outcomes.length && key(outcomes[k]!) === key(outcomes[start]!)) continue;
    const slice = sliceGuest(guest, start, k - start);
    if (slice.isErr()) return err(slice.error);
    const { state: _state, error: _error, ...rest } = slice.value;
    const { state, error } = outcomes[start]!;
    out.push({
      ...rest,
      ...(state === undefined ? {} : { state }),
      ...(error === undefined ? {} : { error }),
    } as Guest);
    start = k;
  }
  return ok(out);
}
