/**
 * What the kernel has now: the links of this network namespace, all read by one `ip -j`, and the
 * namespaces of routers. Also what mt-vnet needs of the machine: root, iproute2, util-linux.
 */
import { readdirSync } from "node:fs";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError, mtError } from "../../../shared/errors.ts";
import { findProgram, runOk } from "../../../shared/host/process.ts";

export interface PortFlags {
  /** Whether the bridge learns MACs from the frames that come in by it. */
  learning?: boolean;
  /** Whether it gets frames for MACs that the bridge does not know. */
  flood?: boolean;
  /** Which of the sixteen addresses of link-local protocols (01:80:c2:00:00:0X) are forwarded: a mask, as `0xfffd`. */
  group_fwd_mask?: string;
}

export interface Link {
  ifname: string;
  /** bridge, vxlan, tap, tun, veth; absent for hardware. */
  kind?: string;
  alias?: string;
  /** The bridge that it is a port of. */
  master?: string;
  mtu: number;
  up: boolean;
  /** A tap has it while a process has it open. */
  carrier: boolean;
  arp: boolean;
  group: string;
  /** IPv4 addresses. */
  addresses: string[];
  /** VXLAN only: identifier and UDP port. */
  vni?: number;
  udp_port?: number;
  /** Local address of a tunnel. */
  local?: string;
  /** Ports only, from `readDetails`: the queueing discipline that shapes it. */
  qdisc?: string;
  /** Ports of bridges only. */
  port?: PortFlags;
  /** Bridges only, from `readDetails`: whether it has the qdisc whose filter drops frames for the host. */
  seal?: boolean;
  /** Ports only, from `readDetails`: its static MACs. */
  macs?: string[];
  /** Tunnels only, from `readDetails`: addresses of the hosts that get frames for MACs that it does not know. */
  floods?: string[];
}

/** A link as it is once our commands have run: later batches of the same run start from it. */
export const madeLink = (link: Pick<Link, "ifname" | "kind" | "alias" | "mtu"> & Partial<Link>): Link => ({
  up: true,
  carrier: true,
  arp: true,
  group: "default",
  addresses: [],
  ...link,
});

interface IpLink {
  ifname: string;
  ifalias?: string;
  master?: string;
  mtu: number;
  flags: string[];
  group?: string;
  linkinfo?: {
    info_kind?: string;
    info_slave_kind?: string;
    info_slave_data?: PortFlags;
    info_data?: { type?: string; id?: number; port?: number; local?: string };
  };
  addr_info?: { family?: string; local?: string }[];
}

export async function readLinks(): Promise<Result<Map<string, Link>, MtError>> {
  const list = await readJson<IpLink>("ip", ["-d", "address", "show"]);
  // ip prints an empty object for a link that was removed while it listed them.
  return list.map(
    (all) => new Map(all.filter((l) => l.ifname !== undefined).map((l) => [l.ifname, linkOf(l)])),
  );
}

function linkOf(l: IpLink): Link {
  const data = l.linkinfo?.info_data;
  return {
    ifname: l.ifname,
    // A tun link without Ethernet has the same kind; it cannot be a port of a bridge.
    kind: data?.type === "tap" ? "tap" : l.linkinfo?.info_kind,
    alias: l.ifalias,
    master: l.master,
    mtu: l.mtu,
    up: l.flags.includes("UP"),
    carrier: l.flags.includes("LOWER_UP"),
    arp: !l.flags.includes("NOARP"),
    group: l.group ?? "default",
    addresses: (l.addr_info ?? []).flatMap((a) =>
      a.family === "inet" && a.local !== undefined ? [a.local] : [],
    ),
    port: l.linkinfo?.info_slave_kind === "bridge" ? l.linkinfo.info_slave_data : undefined,
    vni: data?.id,
    udp_port: data?.port,
    local: data?.local,
  };
}

/** In a tunnel's table: stands for every MAC that it does not know. */
export const ALL_ZERO = "00:00:00:00:00:00";

