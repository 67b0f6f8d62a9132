/** Which stage failed a record: a stage retries its own and later failures, and leaves earlier ones alone. */
import type { MtError } from "./errors.ts";

/** The order in which tools make a plan true. */
const STAGES = ["mt-topo", "mt-push", "mt-vnet", "mt-boot", "mt-ksm", "mt-route", "mt-status"];

/**
 * Whether a stage before `tool` failed the record. Then `tool` passes it on with its error.
 * What mt-tree failed (a lost host, a crashed command) any tool tries again.
 */
export function failedEarlier(record: { state?: string; error?: MtError }, tool: string): boolean {
  if (record.state !== "failed") return false;
  const at = STAGES.indexOf(record.error?.by ?? "");
  return at >= 0 && at < STAGES.indexOf(tool);
}

/** The record without its `failed` state and error, before it is tried again. */
export function withoutFailure<R extends { state?: string; error?: MtError }>(record: R): R {
  if (record.state !== "failed") return record;
  const { state: _state, error: _error, ...rest } = record;
  return rest as R;
}
