/**
 * Routers' namespaces: made in one batch, then set up from inside by one process a router: addresses,
 * forwarding, no reverse-path filtering (routes need not be symmetric), no IPv6.
 */
import { rmSync } from "node:fs";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError, mtError } from "../../../shared/errors.ts";
import { namespaceInode } from "../../../shared/host/netns.ts";
import { findProgram, netnsPath, run, runOk } from "../../../shared/host/process.ts";
import { parseFailures, runBatch } from "../kernel/batch.ts";
import type { RouterWork } from "./fabric.ts";

/** Processes at a time: they mostly wait for the kernel's lock on links (RTNL). */
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

/** The script is fixed; what comes from records goes through stdin, as lines for ip, which is $1. */
const INSIDE = `
for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >"$f"; done
v4=/proc/sys/net/ipv4/ip_forward
[ "$(cat $v4)" = 1 ] || echo 1 >$v4 || exit
v6=/proc/sys/net/ipv6/conf/all/disable_ipv6
[ ! -e $v6 ] || echo 1 >$v6
exec "$1" -force -batch -`;

/** @param fresh those whose namespaces are new: an older plan left nothing in them */
export async function insideRouters(
  routers: readonly RouterWork[],
  fresh: ReadonlySet<RouterWork>,
): Promise<void> {
  // Fabric.missing() has seen that it is there.
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
  const cannot = `Cannot set up namespace ${netns}`;
  const old = fresh ? ok([]) : await leftovers(router);
  if (old.isErr()) {
    owner.error ??= mtError(old.error.code, `${cannot}: ${old.error.message}`, old.error.hint);
    return;
  }
  const lines = ["link set dev lo up", ...old.value];
  for (const [nic, { ip: address, segment }] of interfaces.entries())
    lines.push(
      `address replace ${address} dev eth${nic}`,
      `link set dev eth${nic} mtu ${segment.plan!.mtu} up`,
    );
  const done = await run("sh", ["-c", INSIDE, "sh", ip], { netns, input: `${lines.join("\n")}\n` });
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
 * Lines that remove what an older plan gave: interfaces after the router's last, and the addresses of an interface
 * that does not have the plan's yet. Addresses beside the plan's own were added by hand, and stay.
 */
async function leftovers({ netns, interfaces }: RouterWork): Promise<Result<string[], MtError>> {
  const read = await runOk("ip", ["-j", "address", "show"], { netns });
  if (read.isErr()) return err(read.error);
  let shown: Shown[];
  try {
    shown = JSON.parse(read.value.stdout || "[]");
  } catch {
    return fail("failed", "ip -j gave no JSON", "iproute2 5.0 or newer is needed");
  }
  const lines: string[] = [];
  for (const { ifname = "", addr_info = [] } of shown) {
    const nic = /^eth(\d+)$/.exec(ifname)?.[1];
    if (nic === undefined) continue;
    const wanted = interfaces[Number(nic)]?.ip;
    if (wanted === undefined) lines.push(`link del dev ${ifname}`);
    const there = addr_info.filter((a) => a.family === "inet").map((a) => `${a.local}/${a.prefixlen}`);
    if (wanted !== undefined && !there.includes(wanted))
      for (const address of there) lines.push(`address del ${address} dev ${ifname}`);
  }
  return ok(lines);
}

interface Shown {
  ifname?: string;
  addr_info?: { family: string; local?: string; prefixlen?: number }[];
}
