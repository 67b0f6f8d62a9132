/** A guest record that is a range: its parts, its members, and folding them again. Member k has index + k, and addresses counted up by k. */
import { err, ok, type Result } from "neverthrow";
import { cidrPlus } from "../addresses.ts";
import { fail, type MtError } from "../errors.ts";
import { formatRange, memberAt, parseRange, rangeCount, sliceRange } from "../nodeset/ranges.ts";
import type { Guest } from "./guest.ts";

/** The largest index that fits into a MAC. */
const INDEX_MAX = 4294967295;

/** Members `from` … `from + n - 1` as a record of their own. Errors: `data` (the id is no range, an address leaves its network). */
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

/** Each member as a record of its own. Errors as `sliceGuest`; the last member is checked first, as its address is the highest. */
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
 * The record split by what became of its members: neighbours with the same state and error stay one range, so
 * `g[0-226]` with one failure becomes three records. Errors as `sliceGuest`.
 * @param outcomes one per member, in order
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