/**
 * Adds what only tc and bridge know: which ports are shaped, which MACs they have, where tunnels flood to. Asks
 * nothing where the experiment has no links yet.
 */
export async function readDetails(
  links: ReadonlyMap<string, Link>,
  experiment: string,
): Promise<Result<void, MtError>> {
  const ours = [...links.values()].filter((l) => isOf(experiment, l));
  if (ours.length === 0) return ok(undefined);
  const qdiscs = await readJson<{ kind: string; dev?: string; root?: boolean }>("tc", ["qdisc", "show"]);
  if (qdiscs.isErr()) return err(qdiscs.error);
  for (const { kind, dev, root } of qdiscs.value) {
    const link = links.get(dev ?? "");
    if (link && root && (kind === "tbf" || kind === "netem")) link.qdisc = kind;
    if (link && kind === "clsact") link.seal = true;
  }
  const entries = await readJson<{
    mac?: string;
    ifname?: string;
    dst?: string;
    master?: string;
    state?: string;
  }>("bridge", ["fdb", "show"]);
  if (entries.isErr()) return err(entries.error);
  for (const { mac, ifname, dst, master, state } of entries.value) {
    const link = links.get(ifname ?? "");
    if (link && mac !== undefined && master !== undefined && state === "static") (link.macs ??= []).push(mac);
    if (link && mac === ALL_ZERO && dst !== undefined) (link.floods ??= []).push(dst);
  }
  return ok(undefined);
}

async function readJson<T>(program: string, words: readonly string[]): Promise<Result<T[], MtError>> {
  const shown = await runOk(program, ["-j", ...words], { timeout_s: 120 });
  return shown.andThen(({ stdout }) => {
    try {
      return ok(JSON.parse(stdout.trim() || "[]") as T[]);
    } catch {
      return fail<T[]>(
        "failed",
        `Cannot read the state of this host: ${program} -j gave no JSON`,
        "iproute2 5.0 or newer is needed",
      );
    }
  });
}

/**
 * Whether a link that has one of our names can be used: undefined where it can; "half-made" where it has our alias
 * but is of another kind, so that it is to be made anew; else why it cannot.
 */
export function misfit(link: Link, kind: string, alias: string): "half-made" | MtError | undefined {
  if (link.kind === kind) return undefined;
  if (link.alias === alias) return "half-made";
  return mtError(
    "failed",
    `link ${link.ifname} is in the way: mt-vnet makes a ${kind} of this name, and it is ${link.kind ? `a ${link.kind}` : "hardware"}`,
    `ip link del ${link.ifname}`,
  );
}

/** The kind of link that a name of shared/names.ts says, by its first letter. */
const KIND_OF: Readonly<Record<string, string>> = { b: "bridge", x: "vxlan", t: "tap", v: "veth" };

/** Whether a link belongs to this experiment, by its alias. */
export const isOf = (experiment: string, { alias }: Link) => alias?.startsWith(`mt:${experiment}:`) === true;

/** Why a link that has one of our names is not to be removed; undefined where it has our alias, or none yet and our kind. */
export function notOurs(link: Link, experiment: string): MtError | undefined {
  if (isOf(experiment, link)) return undefined;
  if (link.alias === undefined && link.kind === KIND_OF[link.ifname[0]!]) return undefined;
  const what = link.kind ? `a ${link.kind}` : "hardware";
  return mtError(
    "failed",
    `Cannot remove link ${link.ifname}: it is ${what}${link.alias === undefined ? "" : ` with the alias ${link.alias}`}, which mt-vnet did not make`,
    `ip link del ${link.ifname}, where nobody needs it`,
  );
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
  } catch (thrown) {
    // Nobody has made a namespace yet.
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw thrown;
  }
}

/** Why mt-vnet can do nothing here; undefined where it can. */
export function whatIsMissing(): MtError | undefined {
  if (process.getuid?.() !== 0)
    return mtError("permission", "Cannot change the network: not root", "run it as root");
  for (const program of ["ip", "bridge", "tc", "nsenter"]) {
    const found = findProgram(program);
    if (found.isErr()) return found.error;
  }
  return undefined;
}
