/** Segments: a bridge each, and a VXLAN tunnel with head-end replication where other hosts have members. */
import { type MtError, mtError } from "../../../shared/errors.ts";
import { type Command, runBatch } from "../kernel/batch.ts";
import { ALL_ZERO, type Link, madeLink, misfit } from "../kernel/kernel.ts";
import { sealed, withoutIpv6 } from "../kernel/sysctl.ts";
import { portLine, sealLines } from "./seal.ts";
import type { SegmentPlan, Tunnel } from "./segment-plan.ts";

export interface SegmentState {
  id: string;
  /** Absent where the record could not be understood. */
  plan?: SegmentPlan;
  error?: MtError;
  /** Ports of guests and routers of this plan on it. */
  ports: number;
  /** Why broadcasts from it still come to this host: the kernel has not what seals its bridge. */
  unsealed?: string;
  /** The kernel would not shape a port of it. */
  unshaped?: boolean;
}

/** Makes what is missing of the segments; what fails is noted as their error. */
export async function buildSegments(
  states: readonly SegmentState[],
  links: Map<string, Link>,
): Promise<void> {
  const drop: Command[] = [];
  const create: Command[] = [];
  const set: Command[] = [];
  const fdb: Command[] = [];
  const seal: Command[] = [];
  for (const state of states) {
    const { plan } = state;
    if (!plan || state.error) continue;
    const failed = (why: string, hint?: string) => {
      state.error ??= mtError("failed", `Cannot build segment ${state.id}: ${why}`, hint);
    };
    const add = (commands: Command[], line: string) => commands.push({ line, failed });
    const { bridge, alias, mtu, tunnel } = plan;
    /** The link of this name, as far as it can be used; throws no stranger's link away. */
    const usable = (name: string, kind: string, itsAlias: string): Link | undefined => {
      const link = links.get(name);
      const wrong = link && misfit(link, kind, itsAlias);
      if (!wrong) return link;
      if (wrong === "half-made") add(drop, `link del dev ${name}`);
      else failed(wrong.message, wrong.hint);
      return undefined;
    };
    const there = usable(bridge, "bridge", alias);
    const tunnelThere = tunnel && usable(tunnel.link, "vxlan", tunnel.alias);
    if (state.error) continue;
    if (!there)
      add(
        create,
        `link add name ${bridge} mtu ${mtu} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
      );
    for (const line of sealLines(bridge, there))
      seal.push({
        line,
        failed: (why) => {
          state.unsealed = why;
        },
      });
    if (!there?.up || there.mtu !== mtu || there.alias !== alias || there.arp)
      add(set, `link set dev ${bridge} mtu ${mtu} alias ${alias} arp off up`);
    links.set(bridge, madeLink({ ifname: bridge, kind: "bridge", alias, mtu, arp: false }));
    const older = links.get(plan.tunnelName);
    // All members are on this host by now.
    if (!tunnel && older?.kind === "vxlan" && older.master === bridge) {
      add(drop, `link del dev ${older.ifname}`);
      links.delete(older.ifname);
    }
    if (tunnel) planTunnel(tunnel, plan, tunnelThere, links, failed, { drop, create, set, fdb });
  }
  // First, so that tunnels can take over each other's identifiers.
  await runBatch("ip", drop);
  await runBatch("ip", create);
  for (const { plan, error } of states) {
    if (!plan || error) continue;
    sealed(plan.bridge);
    if (plan.tunnel) withoutIpv6(plan.tunnel.link);
  }
  // A master that is not there would end the whole batch: what could not be made is left out.
  const made = new Set(
    states.filter((s) => !s.error).flatMap((s) => (s.plan ? [s.plan.bridge, s.plan.tunnel?.link] : [])),
  );
  const wanted = (c: Command) => made.has(c.line.split(" ")[c.line.split(" ").indexOf("dev") + 1]);
  await runBatch("tc", seal.filter(wanted));
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
  before: Link | undefined,
  links: Map<string, Link>,
  failed: (why: string, hint?: string) => void,
  { drop, create, set, fdb }: Record<"drop" | "create" | "set" | "fdb", Command[]>,
): void {
  const { link, alias, vni, udp_port, local, addresses_max } = tunnel;
  const { bridge, mtu } = plan;
  const add = (commands: Command[], line: string) => commands.push({ line, failed });
  let there = before;
  if (there && (there.vni !== vni || there.udp_port !== udp_port || there.local !== local)) {
    // Its ends cannot be changed while it is there.
    add(drop, `link del dev ${link}`);
    there = undefined;
  }
  if (!there)
    create.push({
      line: `link add name ${link} mtu ${mtu} type vxlan id ${vni} local ${local} dstport ${udp_port} learning maxaddress ${addresses_max}`,
      failed: (why) => {
        if (!/VNI already exists/.test(why)) return failed(why);
        const other = [...links.values()].find(
          (l) => l.ifname !== link && l.vni === vni && l.udp_port === udp_port,
        );
        const [mt, experiment] = (other?.alias ?? "").split(":");
        const owner = mt === "mt" ? `of experiment ${experiment}` : (other?.ifname ?? "of another link");
        failed(
          `its VXLAN tunnel, VNI ${vni} on UDP port ${udp_port}, collides with that ${owner} on this host`,
          `give this experiment another id (mt-topo import --id), or take the other down first`,
        );
      },
    });
  const on = there?.master === bridge ? there : undefined;
  if (there?.mtu !== mtu || there.alias !== alias || !on)
    add(set, `link set dev ${link} mtu ${mtu} alias ${alias} master ${bridge}`);
  // What the bridge does not know it gives to the tunnel, which learns where that is, up to its limit.
  const flags = portLine(link, true, on);
  if (flags !== undefined) add(set, flags);
  if (!there?.up || !on) add(set, `link set dev ${link} up`);
  // What has no known place goes to every other member, and to nobody who left the segment.
  const floods = new Set(there?.floods);
  for (const remote of tunnel.remotes)
    if (!floods.delete(remote)) add(fdb, `fdb append ${ALL_ZERO} dev ${link} dst ${remote}`);
  for (const gone of floods) add(fdb, `fdb del ${ALL_ZERO} dev ${link} dst ${gone}`);
  const ends = { vni, udp_port, local, floods: tunnel.remotes };
  links.set(link, madeLink({ ifname: link, kind: "vxlan", alias, mtu, master: bridge, ...ends }));
}
