/**
 * mt-tree up: makes the hosts, starts the head and the agents, waits until all have joined. What is there
 * is left alone, what is missing or dead is made: the same command heals.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { ok, type Result } from "neverthrow";
import { numberArg } from "../../shared/cli/parse.ts";
import type { Invocation } from "../../shared/cli/start.ts";
import { complain } from "../../shared/cli/start.ts";
import { inform } from "../../shared/cli/stderr.ts";
import { EXIT, fail, type MtError, mtError, orThrow } from "../../shared/errors.ts";
import {
  clusterNamespace,
  hostNamespace,
  localRunDir,
  localStateDir,
  socketPath,
  treeDir,
  treeSocket,
} from "../../shared/names.ts";
import { cleanEnv, isAlive, startDaemon, toolCommand, waitFor } from "../../shared/process.ts";
import { expandSet } from "../../shared/ranges.ts";
import { LineWriter } from "../../shared/stream/writer.ts";
import { issue, makeAuthority } from "./authority.ts";
import { TreeClient } from "./client.ts";
import { HEAD_ADDR, hostEnvironment, makeHosts, mayMakeHosts, shareOut } from "./local.ts";
import type { HostStatus } from "./messages.ts";
import type { NodeConfig, Place } from "./node.ts";
import { ancestorsOf, lockTree, readTree, type TreeFile, type TreeHost, writeTree } from "./tree-file.ts";

const HEAD = "head";

export async function up(invocation: Invocation): Promise<number> {
  const { args } = invocation;
  const fanout = orThrow(numberArg(args, "fanout", { min: 1, max: 1024 }));
  const port = orThrow(numberArg(args, "port", { min: 1, max: 65535 }));
  const timeout_s = orThrow(numberArg(args, "timeout", { min: 1 }));
  const unlock = orThrow(await lockTree("mt-tree up"));
  try {
    const earlier = readTree();
    if (args.hosts === undefined && !earlier)
      return complain(
        invocation.tool,
        mtError(
          "usage",
          "Cannot bring up the tree: no hosts are named, and none is here to mend",
          "mt-tree up 'kn[1-4]' --via local",
        ),
      );
    const names = args.hosts === undefined ? [] : orThrow(expandSet(String(args.hosts)));
    const hosts = orThrow(shareOut(names, earlier?.hosts ?? []));
    const tree: TreeFile = earlier
      ? { ...earlier, hosts }
      : {
          via: "local",
          fanout,
          port,
          head: { name: HEAD, addr: HEAD_ADDR },
          authority: await makeAuthority(clusterNamespace()),
          hosts,
        };
    if (earlier && args.hosts !== undefined && (earlier.fanout !== fanout || earlier.port !== port))
      inform(
        `the tree that is here keeps fanout ${earlier.fanout} and port ${earlier.port}: mt-tree down first to change them`,
      );
    orThrow(socketPath(treeSocket()));
    // A tree file with another tree's hosts would make our `down` take them away.
    orThrow(await mayMakeHosts(tree.hosts, earlier?.hosts ?? []));
    // Before anything is made: down must find it, whatever happens now.
    writeTree(tree);
    orThrow(await makeHosts(tree.hosts));
    orThrow(await startHead(tree));
    for (const [k, host] of tree.hosts.entries()) orThrow(await startAgent(tree, host, k));
    const status = orThrow(await waitForHosts(tree, timeout_s, invocation.signal));
    return printHosts(tree, status, timeout_s);
  } finally {
    unlock();
  }
}

const places = (tree: TreeFile): Place[] =>
  tree.hosts.map((h) => ({ name: h.id, addr: h.addr, port: tree.port }));

function readPid(path: string): number | undefined {
  return existsSync(path) ? Number(readFileSync(path, "utf8")) || undefined : undefined;
}

async function startHead(tree: TreeFile): Promise<Result<void, MtError>> {
  const config = join(treeDir(), "head.json");
  const pid = readPid(join(treeDir(), "head.pid"));
  if (pid !== undefined && isAlive(pid, config)) return ok(undefined);
  const { name, addr } = tree.head;
  const node: NodeConfig = {
    self: { name, addr, port: tree.port },
    identity: await issue(tree.authority, name),
    ancestors: [],
    socket: treeSocket(),
    hosts: places(tree),
  };
  return startNode(config, node, clusterNamespace(), cleanEnv());
}

async function startAgent(tree: TreeFile, host: TreeHost, k: number): Promise<Result<void, MtError>> {
  const dir = join(localRunDir(host.id), "tree");
  const config = join(dir, "agent.json");
  const pid = readPid(join(dir, "agent.pid"));
  if (pid !== undefined && isAlive(pid, config)) return ok(undefined);
  const all = places(tree);
  const node: NodeConfig = {
    self: all[k]!,
    identity: await issue(tree.authority, host.id),
    ancestors: [...ancestorsOf(k, tree.fanout).map((a) => all[a]!), { ...tree.head, port: tree.port }],
  };
  mkdirSync(localStateDir(host.id), { recursive: true, mode: 0o700 });
  const [binary = ""] = toolCommand("mt-tree");
  return startNode(
    config,
    node,
    hostNamespace(host.id),
    cleanEnv({ ...hostEnvironment(host.id, binary.includes("/") ? dirname(binary) : undefined) }),
  );
}

function startNode(
  config: string,
  node: NodeConfig,
  netns: string,
  env: NodeJS.ProcessEnv,
): Result<void, MtError> {
  mkdirSync(dirname(config), { recursive: true, mode: 0o700 });
  writeFileSync(config, JSON.stringify(node), { mode: 0o600 });
  const [file = "", ...words] = toolCommand("mt-tree");
  return startDaemon(file, [...words, "agent", "--config", config], {
    log: join(dirname(config), "node.log"),
    netns,
    env,
  }).map(() => undefined);
}

/** Waits until every host has joined, or the time is up: what is then missing is in the answer. */
async function waitForHosts(
  tree: TreeFile,
  timeout_s: number,
  signal: AbortSignal,
): Promise<Result<HostStatus[], MtError>> {
  let client: TreeClient | undefined;
  let last: HostStatus[] | undefined;
  await waitFor(
    async () => {
      if (!client) {
        const connected = await TreeClient.connect();
        if (connected.isErr()) return undefined;
        client = connected.value;
        client.expect(places(tree));
      }
      const listed = await client.list();
      if (listed.isErr()) {
        client = undefined;
        return undefined;
      }
      last = listed.value;
      return last.every((h) => h.present) ? true : undefined;
    },
    timeout_s,
    30,
    signal,
  );
  client?.close();
  if (last) return ok(last);
  return fail(
    "timeout",
    `Cannot bring up the tree: its head did not answer in ${timeout_s} s`,
    `what it said last is in ${join(treeDir(), "node.log")}`,
  );
}

function printHosts(tree: TreeFile, status: HostStatus[], timeout_s: number): number {
  const writer = new LineWriter();
  let code: number = EXIT.ok;
  for (const h of tree.hosts) {
    const record = { kind: "host", id: h.id, addr: h.addr, cores: h.cores, mem_mib: h.mem_mib };
    if (status.find((s) => s.host === h.id)?.present) writer.line(JSON.stringify({ ...record, state: "up" }));
    else {
      code = EXIT.failed;
      const error = {
        by: "mt-tree",
        ...mtError(
          "timeout",
          `Cannot join host ${h.id}: its agent did not come in ${timeout_s} s`,
          `what it said last is in ${join(localRunDir(h.id), "tree", "node.log")}`,
        ),
      };
      writer.line(JSON.stringify({ ...record, state: "failed", error }));
    }
  }
  writer.flush();
  return code;
}
