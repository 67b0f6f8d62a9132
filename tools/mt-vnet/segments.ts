/** Segments: a bridge each, and a VXLAN tunnel with head-end replication where other hosts have members. */
import { type MtError, mtError } from "../../shared/errors.ts";
import { type Command, runBatch } from "./batch.ts";
import type { Link } from "./kernel.ts";
import type { SegmentPlan, Tunnel } from "./segment-plan.ts";
import { sealed, withoutIpv6 } from "./sysctl.ts";

export interface SegmentState {
  id: string;
  /** Absent where the record could not be understood. */
  plan?: SegmentPlan;
  error?: MtError;
  /** Ports of guests and routers of this plan on it. */
  ports: number;
}

const ALL_ZERO = "00:00:00:00:00:00";

/** Makes what is missing of the segments; what fails is noted as their error. */
export async function buildSegments(
  states: readonly SegmentState[],
  links: Map<string, Link>,
): Promise<void> {
  const create: Command[] = [];
  const set: Command[] = [];
  const fdb: Command[] = [];
  for (const state of states) {
    const { plan } = state;
    if (!plan || state.error) continue;
    const failed = (why: string) => {
      state.error ??= mtError("failed", `Cannot build segment ${state.id}: ${why}`);
    };
    const add = (commands: Command[], line: string) => commands.push({ line, failed });
    const { bridge, alias, mtu, tunnel } = plan;
    const there = links.get(bridge);
    if (!there)
      add(
        create,
        `link add name ${bridge} mtu ${mtu} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
      );
    if (!there?.up || there.mtu !== mtu || there.alias !== alias || there.arp)
      add(set, `link set dev ${bridge} mtu ${mtu} alias ${alias} arp off up`);
    links.set(bridge, {
      ifname: bridge,
      kind: "bridge",
      alias,
      mtu,
      up: true,
      arp: false,
      group: "default",
      addresses: [],
    });
    if (tunnel) planTunnel(tunnel, plan, links, add, { create, set, fdb });
  }
  await runBatch("ip", create);
  for (const { plan } of states) {
    if (!plan) continue;
    sealed(plan.bridge);
    if (plan.tunnel) withoutIpv6(plan.tunnel.link);
  }
  // A master that is not there would end the whole batch: what could not be made is left out.
  const made = new Set(
    states.filter((s) => !s.error).flatMap((s) => (s.plan ? [s.plan.bridge, s.plan.tunnel?.link] : [])),
  );
  const wanted = (c: Command) => made.has(c.line.split(" ")[c.line.split(" ").indexOf("dev") + 1]);
  await runBatch("ip", set.filter(wanted));
  await runBatch("bridge", fdb.filter(wanted));
  for (const { plan, error } of states) {
    if (!plan || !error) continue;
    links.delete(plan.bridge);
    if (plan.tunnel) links.delete(plan.tunnel.link);
  }
}

function planTunnel(
  tunnel: Tunnel,
  plan: SegmentPlan,
  links: Map<string, Link>,
  add: (commands: Command[], line: string) => void,
  { create, set, fdb }: { create: Command[]; set: Command[]; fdb: Command[] },
): void {
  const { link, alias, vni, udp_port, local } = tunnel;
  const { bridge, mtu } = plan;
  let there = links.get(link);
  if (there && (there.vni !== vni || there.udp_port !== udp_port || there.local !== local)) {
    // Its ends cannot be changed while it is there.
    add(create, `link del dev ${link}`);
    there = undefined;
  }
  if (!there)
    add(
      create,
      `link add name ${link} mtu ${mtu} type vxlan id ${vni} local ${local} dstport ${udp_port} learning`,
    );
  if (!there?.up || there.mtu !== mtu || there.alias !== alias || there.master !== bridge)
    add(set, `link set dev ${link} mtu ${mtu} alias ${alias} master ${bridge} up`);
  // What has no known place goes to every other member; `append` leaves alone what is there.
  for (const remote of tunnel.remotes) add(fdb, `fdb append ${ALL_ZERO} dev ${link} dst ${remote}`);
  links.set(link, {
    ifname: link,
    kind: "vxlan",
    alias,
    master: bridge,
    mtu,
    up: true,
    arp: true,
    group: "default",
    addresses: [],
    vni,
    udp_port,
    local,
  });
}
