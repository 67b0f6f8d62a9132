/**
 * mt-tree up: makes the hosts, starts the head and the agents, waits until all have joined. What is there
 * is left alone, what is missing or dead is made: the same command heals.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ok, type Result } from "neverthrow";
import { parseIp } from "../../shared/addresses.ts";
import { numberArg } from "../../shared/cli/parse.ts";
import type { Invocation } from "../../shared/cli/start.ts";
import { complain } from "../../shared/cli/start.ts";
import { inform } from "../../shared/cli/stderr.ts";
import { EXIT, fail, type MtError, mtError, orThrow } from "../../shared/errors.ts";
import { clusterNamespace, treeDir, treeSocket } from "../../shared/names.ts";
import { namedHosts } from "../../shared/nodeset-groups.ts";
import { cleanEnv, endProcess, waitFor } from "../../shared/process.ts";
import { LineWriter } from "../../shared/stream/writer.ts";
import { issue, issuePass, makeAuthority } from "./authority.ts";
import { RELEASE } from "./binary.ts";
import { oldAgent } from "./bootstrap.ts";
import { type Probed, TreeClient } from "./client.ts";
import type { HostStatus } from "./messages.ts";
import type { Place } from "./node.ts";
import { PROBE_MS } from "./status.ts";
import { ancestorsOf, lockTree, readTree, type TreeFile, type TreeHost, writeTree } from "./tree-file.ts";
import { type Way, type WayName, wayOf } from "./via.ts";
import { nodeRuns, startNode } from "./via-local.ts";

/** No id of a host has parentheses: none gets a certificate in the head's name. */
const HEAD = "(head)";

export async function up(invocation: Invocation): Promise<number> {
  const { args } = invocation;
  const fanout = orThrow(numberArg(args, "fanout", { min: 1, max: 1024 }));
  const port = orThrow(numberArg(args, "port", { min: 1, max: 65535 }));
  const timeout_s = orThrow(numberArg(args, "timeout", { min: 1 }));
  const silence_ms = orThrow(numberArg(args, "silence", { min: 1 })) * 1000;
  const unlock = orThrow(await lockTree("mt-tree up"));
  try {
    const earlier = readTree();
    const via = earlier?.via ?? (String(args.via) as WayName);
    const upgrade = args.upgrade === true;
    const ssh = via === "ssh" ? String(args.ssh ?? earlier?.ssh ?? "ssh") : undefined;
    const no_port = earlier ? earlier.no_port : via === "ssh" && args["no-port"] === true;
    const way = await wayOf(via, {
      ssh,
      head: args.head === undefined ? undefined : String(args.head),
      timeout_s,
      no_port,
      mtu: invocation.lists.mtu,
      upgrade,
      progress: args.progress === true,
    });
    // "local" is also what is meant where nothing is said: a tree that is here keeps its own way.
    if (earlier && args.via !== "local" && args.via !== via)
      return complain(
        invocation.tool,
        mtError(
          "busy",
          `Cannot bring up a tree --via ${args.via}: the one that is here is --via ${via}`,
          "mt-tree down first; another MT_RUN has another tree",
        ),
      );
    orThrow(onlyForSsh(args, via));
    if (args.mtu !== undefined && via !== "local")
      orThrow(
        fail("usage", `Cannot use --mtu with --via ${via}: it is for the hosts that --via local makes`),
      );
    if (args.hosts === undefined && !earlier && !way.knowsHosts)
      return complain(
        invocation.tool,
        mtError(
          "usage",
          "Cannot bring up the tree: no hosts are named, and none is here to mend",
          "mt-tree up 'kn[1-4]' --via local",
        ),
      );
    const names = args.hosts === undefined ? [] : orThrow(namedHosts(String(args.hosts)));
    const { hosts, head, listen, failed = new Map() } = orThrow(await way.hosts(names, earlier));
    const tree: TreeFile = earlier
      ? { ...earlier, hosts, ssh }
      : {
          via,
          fanout,
          port,
          silence_ms,
          head: { name: HEAD, addr: head, listen },
          ssh,
          no_port,
          authority: await makeAuthority(clusterNamespace()),
          hosts,
        };
    if (
      earlier &&
      args.hosts !== undefined &&
      (earlier.fanout !== fanout || earlier.port !== port || earlier.silence_ms !== silence_ms)
    )
      inform(
        `the tree that is here keeps fanout ${earlier.fanout}, port ${earlier.port}, silence ${earlier.silence_ms / 1000} s: mt-tree down first to change them`,
      );
    if (hosts.length === 0) return printHosts(tree, way, [], failed, timeout_s);
    const unlockHosts = orThrow((await way.lock?.()) ?? ok(() => {}));
    try {
      // A tree file with another tree's hosts would make our `down` take them away.
      orThrow(await way.may(tree, earlier));
      // Before anything is made: down must find it, whatever happens now.
      writeTree(tree);
      orThrow(await way.make(tree));
    } finally {
      unlockHosts();
    }
    orThrow(await startHead(tree, way, upgrade));
    const client = orThrow(await reachHead(tree, timeout_s, invocation.signal));
    const present = new Set(orThrow(await client.list()).flatMap((h) => (h.present ? [h.host] : [])));
    const old = (h: TreeHost) => h.release !== undefined && h.release !== RELEASE;
    const missing = tree.hosts.flatMap((h, k) => (present.has(h.id) && !(upgrade && old(h)) ? [] : [k]));
    for (const h of tree.hosts)
      if (present.has(h.id) && old(h) && !upgrade) failed.set(h.id, oldAgent(h.id, h.release!));
    const all = places(tree);
    const starts = await Promise.all(missing.map((k) => agentStart(tree, all, k)));
    const notStarted = await way.start(tree, starts, invocation.signal);
    for (const { host } of starts) {
      const error = notStarted.get(host.id);
      if (error) failed.set(host.id, error);
      else if (via === "ssh") host.release = RELEASE;
    }
    writeTree(tree);
    // One that failed is still a host of the tree: it is missing, and status says so.
    client.expect(
      all,
      tree.hosts.flatMap((h) => (failed.has(h.id) ? [] : [h.id])),
    );
    const status = orThrow(await waitForHosts(client, failed, timeout_s, invocation.signal));
    const there = status.flatMap((h) => (h.present ? [h.host] : []));
    const probed = await client.probe(there, PROBE_MS);
    client.close();
    return printHosts(tree, way, status, failed, timeout_s, probed);
  } finally {
    unlock();
  }
}

