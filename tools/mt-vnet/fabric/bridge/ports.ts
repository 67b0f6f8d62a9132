/**
 * Ports on bridges: a persistent tap for an interface of a guest, one end of a veth pair for an interface
 * of a router, whose other end is eth0, eth1, … in the router's namespace. The bridge is told each port's MAC and
 * learns none: a guest that sends from a million MACs adds no entry to its table.
 */
import { existsSync } from "node:fs";
import { mtError } from "../../../../shared/errors.ts";
import { BRIDGE_PORTS_MAX } from "../../../../shared/records/segment.ts";
import { type Command, runBatch } from "../../kernel/batch.ts";
import { type Link, madeLink, misfit, portCounts } from "../../kernel/kernel.ts";
import { withoutIpv6 } from "../../kernel/sysctl.ts";
import type { ShapedPort, Shaper } from "../../shape/shaper.ts";
import type { Port, RouterWork } from "../fabric.ts";
import { insideRouters, makeNamespaces } from "../routers.ts";
import { macCommands, notSealed, portLine } from "./seal.ts";
import type { BridgePlan } from "./segment-plan.ts";

const kindOf = (port: Port) => (port.router ? "veth" : "tap");

/** Makes what is missing of the ports, and of the routers' namespaces. */
export async function buildPorts(
  ports: readonly Port[],
  routers: readonly RouterWork[],
  plans: ReadonlyMap<string, BridgePlan>,
  links: Map<string, Link>,
  shaper: Shaper,
): Promise<void> {
  const fresh = await makeNamespaces(routers);
  const counts = portCounts(links);
  const able = ports.filter((port) => admit(port, plans.get(port.segment.id), links, counts));
  const create: Command[] = [];
  for (const port of able) {
    const { name, router, nic, mac } = port;
    const { mtu } = plans.get(port.segment.id)!;
    const there = links.get(name);
    const failed = failing(port);
    if (router && there && fresh.has(router)) {
      // One end of a pair whose other end went with its namespace: the kernel removes it now, or has done so.
      create.push({ line: `link del dev ${name}`, failed: () => {} });
      links.delete(name);
    } else if (there && misfit(there, kindOf(port), port.alias) === "half-made") {
      create.push({ line: `link del dev ${name}`, failed });
      links.delete(name);
    } else if (there) continue;
    create.push(
      router
        ? {
            line: `link add name ${name} mtu ${mtu} type veth peer name eth${nic} mtu ${mtu} address ${mac} netns ${router.netns}`,
            failed,
          }
        : { line: `tuntap add dev ${name} mode tap`, failed },
    );
  }
  if (create.some((c) => c.line.startsWith("tuntap")) && !existsSync("/dev/net/tun")) noTun(able);
  await runBatch(
    "ip",
    create.filter((c) => !c.line.startsWith("tuntap") || existsSync("/dev/net/tun")),
  );
  for (const port of able) {
    const open = withoutIpv6(port.name);
    if (open !== undefined) port.segment.unsealed ??= notSealed(open);
  }
  const set: Command[] = [];
  const table: Command[] = [];
  const shape: ShapedPort[] = [];
  for (const port of able) {
    if (port.owner.error) continue;
    const { name, alias, segment } = port;
    const plan = plans.get(segment.id)!;
    const { bridge, mtu } = plan;
    const there = links.get(name);
    const on = there?.master === bridge ? there : undefined;
    const add = (line: string) => set.push({ line, failed: failing(port) });
    if (there?.mtu !== mtu || there.alias !== alias || !on)
      add(`link set dev ${name} master ${bridge} mtu ${mtu} alias ${alias}`);
    // Where there is a tunnel, frames for MACs that the bridge does not know go into the tunnel only. Guests on other
    // hosts are such MACs: else all guests here would get every frame for them.
    const flags = portLine(name, plan.tunnel === undefined, on);
    if (flags !== undefined) add(flags);
    if (!there?.up || !on) add(`link set dev ${name} up`);
    table.push(...macCommands(name, port.mac, on, failing(port)));
    const failed = (why: string) => {
      segment.unshaped = true;
      failing(port)(why);
    };
    shape.push({ name, shape: plan, shaped: there?.qdisc !== undefined, failed });
    segment.ports++;
    links.set(name, madeLink({ ifname: name, kind: kindOf(port), alias, mtu, master: bridge }));
  }
  await runBatch("ip", set);
  await runBatch("bridge", table);
  await shaper.apply(shape);
  await insideRouters(routers, fresh);
  for (const port of able) if (port.owner.error) links.delete(port.name);
}

/** Whether the port can be made: its segment is there and has room. Errors name no member, so that ranges fold. */
function admit(
  port: Port,
  plan: BridgePlan | undefined,
  links: Map<string, Link>,
  counts: Map<string, number>,
): boolean {
  const { owner, segment, nic } = port;
  if (owner.error) return false;
  const cannot = `Cannot connect eth${nic} to segment ${segment.id}`;
  if (segment.error || !plan) {
    owner.error = mtError(
      "failed",
      `${cannot}: ${segment.error?.message ?? "it is not on this host"}`,
      segment.error?.hint,
    );
    return false;
  }
  const there = links.get(port.name);
  const wrong = there && misfit(there, kindOf(port), port.alias);
  if (wrong && wrong !== "half-made") {
    owner.error = mtError("failed", `${cannot}: ${wrong.message}`, wrong.hint);
    return false;
  }
  const { bridge } = plan;
  if (there?.master === bridge) return true;
  const count = counts.get(bridge) ?? 0;
  if (count >= BRIDGE_PORTS_MAX) {
    owner.error = mtError(
      "failed",
      `${cannot}: its bridge has ${count} ports, as many as Linux allows`,
      "use more segments, or fewer guests a segment on one host",
    );
    return false;
  }
  counts.set(bridge, count + 1);
  return true;
}

function failing({ owner, nic, segment }: Port): (why: string) => void {
  return (why) => {
    owner.error ??= mtError("failed", `Cannot connect eth${nic} to segment ${segment.id}: ${why}`);
  };
}

function noTun(ports: readonly Port[]): void {
  for (const { owner, router } of ports)
    if (!router)
      owner.error ??= mtError("unavailable", "Cannot make a tap: /dev/net/tun is missing", "modprobe tun");
}
