/**
 * One MTU a segment, for its bridges, tunnels, routers and guests on all hosts: what every underlay on its way can
 * carry after the tunnel's headers, and at most 1500 unless the plan asks for more.
 */
import { err, ok, type Result } from "neverthrow";
import { inform } from "../../../shared/cli/stderr.ts";
import { fail, type MtError } from "../../../shared/errors.ts";
import { MTU_MIN } from "../../../shared/records/fields.ts";
import type { Guest, Host, Segment } from "../../../shared/records/index.ts";
import { MTU_USUAL, TUNNEL_OVERHEAD } from "../../../shared/records/segment.ts";
import type { Plan } from "../plan/plan.ts";

const LOWERED_NAMED_MAX = 5;

/** Writes the MTU onto the segments and the guests' interfaces. Every router and guest must have its host. */
export function setMtus(plan: Plan, hosts: readonly Host[]): Result<void, MtError> {
  const underlays = new Map(hosts.map((host) => [host.id, host.mtu ?? MTU_USUAL]));
  const on = hostsOf(plan);
  const mtus = new Map<string, number>();
  const lowered: string[] = [];
  for (const entry of plan.segments) {
    const { record } = entry;
    const mtu = mtuOf(record, on.get(record.id) ?? new Set(), underlays);
    if (mtu.isErr()) return err(mtu.error);
    mtus.set(record.id, mtu.value);
    if (record.mtu !== undefined && mtu.value < record.mtu) lowered.push(`${record.id} to ${mtu.value}`);
    if (record.mtu === mtu.value) continue;
    entry.record = { ...record, mtu: mtu.value };
  }
  if (lowered.length > 0) {
    const more = lowered.length > LOWERED_NAMED_MAX ? `, and ${lowered.length - LOWERED_NAMED_MAX} more` : "";
    const named = lowered.slice(0, LOWERED_NAMED_MAX).join(", ");
    inform(`warning: the MTU of segments that reach other hosts now goes down: ${named}${more}`);
  }
  for (const entry of plan.guests) {
    const right = ({ segment, mtu }: Guest["interfaces"][number]) => mtu === mtus.get(segment);
    if (entry.record.interfaces.every(right)) continue;
    const interfaces = entry.record.interfaces.map((nic) => {
      const { segment, ip, mtu: _mtu, ...rest } = nic;
      return { segment, ...(ip === undefined ? {} : { ip }), mtu: mtus.get(segment), ...rest };
    });
    entry.record = { ...entry.record, interfaces };
  }
  return ok(undefined);
}

/**
 * An MTU that a plan asks for before it is placed is kept, or refused. One that an earlier place wrote is kept, or
 * lowered to what the hosts added since then can carry.
 */
function mtuOf(
  segment: Segment,
  on: ReadonlySet<string>,
  underlays: ReadonlyMap<string, number>,
): Result<number, MtError> {
  const { id, mtu, members } = segment;
  if (on.size <= 1) return ok(mtu ?? MTU_USUAL);
  let narrow = { host: "", carries: Number.POSITIVE_INFINITY };
  for (const host of on) {
    const carries = (underlays.get(host) ?? MTU_USUAL) - TUNNEL_OVERHEAD;
    if (carries < narrow.carries) narrow = { host, carries };
  }
  const { host, carries } = narrow;
  if (carries < MTU_MIN)
    return fail(
      "data",
      `Cannot place segment ${id}: the underlay of ${host} carries packets of ${carries + TUNNEL_OVERHEAD} bytes, and a tunnel needs ${MTU_MIN + TUNNEL_OVERHEAD}`,
      `raise it (ip link set dev … mtu 1500 on ${host}), then mt-tree status --records has it`,
    );
  if (mtu === undefined) return ok(Math.min(MTU_USUAL, carries));
  if (mtu <= carries) return ok(mtu);
  if (members !== undefined) return ok(carries);
  return fail(
    "data",
    `Cannot place segment ${id}: its mtu is ${mtu}, and between its hosts ${carries} bytes get through (the underlay of ${host} takes ${carries + TUNNEL_OVERHEAD}, a tunnel needs ${TUNNEL_OVERHEAD} of them)`,
    `leave mtu out and it is computed, or raise the MTU of the underlay of ${host} to ${mtu + TUNNEL_OVERHEAD}`,
  );
}

/** The hosts that have a part of each segment. */
function hostsOf(plan: Plan): Map<string, Set<string>> {
  const on = new Map<string, Set<string>>();
  for (const { record } of [...plan.routers, ...plan.guests])
    for (const { segment } of record.interfaces) {
      const hosts = on.get(segment) ?? new Set<string>();
      on.set(segment, hosts.add(record.host!));
    }
  return on;
}
