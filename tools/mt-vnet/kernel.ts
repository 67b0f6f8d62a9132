/**
 * What the kernel has now: the links of this network namespace, read at once by `ip -j`, and the
 * namespaces of routers. Also what must be there at all: root, iproute2, util-linux.
 */
import { readdirSync, statSync } from "node:fs";
import { ok, type Result } from "neverthrow";
import { fail, type MtError, mtError } from "../../shared/errors.ts";
import { findProgram, netnsPath, runOk } from "../../shared/process.ts";

export interface Link {
  ifname: string;
  /** bridge, vxlan, tun, veth; absent for hardware. */
  kind?: string;
  alias?: string;
  /** The bridge that it is a port of. */
  master?: string;
  mtu: number;
  up: boolean;
  arp: boolean;
  group: string;
  /** IPv4 addresses. */
  addresses: string[];
  /** VXLAN only: identifier and UDP port. */
  vni?: number;
  udp_port?: number;
  /** Local address of a tunnel. */
  local?: string;
}

interface IpLink {
  ifname: string;
  ifalias?: string;
  master?: string;
  mtu: number;
  flags: string[];
  group?: string;
  linkinfo?: { info_kind?: string; info_data?: { id?: number; port?: number; local?: string } };
  addr_info?: { family?: string; local?: string }[];
}

export async function readLinks(): Promise<Result<Map<string, Link>, MtError>> {
  const shown = await runOk("ip", ["-j", "-d", "address", "show"], { timeout_s: 120 });
  return shown.andThen(({ stdout }) => {
    let list: IpLink[];
    try {
      list = JSON.parse(stdout.trim() || "[]") as IpLink[];
    } catch {
      return fail<Map<string, Link>>(
        "failed",
        "Cannot read the links of this host: ip -j gave no JSON",
        "iproute2 5.0 or newer is needed",
      );
    }
    // ip puts out an empty object for a link that went away meanwhile.
    return ok(new Map(list.filter((l) => l.ifname !== undefined).map((l) => [l.ifname, linkOf(l)])));
  });
}

function linkOf(l: IpLink): Link {
  const data = l.linkinfo?.info_data;
  return {
    ifname: l.ifname,
    kind: l.linkinfo?.info_kind,
    alias: l.ifalias,
    master: l.master,
    mtu: l.mtu,
    up: l.flags.includes("UP"),
    arp: !l.flags.includes("NOARP"),
    group: l.group ?? "default",
    addresses: (l.addr_info ?? []).flatMap((a) =>
      a.family === "inet" && a.local !== undefined ? [a.local] : [],
    ),
    vni: data?.id,
    udp_port: data?.port,
    local: data?.local,
  };
}

/** How many ports each bridge has. */
export function portCounts(links: ReadonlyMap<string, Link>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { master } of links.values())
    if (master !== undefined) counts.set(master, (counts.get(master) ?? 0) + 1);
  return counts;
}

const NETNS_DIR = "/run/netns";

/** Names under /run/netns that begin with `prefix`. */
export function namespaces(prefix: string): string[] {
  try {
    return readdirSync(NETNS_DIR).filter((name) => name.startsWith(prefix));
  } catch {
    return [];
  }
}

/** The inode of a namespace; undefined where nothing is mounted there (a crash between file and mount). */
export function namespaceInode(name: string): number | undefined {
  try {
    const there = statSync(netnsPath(name));
    return there.dev === statSync(NETNS_DIR).dev ? undefined : there.ino;
  } catch {
    return undefined;
  }
}

/** Why nothing can be done here at all. */
export function whatIsMissing(): MtError | undefined {
  if (process.getuid?.() !== 0)
    return mtError("permission", "Cannot change the network: not root", "run it as root");
  for (const program of ["ip", "bridge", "tc", "nsenter"]) {
    const found = findProgram(program);
    if (found.isErr()) return found.error;
  }
  return undefined;
}
