/**
 * mt-tree up: makes the hosts, starts the head and the agents, and waits until all have joined. What runs is left alone,
 * what is missing or dead is made or started, so the same command repairs a tree.
 */
import { join } from "node:path";
import { ok, type Result } from "neverthrow";
import { parseIp } from "../../../shared/addresses.ts";
import type { ArgsOf, Run } from "../../../shared/cli/invocation.ts";
import { complain } from "../../../shared/cli/start.ts";
import { inform } from "../../../shared/cli/stderr.ts";
import { EXIT, fail, type MtError, mtError, orThrow } from "../../../shared/errors.ts";
import { startTime } from "../../../shared/host/lock.ts";
import { clusterNamespace, treeDir, treeSocket } from "../../../shared/host/names.ts";
import { cleanEnv, waitFor } from "../../../shared/host/process.ts";
import { namedHosts } from "../../../shared/nodeset/groups.ts";
import { removeOwn } from "../../../shared/own-place.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import { issue, issuePass, makeAuthority } from "../link/authority.ts";
import type { HostStatus } from "../link/messages.ts";
import type { Place } from "../link/wire.ts";
import { endNode, isStuck, lastLogLine, nodeLog, nodePid, startNode } from "../node/node-here.ts";
import {
  ancestorsOf,
  lockTree,
  openTree,
  type TreeFile,
  type TreeHost,
  writeTree,
} from "../node/tree-file.ts";
import { type Probed, TreeClient } from "../session/client.ts";
import type { spec } from "../spec.ts";
import { RELEASE } from "../via/ssh/binary.ts";
import { oldAgent } from "../via/ssh/bootstrap.ts";
import type { PlannedAgent, StartOutcome, Way } from "../via/way.ts";
import { wayOf } from "../via/ways.ts";
import { PROBE_MS } from "./status.ts";

/** The head's name. A host's id has no parentheses, so no host gets a certificate in this name. */
const HEAD = "(head)";

