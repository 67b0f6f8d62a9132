/**
 * Routers' namespaces: made in one batch, then set up from inside by one process a router: addresses,
 * forwarding, no reverse-path check (a router's ways need not be symmetric), no IPv6.
 */
import { rmSync } from "node:fs";
import { type MtError, mtError } from "../../../shared/errors.ts";
import { namespaceInode } from "../../../shared/host/netns.ts";
import { findProgram, netnsPath, run } from "../../../shared/host/process.ts";
import { parseFailures, runBatch } from "../kernel/batch.ts";
import type { SegmentState } from "./segments.ts";

/** One guest or router whose ports are made; its first error is its outcome. */
export interface Owner {
  error?: MtError;
}

export interface RouterWork {
  netns: string;
  owner: Owner;
  /** eth0, eth1, … in order: the address, and the segment that gives the MTU. */
  interfaces: { ip: string; segment: SegmentState }[];
}

/** Processes at a time: they mostly wait for the kernel's one lock on links. */
const AT_ONCE = 4;

/** Makes the namespaces that are missing; gives those that are new. */
export async function makeNamespaces(routers: readonly RouterWork[]): Promise<Set<RouterWork>> {
  const missing = routers.filter((r) => namespaceInode(r.netns) === undefined);
  // A file without a mount is what a crash in `ip netns add` leaves.
  for (const { netns } of missing) rmSync(netnsPath(netns), { force: true });
  await runBatch(
    "ip",
    missing.map(({ netns, owner }) => ({
      line: `netns add ${netns}`,
      failed: (why) => {
        owner.error ??= mtError("failed", `Cannot make namespace ${netns}: ${why}`);
      },
    })),
  );
  return new Set(missing);
}

/** The script is fixed; what comes from records goes through stdin, as lines of words. $1 is ip. */
const INSIDE = `
for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >"$f"; done
echo 1 >/proc/sys/net/ipv4/ip_forward
v6=/proc/sys/net/ipv6/conf/all/disable_ipv6
[ ! -e $v6 ] || echo 1 >$v6
exec "$1" -force -batch -`;

/** @param fresh those whose namespaces are new: there is nothing to take back in them */
export async function insideRouters(
  routers: readonly RouterWork[],
  fresh: ReadonlySet<RouterWork>,
): Promise<void> {
  const ip = findProgram("ip").unwrapOr("ip");
  const queue = routers.filter((r) => !r.owner.error);
  const worker = async () => {
    for (let router = queue.shift(); router; router = queue.shift())
      await inside(router, ip, fresh.has(router));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

async function inside(router: RouterWork, ip: string, fresh: boolean): Promise<void> {
  const { netns, owner, interfaces } = router;
  const lines = ["link set dev lo up", ...(fresh ? [] : await leftovers(router))];
  for (const [nic, { ip: address, segment }] of interfaces.entries())
    lines.push(
      `address replace ${address} dev eth${nic}`,
      `link set dev eth${nic} mtu ${segment.plan!.mtu} up`,
    );
  const done = await run("sh", ["-c", INSIDE, "sh", ip], { netns, input: `${lines.join("\n")}\n` });
  const cannot = `Cannot set up namespace ${netns}`;
  if (done.isErr())
    owner.error ??= mtError(done.error.code, `${cannot}: ${done.error.message}`, done.error.hint);
  else if (done.value.code !== 0) {
    const { lines: failed, rest } = parseFailures(done.value.stderr);
    const [first] = failed;
    const why = first
      ? `${lines[first[0] - 1]}: ${first[1]}`
      : (rest ?? done.value.stderr.trim().split("\n").pop());
    owner.error ??= mtError("failed", `${cannot}: ${why}`);
  }
}

/**
 * What takes back what an older plan gave: interfaces after the router's last, and the addresses of an interface
 * that has not yet the one of the plan. Addresses beside the plan's own were added by hand, and stay.
 */
async function leftovers({ netns, interfaces }: RouterWork): Promise<string[]> {
  const shown = await run("ip", ["-j", "address", "show"], { netns });
  if (shown.isErr() || shown.value.code !== 0) return [];
  const lines: string[] = [];
  for (const { ifname = "", addr_info = [] } of JSON.parse(shown.value.stdout || "[]") as Shown[]) {
    const nic = /^eth(\d+)$/.exec(ifname)?.[1];
    if (nic === undefined) continue;
    const wanted = interfaces[Number(nic)]?.ip;
    if (wanted === undefined) lines.push(`link del dev ${ifname}`);
    const there = addr_info.filter((a) => a.family === "inet").map((a) => `${a.local}/${a.prefixlen}`);
    if (wanted !== undefined && !there.includes(wanted))
      for (const address of there) lines.push(`address del ${address} dev ${ifname}`);
  }
  return lines;
}

interface Shown {
  ifname?: string;
  addr_info?: { family: string; local?: string; prefixlen?: number }[];
}
