/**
 * Why a router's table is not whole: the state of its OSPF neighbours as BIRD tells it over its control socket,
 * and of its links as its namespace's kernel does. A few words, whatever the number of neighbours.
 */

import { run } from "../../../shared/host/process.ts";
import { socketName } from "../../../shared/own-place.ts";
import type { Router } from "../../../shared/records/index.ts";
import type { BirdFiles } from "../engines/bird.ts";

const ASK_TIMEOUT_S = 10;
const NAMED_MAX = 3;

export interface Diagnosis {
  /** Clauses for a message; none where all its neighbours are well. */
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
const WELL =
  "its neighbours have not heard of them either: look at the routers named, mt-route check on their hosts";

/** @param udp_port of the experiment's tunnels */
export async function diagnose(
  router: Router,
  files: BirdFiles,
  netns: string,
  udp_port: number,
): Promise<Diagnosis> {
  const [told, links] = await Promise.all([
    run("birdc", ["-s", socketName(files.control), "show", "ospf", "neighbors"], {
      timeout_s: ASK_TIMEOUT_S,
      cwd: files.dir,
    }),
    run("ip", ["-j", "link", "show"], { netns, timeout_s: ASK_TIMEOUT_S }),
  ]);
  if (told.isErr() || told.value.code !== 0)
    return { says: ["BIRD does not answer on its control socket"], hint: `see ${files.log}` };
  const states = neighbourStates(told.value.stdout);
  const flags = links.isOk() ? linkFlags(links.value.stdout) : undefined;
  const troubles: { is: Trouble; says: string }[] = [];
  for (const [n, { peer }] of router.interfaces.entries()) {
    const trouble = peer === undefined ? undefined : troubleOf(`eth${n}`, peer, states, flags);
    if (trouble) troubles.push(trouble);
  }
  const says = troubles.slice(0, NAMED_MAX).map((t) => t.says);
  if (troubles.length > NAMED_MAX) says.push(`and ${troubles.length - NAMED_MAX} more neighbours`);
  const worst = (["link", "stuck", "silent"] as const).find((is) => troubles.some((t) => t.is === is));
  return { says, hint: worst === undefined ? WELL : HINTS[worst](udp_port) };
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

/** By interface, from `birdc show ospf neighbors`: `10.9.0.2  1  ExStart/PtP  9.001  eth0  10.9.0.1`. */
export function neighbourStates(text: string): Map<string, string> {
  const states = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [id, , state, , device] = line.trim().split(/\s+/);
    if (device !== undefined && /^\d+\.\d+\.\d+\.\d+$/.test(id!)) states.set(device, state!.split("/")[0]!);
  }
  return states;
}

function linkFlags(json: string): Map<string, readonly string[]> | undefined {
  try {
    const links = JSON.parse(json) as { ifname?: string; flags?: string[] }[];
    return new Map(links.flatMap((l) => (l.ifname === undefined ? [] : [[l.ifname, l.flags ?? []]])));
  } catch {
    return undefined;
  }
}
