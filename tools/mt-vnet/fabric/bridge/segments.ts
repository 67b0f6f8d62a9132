/** Segments: a bridge each, and a VXLAN tunnel with head-end replication where other hosts have members. */
import { mtError } from "../../../../shared/errors.ts";
import { type Command, runBatch } from "../../kernel/batch.ts";
import { ALL_ZERO, type Link, madeLink, misfit } from "../../kernel/kernel.ts";
import { sealed, withoutIpv6 } from "../../kernel/sysctl.ts";
import type { SegmentState } from "../fabric.ts";
import { notSealed, portLine, sealLines } from "./seal.ts";
import type { BridgePlan, Tunnel } from "./segment-plan.ts";

/** Makes what is missing of the segments; what fails is noted as their error. */
export async function buildSegments(
  states: readonly SegmentState[],
  plans: ReadonlyMap<string, BridgePlan>,
  links: Map<string, Link>,
): Promise<void> {
  const drop: Command[] = [];
  const create: Command[] = [];
  const set: Command[] = [];
  const fdb: Command[] = [];
  const seal: Command[] = [];
  for (const state of states) {
    const plan = plans.get(state.id);
    if (!plan || state.error) continue;
    const failed = (why: string, hint?: string) => {
      state.error ??= mtError("failed", `Cannot build segment ${state.id}: ${why}`, hint);
    };
    const add = (commands: Command[], line: string) => commands.push({ line, failed });
    const { bridge, alias, mtu, tunnel } = plan;
    /** The link of this name, where it can be used. One that mt-vnet did not make fails the segment. */
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
          state.unsealed = mtError(
            "unavailable",
            `Cannot keep broadcasts of guests from this host: ${why}`,
            "the kernel needs clsact and cls_bpf: modprobe -a sch_ingress cls_bpf",
          );
        },
      });
    if (!there?.up || there.mtu !== mtu || there.alias !== alias || there.arp)
      add(set, `link set dev ${bridge} mtu ${mtu} alias ${alias} arp off up`);
    links.set(bridge, madeLink({ ifname: bridge, kind: "bridge", alias, mtu, arp: false }));
    const older = links.get(plan.tunnelName);
    // An older plan had members on other hosts; now all are here.
    if (!tunnel && older?.kind === "vxlan" && older.master === bridge) {
      add(drop, `link del dev ${older.ifname}`);
      links.delete(older.ifname);
    }
    if (tunnel) planTunnel(tunnel, plan, tunnelThere, links, failed, { drop, create, set, fdb });
  }
  // Removals first: a new tunnel may take the identifier of one that goes.
  await runBatch("ip", drop);
  await runBatch("ip", create);
  // A master that is not there would end the whole batch: what could not be made is left out.
  const made = new Set<string>();
  for (const state of states) {
    const plan = plans.get(state.id);
    if (!plan || state.error) continue;
    const open = sealed(plan.bridge) ?? (plan.tunnel && withoutIpv6(plan.tunnel.link));
    if (open !== undefined) state.unsealed ??= notSealed(open);
    made.add(plan.bridge);
    if (plan.tunnel) made.add(plan.tunnel.link);
  }
  const wanted = (c: Command) => made.has(c.line.split(" ")[c.line.split(" ").indexOf("dev") + 1]!);
  await runBatch("tc", seal.filter(wanted));
  await runBatch("ip", set.filter(wanted));
  await runBatch("bridge", fdb.filter(wanted));
  for (const state of states) {
    const plan = plans.get(state.id);
    if (!plan || !state.error) continue;
    links.delete(plan.bridge);
    if (plan.tunnel) links.delete(plan.tunnel.link);
  }
}

function planTunnel(
  tunnel: Tunnel,
  plan: BridgePlan,
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
    // The ends of a tunnel cannot be changed: it is made anew.
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
  // Frames for MACs that the bridge does not know go to the tunnel, which learns their hosts, up to its limit.
  const flags = portLine(link, true, on);
  if (flags !== undefined) add(set, flags);
  if (!there?.up || !on) add(set, `link set dev ${link} up`);
  // Frames for MACs that the tunnel does not know go to every other member, and to no host that left the segment.
  const floods = new Set(there?.floods);
  for (const remote of tunnel.remotes)
    if (!floods.delete(remote)) add(fdb, `fdb append ${ALL_ZERO} dev ${link} dst ${remote}`);
  for (const gone of floods) add(fdb, `fdb del ${ALL_ZERO} dev ${link} dst ${gone}`);
  const ends = { vni, udp_port, local, floods: tunnel.remotes };
  links.set(link, madeLink({ ifname: link, kind: "vxlan", alias, mtu, master: bridge, ...ends }));
}
