/** A segment as it stands on this host, as a record. */
import { type MtError, mtError } from "../../../shared/errors.ts";
import { applied, type Shaper } from "../shape/shape.ts";
import type { SegmentState } from "./segments.ts";

/** @param missing why nothing could be built at all */
export function switchRecord(
  { id, plan, error, ports, unshaped }: SegmentState,
  host: string,
  shaper: Shaper,
  by: string,
  missing: MtError | undefined,
): object {
  const record = { kind: "switch", id, host };
  const failure =
    missing ?? error ?? (plan ? undefined : mtError("failed", `Cannot build segment ${id}: interrupted`));
  const shaped = plan && applied(plan, unshaped || failure ? {} : shaper);
  if (failure || !plan)
    return {
      ...record,
      state: "failed",
      ...(shaped ? { applied: shaped } : {}),
      error: { by, ...failure },
    };
  const { bridge, tunnel, mtu } = plan;
  return {
    ...record,
    state: "up",
    bridge,
    ...(tunnel ? { tunnel: tunnel.link, vni: tunnel.vni, udp_port: tunnel.udp_port } : {}),
    ports,
    mtu,
    applied: shaped,
  };
}
