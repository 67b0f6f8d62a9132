/**
 * Hosts of `--via local`: network namespaces on a bridge, which stands for the cluster's network. The bridge has a
 * namespace of its own, so that two clusters and the machine's own network do not touch each other.
 */
import { rmdirSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { formatIp } from "../../../../shared/addresses.ts";
import { fail, type MtError } from "../../../../shared/errors.ts";
import { releaseAllLeases } from "../../../../shared/host/lease.ts";
import { lock, startTime } from "../../../../shared/host/lock.ts";
import {
  clusterNamespace,
  hostNamespace,
  leaseDir,
  leaseHoldersOf,
  localRunDir,
  localStateDir,
  routerNamespacePrefix,
} from "../../../../shared/host/names.ts";
import { findProgram, run, runOk, waitFor } from "../../../../shared/host/process.ts";
import { removeOwn } from "../../../../shared/own-place.ts";
import type { TreeHost } from "../../node/tree-file.ts";
import { UNDERLAY_MTU } from "./mtu.ts";

/** 10.254.0.0/16 is the cluster's network: hosts count up from .0.1, the head is at the top. */
const NETWORK = 10 * 2 ** 24 + 254 * 2 ** 16;
export const HEAD_ADDR = formatIp(NETWORK + 0xfffe);
const HOSTS_MAX = 60_000;
const BRIDGE = "net0";
/** How much of the machine's memory the hosts share. */
const MEMORY_SHARE = 0.9;

/** The hosts by name, each with its share of this machine; those of an earlier `up` keep their addresses. */
export function shareOut(names: string[], known: readonly TreeHost[]): Result<TreeHost[], MtError> {
  const all = [...new Set([...known.map((h) => h.id), ...names])];
  if (all.length > HOSTS_MAX)
    return fail("usage", `Cannot make ${all.length} hosts on one machine: ${HOSTS_MAX} at most`);
  const cores = Math.max(1, Math.floor(availableParallelism() / all.length));
  const mem_mib = Math.max(1, Math.floor((totalmem() / 2 ** 20) * (MEMORY_SHARE / all.length)));
  const mtus = new Map(known.map((h) => [h.id, h.mtu]));
  return ok(all.map((id, k) => ({ id, addr: formatIp(NETWORK + 1 + k), cores, mem_mib, mtu: mtus.get(id) })));
}

async function namespaces(): Promise<Result<Set<string>, MtError>> {
  const list = await runOk("ip", ["netns", "list"]);
  return list.map(({ stdout }) => new Set(stdout.split("\n").map((l) => l.split(" ")[0]!)));
}

/** Lets one tree at a time make hosts: two that check at once whether a name is free would both find it so. */
export async function lockHosts(): Promise<Result<() => void, MtError>> {
  // Without root no hosts can be made; mayMakeHosts says so.
  if (process.getuid?.() !== 0) return ok(() => {});
  const unlock = await lock(join(leaseDir(), "hosts.lock"), "mt-tree up", 120);
  return unlock.map((release) => () => {
    release();
    try {
      rmdirSync(leaseDir());
    } catch {
      // Not empty: there are leases, or others wait for the lock.
    }
  });
}

/** Whether these hosts can be made here and are not another tree's; called before the tree's file names them. */
export async function mayMakeHosts(
  hosts: readonly TreeHost[],
  earlier: readonly TreeHost[],
): Promise<Result<void, MtError>> {
  if (process.getuid?.() !== 0)
    return fail("permission", "Cannot make hosts: network namespaces need root", "run it as root");
  for (const program of ["ip", "nsenter"]) {
    const found = findProgram(program);
    if (found.isErr()) return err(found.error);
  }
  const there = await namespaces();
  if (there.isErr()) return err(there.error);
  for (const h of hosts)
    if (there.value.has(hostNamespace(h.id)) && !earlier.some((e) => e.id === h.id))
      return fail(
        "busy",
        `Cannot make host ${h.id}: namespace ${hostNamespace(h.id)} is there and is not of this tree`,
        `another tree has it; if nobody uses it: ip netns del ${hostNamespace(h.id)}`,
      );
  return ok(undefined);
}

/**
 * Makes what is missing of the bridge, the namespaces and the links between them.
 * @param mtus by host, what links that are there already are to have from now on
 */
export async function makeHosts(
  hosts: TreeHost[],
  mtus: ReadonlyMap<string, number>,
): Promise<Result<void, MtError>> {
  const listed = await namespaces();
  if (listed.isErr()) return err(listed.error);
  const there = listed.value;
  const net = clusterNamespace();
  const missing = hosts.filter((h) => !there.has(hostNamespace(h.id)));
  const add: string[] = [];
  if (!there.has(net)) add.push(`netns add ${net}`);
  for (const h of missing) add.push(`netns add ${hostNamespace(h.id)}`);
  if (add.length > 0) {
    const made = await runOk("ip", ["-batch", "-"], { input: `${add.join("\n")}\n`, timeout_s: 120 });
    if (made.isErr()) return err(made.error);
  }
  if (!there.has(net)) {
    const bridge = [
      `link add ${BRIDGE} type bridge stp_state 0 forward_delay 0`,
      `addr add ${HEAD_ADDR}/16 dev ${BRIDGE}`,
      `link set ${BRIDGE} up`,
      "link set lo up",
    ];
    const made = await runOk("ip", ["-batch", "-"], { input: `${bridge.join("\n")}\n`, netns: net });
    if (made.isErr()) return err(made.error);
  }
  // A crash may have left a namespace without its link, so the kernel is asked which links there are.
  const links = await runOk("ip", ["-o", "link", "show"], { netns: net });
  if (links.isErr()) return err(links.error);
  const ports = new Set([...links.value.stdout.matchAll(/^\d+: ([^@:]+)/gm)].map((m) => m[1]!));
  const wire: string[] = [];
  for (const [k, h] of hosts.entries()) {
    const port = `p${k}`;
    if (ports.has(port) && !missing.includes(h)) continue;
    if (ports.has(port)) wire.push(`link del ${port}`);
    // Its link may lead to an earlier network whose namespace has lost its name.
    else if (!missing.includes(h)) await run("ip", ["-n", hostNamespace(h.id), "link", "del", "eth0"]);
    const mtu = h.mtu ?? UNDERLAY_MTU;
    wire.push(
      `link add ${port} mtu ${mtu} master ${BRIDGE} up type veth peer name eth0 mtu ${mtu} netns ${hostNamespace(h.id)}`,
    );
    if (!missing.includes(h)) missing.push(h);
  }
  for (const [k, h] of hosts.entries())
    if (mtus.has(h.id) && !missing.includes(h)) wire.push(`link set p${k} mtu ${mtus.get(h.id)}`);
  // The head takes the largest packets that any host can send. To a host the bridge forwards only what its port takes.
  const widest = Math.max(...hosts.map((h) => h.mtu ?? UNDERLAY_MTU));
  if (wire.length > 0) wire.push(`link set ${BRIDGE} mtu ${widest}`);
  if (wire.length > 0) {
    const made = await runOk("ip", ["-batch", "-"], {
      input: `${wire.join("\n")}\n`,
      netns: net,
      timeout_s: 120,
    });
    if (made.isErr()) return err(made.error);
  }
  for (const h of hosts) {
    if (!missing.includes(h) && !mtus.has(h.id)) continue;
    const made = await runOk("ip", ["-batch", "-"], {
      input: `${insideOf(h).join("\n")}\n`,
      netns: hostNamespace(h.id),
    });
    if (made.isErr()) return err(made.error);
  }
  return ok(undefined);
}

/**
 * Repairs the network of hosts, as `makeHosts` made it: somebody may have set a link down, or removed an address.
 * @param all hosts of the tree, in their order
 */
export async function mendHosts(all: TreeHost[], hosts: TreeHost[]): Promise<Result<void, MtError>> {
  const outside = [`addr replace ${HEAD_ADDR}/16 dev ${BRIDGE}`, `link set ${BRIDGE} up`, "link set lo up"];
  for (const h of hosts) outside.push(`link set p${all.indexOf(h)} master ${BRIDGE} up`);
  const batches: [string, string[]][] = [[clusterNamespace(), outside]];
  for (const h of hosts) batches.push([hostNamespace(h.id), insideOf(h)]);
  for (const [netns, lines] of batches) {
    const made = await runOk("ip", ["-batch", "-"], { input: `${lines.join("\n")}\n`, netns });
    if (made.isErr()) return err(made.error);
  }
  return ok(undefined);
}

/** What is set inside a host. */
const insideOf = (h: TreeHost) => [
  `link set eth0 mtu ${h.mtu ?? UNDERLAY_MTU}`,
  `addr replace ${h.addr}/16 dev eth0`,
  "link set eth0 up",
  "link set lo up",
];

/**
 * The hosts on the network of this MT_RUN's cluster, in their order, as the kernel has them.
 * @param some also where some of them are gone
 */
export async function wiredHosts(some = false): Promise<Result<TreeHost[], MtError>> {
  const there = await namespaces();
  if (there.isErr()) return err(there.error);
  if (!there.value.has(clusterNamespace())) return ok([]);
  const links = await runOk("ip", ["-o", "link", "show", "type", "veth"], { netns: clusterNamespace() });
  return links.andThen(({ stdout }) => {
    const wired = [...stdout.matchAll(/^\d+: p(\d+)@.*/gm)].map(([line, k]) => ({
      k: Number(k),
      id: /\blink-netns mt-(\S+)/.exec(line)?.[1],
    }));
    wired.sort((a, b) => a.k - b.k);
    const lost = wired.find(({ k, id }, i) => k !== i || id === undefined);
    if (lost && !some)
      return fail(
        "data",
        `Cannot make the tree again from what is there: the host at port p${lost.k} of its network is gone`,
        "mt-tree down removes what is left",
      );
    return shareOut(
      wired.flatMap(({ id }) => id ?? []),
      [],
    );
  });
}

/** Ends whatever runs in these namespaces: SIGTERM, a second, SIGKILL. */
async function endInside(names: string[]): Promise<void> {
  const pids = async () => {
    const inside: number[] = [];
    for (const name of names) {
      const listed = await run("ip", ["netns", "pids", name]);
      if (listed.isOk()) inside.push(...listed.value.stdout.split("\n").filter(Boolean).map(Number));
    }
    return inside.filter((pid) => pid !== process.pid && startTime(pid) !== undefined);
  };
  for (const [signal, wait_s] of [
    ["SIGTERM", 1],
    ["SIGKILL", 10],
  ] as const) {
    for (const pid of await pids()) {
      try {
        process.kill(pid, signal);
      } catch {}
    }
    if (await waitFor(async () => ((await pids()).length === 0 ? true : undefined), wait_s, 50)) return;
  }
}

/** Removes hosts: ends their processes and those of their routers, then removes namespaces, leases and directories. */
export async function removeHosts(hosts: readonly Pick<TreeHost, "id">[]): Promise<Result<void, MtError>> {
  const listed = await namespaces();
  if (listed.isErr()) return err(listed.error);
  const there = listed.value;
  const prefixes = hosts.map((h) => routerNamespacePrefix(h.id));
  const own = hosts.map((h) => hostNamespace(h.id));
  const doomed = [...there].filter((n) => own.includes(n) || prefixes.some((p) => n.startsWith(p)));
  const net = clusterNamespace();
  if (there.has(net)) doomed.push(net);
  await endInside(doomed);
  if (doomed.length > 0) {
    const gone = await runOk("ip", ["-force", "-batch", "-"], {
      input: doomed.map((n) => `netns del ${n}\n`).join(""),
      timeout_s: 120,
    });
    if (gone.isErr()) return err(gone.error);
  }
  const released = await releaseAllLeases((holder) =>
    hosts.some((h) => holder.startsWith(leaseHoldersOf(localRunDir(h.id)))),
  );
  if (released.isErr()) return err(released.error);
  for (const h of hosts) {
    removeOwn(localRunDir(h.id));
    removeOwn(localStateDir(h.id));
  }
  return ok(undefined);
}

/** The environment of a host's agent, and of every command on it. */
export function hostEnvironment(host: string, binDir: string | undefined): NodeJS.ProcessEnv {
  const path = process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin";
  return {
    HOME: "/root",
    LANG: "C.UTF-8",
    PATH: binDir ? `${binDir}:${path}` : path,
    MT_HOST: host,
    MT_RUN: localRunDir(host),
    MT_STATE: localStateDir(host),
    ...(process.env.MT_LEASES ? { MT_LEASES: process.env.MT_LEASES } : {}),
  };
}