export const up: Run<typeof spec, "up"> = async (invocation) => {
  const { args } = invocation;
  const { fanout, port, upgrade, timeout: timeout_s } = args;
  const silence_ms = args.silence * 1000;
  const unlock = orThrow(await lockTree("mt-tree up"));
  try {
    const opened = openTree();
    if (opened.isErr() && opened.error.code !== "data") orThrow(opened);
    let earlier = opened.unwrapOr(undefined);
    const via = earlier?.via ?? args.via;
    const ssh = via === "ssh" ? (args.ssh ?? earlier?.ssh ?? "ssh") : undefined;
    const no_port = earlier ? earlier.no_port : via === "ssh" && args["no-port"];
    const way = await wayOf(via, {
      ssh,
      head: args.head,
      timeout_s,
      no_port,
      mtu: args.mtu,
      upgrade,
      progress: args.progress,
    });
    // "local" is the default, too: then a tree that is up keeps its own way.
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
    // A tree whose file is gone or damaged is made again from the hosts that are still there; its agents are started anew.
    const remains = earlier ? [] : orThrow((await way.remains?.()) ?? ok([]));
    if (remains.length === 0) orThrow(opened);
    else {
      inform(
        `the tree's file is ${opened.isOk() ? "gone" : "damaged"}: made again from ${remains.length} hosts that are here`,
      );
      earlier = await newTree(remains, "");
    }
    if (args.mtu.length > 0 && via !== "local")
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
    /** A tree with these hosts and an authority of its own. */
    async function newTree(hosts: TreeHost[], head: string, listen?: string): Promise<TreeFile> {
      return {
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
    }
    const names = args.hosts === undefined ? [] : orThrow(namedHosts(args.hosts));
    const { hosts, head, listen, failed = new Map() } = orThrow(await way.hosts(names, earlier));
    const tree: TreeFile =
      earlier && remains.length === 0 ? { ...earlier, hosts, ssh } : await newTree(hosts, head, listen);
    if (
      earlier &&
      args.hosts !== undefined &&
      (earlier.fanout !== fanout || earlier.port !== port || earlier.silence_ms !== silence_ms)
    )
      inform(
        `the tree that is here keeps fanout ${earlier.fanout}, port ${earlier.port}, silence ${earlier.silence_ms / 1000} s: mt-tree down first to change them`,
      );
    if (hosts.length === 0) return printHosts(tree, [], failed);
    const unlockHosts = orThrow((await way.lock?.()) ?? ok(() => {}));
    try {
      // Before the file is written: with another tree's hosts in it our `down` would remove them.
      orThrow(await way.may(tree, earlier));
      // Before anything is made: `down` must find it, whatever happens now.
      writeTree(tree);
      orThrow(await way.make(tree));
    } finally {
      unlockHosts();
    }
    const head_pid = orThrow(await startHead(tree, way, upgrade, remains.length > 0));
    const client = orThrow(await reachHead(tree, head_pid, timeout_s, invocation.signal));
    const listed = orThrow(await client.list());
    /** Hosts, with the epoch of their agent, whose agent cannot work: the head may not have noticed yet. */
    const stuckAgents = new Map(
      listed.flatMap((h) => (h.present && way.stuck?.(h.host) ? [[h.host, h.epoch] as const] : [])),
    );
    const present = new Set(listed.flatMap((h) => (h.present && !stuckAgents.has(h.host) ? [h.host] : [])));
    const old = (h: TreeHost) => h.release !== undefined && h.release !== RELEASE;
    const missing = tree.hosts.flatMap((h, k) => (present.has(h.id) && !(upgrade && old(h)) ? [] : [k]));
    for (const h of tree.hosts)
      if (present.has(h.id) && old(h) && !upgrade) failed.set(h.id, oldAgent(h.id, h.release!));
    if (earlier && missing.length > 0)
      orThrow(
        (await way.mend?.(
          tree,
          missing.map((k) => tree.hosts[k]!),
        )) ?? ok(undefined),
      );
    const all = places(tree);
    const planned = await Promise.all(missing.map((k) => planAgent(tree, all, k)));
    const start = async (agents: PlannedAgent[], replace: boolean): Promise<StartOutcome> => {
      const started = await way.start(tree, agents, invocation.signal, replace);
      for (const { host } of agents) {
        const error = started.failed.get(host.id);
        if (error) failed.set(host.id, error);
        else if (via === "ssh") host.release = RELEASE;
      }
      writeTree(tree);
      // A host where it failed is still one of the tree: `status` shows it as missing.
      client.expect(
        all,
        tree.hosts.flatMap((h) => (failed.has(h.id) ? [] : [h.id])),
      );
      return started;
    };
    const wait = (seconds: number) =>
      waitForHosts(client, way, stuckAgents, failed, seconds, invocation.signal);
    const until = Date.now() + timeout_s * 1000;
    const { running } = await start(planned, remains.length > 0);
    // Agents that ran already may join by themselves, as after the head was started anew. Those that do not are replaced.
    let status = orThrow(await wait(running.size > 0 ? Math.min(timeout_s / 2, comeBackS(tree)) : timeout_s));
    const stuck = planned.filter(
      ({ host: { id } }) => running.has(id) && !status.some((h) => h.host === id && h.present),
    );
    if (stuck.length > 0 && !invocation.signal.aborted) await start(stuck, true);
    if (running.size > 0) status = orThrow(await wait(Math.max(timeout_s / 2, (until - Date.now()) / 1000)));
    await tellWhy(tree, way, status, failed, timeout_s);
    const there = status.flatMap((h) => (h.present ? [h.host] : []));
    const probed = await client.probe(there, PROBE_MS);
    client.close();
    return printHosts(tree, status, failed, probed);
  } finally {
    unlock();
  }
};

/** Refuses flags that are for --via ssh only, and that another way would ignore. */
function onlyForSsh(args: ArgsOf<typeof spec, "up">, via: string): Result<void, MtError> {
  const given = (["head", "no-port", "upgrade"] as const).find((f) => args[f]);
  if (via !== "ssh" && given !== undefined)
    return fail("usage", `Cannot use --${given} with --via ${via}: it is for --via ssh`);
  if (args.head !== undefined && parseIp(args.head).isErr())
    return fail("usage", `Cannot use --head ${JSON.stringify(args.head)}: expected an IPv4 address`);
  return ok(undefined);
}

/** Seconds in which an agent that has lost its head joins again: it notices, connects, and is let in. */
const comeBackS = (tree: TreeFile) => 3 + (2 * tree.silence_ms) / 1000;

/** Where hosts listen. A host on the head's own machine takes the port after the head's. */
const places = (tree: TreeFile): Place[] =>
  tree.hosts.map((h) => ({
    name: h.id,
    addr: h.addr,
    port: h.addr === tree.head.addr ? tree.port + 1 : tree.port,
  }));

/** Whether the head answers. */
async function answers(): Promise<boolean> {
  // A file there that is no socket counts as none: the next head replaces it.
  const client = await TreeClient.connect().catch(() => undefined);
  if (!client?.isOk()) return false;
  const listed = await client.value.list();
  client.value.close();
  return listed.isOk();
}

/** Starts the head where none that works is there; gives its pid. @param anew whether one that runs belongs to an earlier tree */
async function startHead(
  tree: TreeFile,
  way: Way,
  upgrade: boolean,
  anew: boolean,
): Promise<Result<number, MtError>> {
  const config = join(treeDir(), "head.json");
  const { name, addr, listen = addr, release } = tree.head;
  const pid = nodePid(config);
  if (pid !== undefined && !anew && !isStuck(pid, way.headNamespace)) {
    const other = tree.via === "ssh" && release !== RELEASE;
    // Asked before it is tried: a release with another protocol does not answer, and works all the same.
    if (other && !upgrade && (release !== undefined || (await answers())))
      return fail(
        "data",
        `Cannot use the tree: its head is of another release than this mt-tree (${release})`,
        "mt-tree up --upgrade starts head and agents anew; what runs on them now is ended",
      );
    if (!other && (await answers())) return ok(pid);
  }
  // A head that is frozen, in another namespace than the cluster's, without its socket, or of an earlier tree is replaced.
  if (pid !== undefined && !(await endNode(config)))
    return fail("busy", `Cannot bring up the tree: its head does not answer and does not end (pid ${pid})`);
  // Left by an earlier head: no client is to take it for the new one's socket.
  removeOwn(treeSocket());
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

/** The agent of the k-th host, with its configuration. @param all the places of all hosts */
async function planAgent(tree: TreeFile, all: readonly Place[], k: number) {
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

/** Connects to the head, once it answers, and tells it which hosts the tree has. */
async function reachHead(
  tree: TreeFile,
  pid: number,
  timeout_s: number,
  signal: AbortSignal,
): Promise<Result<TreeClient, MtError>> {
  const config = join(treeDir(), "head.json");
  const client = await waitFor(
    async () => {
      const connected = (await TreeClient.connect()).unwrapOr(undefined);
      return connected ?? (startTime(pid) === undefined ? ("ended" as const) : undefined);
    },
    timeout_s,
    30,
    signal,
  );
  if (client instanceof TreeClient) {
    client.expect(places(tree));
    return ok(client);
  }
  const log = nodeLog(config);
  const why = client === "ended" ? "ended at once" : `did not answer in ${timeout_s} s`;
  const line = lastLogLine(log);
  return fail(
    client === "ended" ? "failed" : "timeout",
    `Cannot bring up the tree: its head ${why}${line === undefined ? "" : `: ${line}`}`,
    `what it said is in ${log}`,
  );
}

/** Waits until every host has joined or is known not to come, or the time is up. Gives the head's list. */
async function waitForHosts(
  client: TreeClient,
  way: Way,
  stuckAgents: ReadonlyMap<string, string | undefined>,
  failed: ReadonlyMap<string, MtError>,
  timeout_s: number,
  signal: AbortSignal,
): Promise<Result<HostStatus[], MtError>> {
  const list = async () =>
    (await client.list()).map((hosts) =>
      hosts.map((h) =>
        stuckAgents.has(h.host) && stuckAgents.get(h.host) === h.epoch ? { ...h, present: false } : h,
      ),
    );
  let last = await list();
  const whole = (hosts: HostStatus[]) =>
    hosts.every((h) => h.present || failed.has(h.host) || way.ended?.(h.host));
  await waitFor(
    async () => {
      if (last.isErr() || whole(last.value)) return true;
      last = await list();
      return undefined;
    },
    timeout_s,
    30,
    signal,
  );
  return last;
}

/** For hosts that have not joined: puts into `failed` why, with the last log line of their agents. */
async function tellWhy(
  tree: TreeFile,
  way: Way,
  status: HostStatus[],
  failed: Map<string, MtError>,
  timeout_s: number,
): Promise<void> {
  const there = new Set(status.flatMap((s) => (s.present ? [s.host] : [])));
  const absent = tree.hosts.flatMap((h) => (there.has(h.id) || failed.has(h.id) ? [] : [h.id]));
  if (absent.length === 0) return;
  const lines = await way.lastLogLines(tree, absent);
  for (const id of absent) {
    const said = lines.get(id);
    const ended = way.ended?.(id);
    failed.set(
      id,
      mtError(
        ended ? "failed" : "timeout",
        `Cannot join host ${id}: its agent ${ended ? "ended at once" : `did not come in ${timeout_s} s`}${said ? `: ${said}` : ""}`,
        `what it said is in ${way.logOf(id)}`,
      ),
    );
  }
}

function printHosts(
  tree: TreeFile,
  status: HostStatus[],
  failed: ReadonlyMap<string, MtError>,
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
        failed.get(h.id) ?? mtError("lost", `Cannot join host ${h.id}: it is gone again`, "mt-tree up");
      writer.line(JSON.stringify({ ...record, state: "failed", error: { by: "mt-tree", ...why } }));
    }
  }
  // Hosts that could not be found are not in the tree, but they were asked for.
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