/** Flags that another way would pass over: a tree of namespaces is not what `--no-port` asks for. */
function onlyForSsh(args: Invocation["args"], via: WayName): Result<void, MtError> {
  const given = ["head", "no-port", "upgrade"].find((f) => args[f] !== undefined && args[f] !== false);
  if (via !== "ssh" && given !== undefined)
    return fail("usage", `Cannot use --${given} with --via ${via}: it is for --via ssh`);
  if (args.head !== undefined && parseIp(String(args.head)).isErr())
    return fail("usage", `Cannot use --head ${JSON.stringify(args.head)}: expected an IPv4 address`);
  return ok(undefined);
}

/** A host that is the head's machine too takes the port after the head's. */
const places = (tree: TreeFile): Place[] =>
  tree.hosts.map((h) => ({
    name: h.id,
    addr: h.addr,
    port: h.addr === tree.head.addr ? tree.port + 1 : tree.port,
  }));

async function startHead(tree: TreeFile, way: Way, upgrade: boolean): Promise<Result<void, MtError>> {
  const config = join(treeDir(), "head.json");
  const { name, addr, listen = addr, release } = tree.head;
  const end = () => endProcess(Number(readFileSync(join(treeDir(), "head.pid"), "utf8")), config);
  if (nodeRuns(config) && !existsSync(treeSocket())) {
    // Somebody has taken its socket away: nobody can talk to it any more.
    await end();
  } else if (nodeRuns(config)) {
    if (tree.via !== "ssh" || release === RELEASE) return ok(undefined);
    if (!upgrade)
      return fail(
        "data",
        `Cannot use the tree: its head is of another release than this mt-tree (${release})`,
        "mt-tree up --upgrade starts head and agents anew; what runs on them now is ended",
      );
    await end();
  }
  tree.head.release = RELEASE;
  writeTree(tree);
  const links = way.links?.(tree);
  return startNode(
    config,
    {
      self: { name, addr: listen, port: tree.port },
      identity: links ? undefined : await issue(tree.authority, name),
      links,
      silence_ms: tree.silence_ms,
      ancestors: [],
      socket: treeSocket(),
      hosts: places(tree),
    },
    way.headNamespace,
    cleanEnv(),
  );
}

