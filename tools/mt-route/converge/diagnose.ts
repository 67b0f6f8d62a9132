/**
 * Why a router has not converged: the state of its OSPF neighbours, as its daemon says, and of its links, as the
 * kernel says. Names a few, whatever the number of neighbours.
 */
import { run } from "../../../shared/host/process.ts";
import type { Router } from "../../../shared/records/index.ts";
import type { Daemon } from "../engines/routers-here.ts";

const ASK_TIMEOUT_S = 10;
const NAMED_MAX = 3;

export interface Diagnosis {
  /** Clauses for a message; none where all its neighbours are in state Full. */
  says: string[];
  hint: string;
}

type Trouble = "link" | "silent" | "stuck";

const HINTS: Record<Trouble, (udp_port: number) => string> = {
  link: () => "mt-vnet up makes links anew",
  silent: (port) =>
    `is the router there up (mt-route check)? between hosts: let UDP port ${port} through, and see that the firewall of each host lets bridged packets through (FORWARD); mt-launch check HOSTS tries both`,
  stuck: () =>
    "small packets get through and large ones do not: the MTU of both ends must be the same (ip link), and the network between the hosts must carry it; mt-launch check HOSTS tries it",
};
const NO_TROUBLE =
  "its neighbours do not have them either: look at the routers named, by mt-route check on their hosts";

/** @param udp_port of the experiment's tunnels */
export async function diagnose(
  router: Router,
  { engine, dir }: Pick<Daemon, "engine" | "dir">,
  netns: string,
  udp_port: number,
): Promise<Diagnosis> {
  const [neighbours, links] = await Promise.all([
    engine.neighbours(dir),
    run("ip", ["-j", "link", "show"], { netns, timeout_s: ASK_TIMEOUT_S }),
  ]);
  if (neighbours.isErr()) return { says: [neighbours.error.message], hint: `see ${engine.log(dir)}` };
  const states = neighbours.value;
  const flags = links.isOk() ? linkFlags(links.value.stdout) : undefined;
  const troubles: { is: Trouble; says: string }[] = [];
  for (const [n, { peer }] of router.interfaces.entries()) {
    const trouble = peer === undefined ? undefined : troubleOf(`eth${n}`, peer, states, flags);
    if (trouble) troubles.push(trouble);
  }
  const says = troubles.slice(0, NAMED_MAX).map((t) => t.says);
  if (troubles.length > NAMED_MAX) says.push(`and ${troubles.length - NAMED_MAX} more neighbours`);
  const worst = (["link", "stuck", "silent"] as const).find((is) => troubles.some((t) => t.is === is));
  return { says, hint: worst === undefined ? NO_TROUBLE : HINTS[worst](udp_port) };
}

function troubleOf(
  device: string,
  peer: string,
  states: ReadonlyMap<string, string>,
  flags: ReadonlyMap<string, readonly string[]> | undefined,
): { is: Trouble; says: string } | undefined {
  const link = flags?.get(device);
  if (flags && !link) return { is: "link", says: `${device} to ${peer} is not there` };
  if (link && !link.includes("UP")) return { is: "link", says: `${device} to ${peer} is down` };
  if (link && !link.includes("LOWER_UP")) return { is: "link", says: `${device} to ${peer} has no carrier` };
  const state = states.get(device);
  if (state === "Full") return undefined;
  if (state === undefined) return { is: "silent", says: `nothing is heard from ${peer} on ${device}` };
  // Hello packets are small; database descriptions fill the MTU.
  const stuck = ["ExStart", "Exchange", "Loading"].includes(state);
  if (stuck) return { is: "stuck", says: `neighbour ${peer} on ${device} is in ${state}` };
  const oneWay = state === "Init" ? " (it is heard, and does not hear this router)" : "";
  return { is: "silent", says: `neighbour ${peer} on ${device} is in ${state}${oneWay}` };
}

function linkFlags(json: string): Map<string, readonly string[]> | undefined {
  try {
    const links = JSON.parse(json) as { ifname?: string; flags?: string[] }[];
    return new Map(links.flatMap((l) => (l.ifname === undefined ? [] : [[l.ifname, l.flags ?? []]])));
  } catch {
    return undefined;
  }
}
