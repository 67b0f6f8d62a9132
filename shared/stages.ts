/** Whose failure a record carries: a stage acts again on its own and later failures, not on earlier ones. */
import type { MtError } from "./errors.ts";

/** The order in which tools make a plan true. */
const STAGES = ["mt-topo", "mt-push", "mt-vnet", "mt-boot", "mt-ksm", "mt-route", "mt-status"];

/**
 * Whether a stage before `tool` failed the record: then `tool` leaves it, and its first error stays.
 * What mt-tree failed (a lost host, a crashed command) is tried again by whoever gets it.
 */
export function failedEarlier(record: { state?: string; error?: MtError }, tool: string): boolean {
  if (record.state !== "failed") return false;
  const at = STAGES.indexOf(record.error?.by ?? "");
  return at >= 0 && at < STAGES.indexOf(tool);
}

/** The record without the failure that is about to be tried again. */
export function withoutFailure<R extends { state?: string; error?: MtError }>(record: R): R {
  if (record.state !== "failed") return record;
  const { state: _state, error: _error, ...rest } = record;
  return rest as R;
}