/** What the k-th host's agent is told; `all` are the places of the hosts. */
async function agentStart(tree: TreeFile, all: readonly Place[], k: number) {
  const host = tree.hosts[k]!;
  const above = ancestorsOf(k, tree.fanout).map((a) => all[a]!);
  return {
    host,
    config: {
      self: all[k]!,
      silence_ms: tree.silence_ms,
      identity: await issue(tree.authority, host.id),
      pass: issuePass(
        tree.authority,
        host.id,
        above.map((a) => a.name),
      ),
      ancestors: [...above, { name: tree.head.name, addr: tree.head.addr, port: tree.port }],
    },
  };
}

/** The head, once it answers, told of the hosts that it shall expect. */
async function reachHead(
  tree: TreeFile,
  timeout_s: number,
  signal: AbortSignal,
): Promise<Result<TreeClient, MtError>> {
  const client = await waitFor(
    async () => (await TreeClient.connect()).unwrapOr(undefined),
    timeout_s,
    30,
    signal,
  );
  client?.expect(places(tree));
  if (client) return ok(client);
  return fail(
    "timeout",
    `Cannot bring up the tree: its head did not answer in ${timeout_s} s`,
    `what it said last is in ${join(treeDir(), "node.log")}`,
  );
}

/** Waits until every host has joined that can, or the time is up: what is then missing is in the answer. */
async function waitForHosts(
  client: TreeClient,
  failed: ReadonlyMap<string, MtError>,
  timeout_s: number,
  signal: AbortSignal,
): Promise<Result<HostStatus[], MtError>> {
  let last = await client.list();
  const whole = (hosts: HostStatus[]) => hosts.every((h) => h.present || failed.has(h.host));
  await waitFor(
    async () => {
      if (last.isErr() || whole(last.value)) return true;
      last = await client.list();
      return undefined;
    },
    timeout_s,
    30,
    signal,
  );
  return last;
}

function printHosts(
  tree: TreeFile,
  way: Way,
  status: HostStatus[],
  failed: ReadonlyMap<string, MtError>,
  timeout_s: number,
  probed: ReadonlyMap<string, Probed> = new Map(),
): number {
  const writer = new LineWriter();
  let code: number = EXIT.ok;
  const present = new Set(status.flatMap((s) => (s.present ? [s.host] : [])));
  const known = new Set(tree.hosts.map((h) => h.id));
  for (const h of tree.hosts) {
    const mtu = probed.get(h.id)?.vitals.mtu;
    const record = { kind: "host", id: h.id, addr: h.addr, cores: h.cores, mem_mib: h.mem_mib, mtu };
    if (present.has(h.id) && !failed.has(h.id)) writer.line(JSON.stringify({ ...record, state: "up" }));
    else {
      code = EXIT.failed;
      const why =
        failed.get(h.id) ??
        mtError(
          "timeout",
          `Cannot join host ${h.id}: its agent did not come in ${timeout_s} s`,
          `what it said last is in ${way.logOf(h.id)}`,
        );
      writer.line(JSON.stringify({ ...record, state: "failed", error: { by: "mt-tree", ...why } }));
    }
  }
  // Those that could not even be found are in no tree, and still were asked for.
  for (const [id, error] of failed) {
    if (known.has(id)) continue;
    code = EXIT.failed;
    writer.line(
      JSON.stringify({
        kind: "host",
        id,
        cores: 0,
        mem_mib: 0,
        state: "failed",
        error: { by: "mt-tree", ...error },
      }),
    );
  }
  writer.flush();
  return code;
}
