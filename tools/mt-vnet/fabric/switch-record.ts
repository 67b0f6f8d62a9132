/** A segment as it is on this host, as a record. */
import { type MtError, mtError } from "../../../shared/errors.ts";
import type { Shaper } from "../shape/shaper.ts";
import type { SegmentState, Switch } from "./fabric.ts";

/**
 * @param where absent where it was not planned
 * @param missing why nothing could be built at all
 */
export function switchRecord(
  { id, plan, error, ports, unshaped }: SegmentState,
  where: Switch | undefined,
  host: string,
  shaper: Shaper,
  by: string,
  missing: MtError | undefined,
): object {
  const record = { kind: "switch", id, host };
  const failure =
    missing ?? error ?? (plan ? undefined : mtError("failed", `Cannot build segment ${id}: interrupted`));
  const applied = plan && shaper.applied(plan);
  if (unshaped || failure) for (const field in applied) applied[field] = false;
  if (failure || !plan || !where)
    return { ...record, state: "failed", ...(applied ? { applied } : {}), error: { by, ...failure } };
  return { ...record, state: "up", ...where, ports, mtu: plan.mtu, applied };
}
