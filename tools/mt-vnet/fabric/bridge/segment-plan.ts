/**
 * What a segment needs on this host, worked out from its record alone: names, the tunnel's ends. Its MTU comes from
 * the record, so that all its hosts have the same; a host whose underlay does not carry it fails the segment.
 * Two experiments may use the same VXLAN identifiers on the same hosts: each has a UDP port of its own.
 */
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../../shared/errors.ts";
import { bridgeName, linkAlias, tunnelPort, vxlanName } from "../../../../shared/host/names.ts";
import type { Segment } from "../../../../shared/records/index.ts";
import { MTU_USUAL, TUNNEL_OVERHEAD } from "../../../../shared/records/segment.ts";
import type { Link } from "../../kernel/kernel.ts";
import type { SegmentPlan } from "../fabric.ts";

/** Least size of a tunnel's table of MACs: room for guests that use other MACs than the plan's. */
const ADDRESSES_MIN = 4096;

export interface BridgePlan extends SegmentPlan {
  bridge: string;
  alias: string;
  /** The name that its tunnel has, whether it needs one or not. */
  tunnelName: string;
  tunnel?: Tunnel;
  /** Indexes of its guests on other hosts. */
  elsewhere: { index: number; count: number }[];
}

export interface Tunnel {
  link: string;
  alias: string;
  vni: number;
  udp_port: number;
  /** Underlay address of this host, and of every other member. */
  local: string;
  remotes: string[];
  /** How many MACs it learns the host of. Frames for other MACs go to all hosts of the segment. */
  addresses_max: number;
}

export function planSegment(
  experiment: string,
  segment: Segment,
  host: string,
  links: ReadonlyMap<string, Link>,
): Result<BridgePlan, MtError> {
  const { id, delay_ms, rate_mbit, loss } = segment;
  const others = (segment.members ?? []).filter((m) => m.host !== host);
  const plan: BridgePlan = {
    id,
    bridge: bridgeName(experiment, id),
    alias: linkAlias(experiment, "segment", id),
    mtu: segment.mtu ?? MTU_USUAL,
    tunnelName: vxlanName(experiment, id),
    delay_ms: delay_ms || undefined,
    rate_mbit,
    loss: loss || undefined,
    elsewhere: others.flatMap(({ index, count }) =>
      index === undefined || count === undefined ? [] : [{ index, count }],
    ),
  };
  if (others.length === 0) return ok(plan);
  const bad = (why: string, hint: string) =>
    fail<BridgePlan>("data", `Cannot build the tunnel of segment ${id}: ${why}`, hint);
  const local = segment.members?.find((m) => m.host === host)?.underlay;
  if (local === undefined)
    return bad(`its members do not say the underlay address of ${host}`, "mt-topo place HOSTS writes them");
  const remotes = new Set<string>();
  for (const m of others) {
    if (m.underlay === undefined)
      return bad(
        `its members do not say the underlay address of ${m.host}`,
        "mt-topo place HOSTS writes them",
      );
    remotes.add(m.underlay);
  }
  remotes.delete(local);
  const under = [...links.values()].find((l) => l.addresses.includes(local));
  if (!under)
    return bad(
      `this host has no address ${local}`,
      "place the plan on the hosts as they are now: mt-tree status | mt-topo place",
    );
  // A plan that mt-topo place has not closed has no MTU: this is the same on every host.
  plan.mtu = segment.mtu ?? MTU_USUAL - TUNNEL_OVERHEAD;
  const needed = plan.mtu + TUNNEL_OVERHEAD;
  if (needed > under.mtu)
    return bad(
      `its packets of ${plan.mtu} bytes and the ${TUNNEL_OVERHEAD} of the tunnel are more than ${under.ifname} takes, which has an MTU of ${under.mtu}`,
      `ip link set dev ${under.ifname} mtu ${needed}, or place the plan anew on the hosts as they are: mt-tree status --records`,
    );
  const alias = linkAlias(experiment, "tunnel", id);
  plan.tunnel = {
    link: plan.tunnelName,
    alias,
    vni: segment.vni,
    udp_port: tunnelPort(experiment),
    local,
    remotes: [...remotes],
    addresses_max: Math.max(ADDRESSES_MIN, 2 * others.reduce((sum, m) => sum + (m.count ?? 1), 0)),
  };
  return ok(plan);
}
