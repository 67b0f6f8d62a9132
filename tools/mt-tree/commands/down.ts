/** mt-tree down: ends head and agents and removes what was made on hosts, also after a crash, also twice. */
import { existsSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import type { Run } from "../../../shared/cli/invocation.ts";
import { complain } from "../../../shared/cli/start.ts";
import { EXIT, type MtError, mtError, orThrow } from "../../../shared/errors.ts";
import { clusterNamespace, runDir, stateDir, treeDir, treeFile } from "../../../shared/host/names.ts";
import { netnsPath } from "../../../shared/host/process.ts";
import { foldNodes } from "../../../shared/nodeset/fold.ts";
import { checkOwn } from "../../../shared/own-place.ts";
import { endNode } from "../node/node-here.ts";
import { lockTree, openTree } from "../node/tree-file.ts";
import { TreeClient } from "../session/client.ts";
import type { spec } from "../spec.ts";
import { leaveTree } from "../via/ssh/leave.ts";
import { wayOf } from "../via/ways.ts";

/** Seconds for connecting to a host: one that is off delays the others no longer than this. */
const REACH_S = 5;

export const down: Run<typeof spec, "down"> = async ({ tool, args }) => {
  checkOwn(treeFile());
  checkOwn(join(runDir(), "hosts"));
  // Where the tree's directory is gone, only local hosts can still be found.
  const lost = !existsSync(treeDir());
  if (lost && !existsSync(netnsPath(clusterNamespace()))) return EXIT.ok;
  let left: MtError | undefined;
  const unlock = orThrow(await lockTree("mt-tree down", true));
  try {
    const opened = openTree();
    if (opened.isErr() && opened.error.code === "permission") orThrow(opened);
    const tree = opened.unwrapOr(undefined);
    const way = tree && (await wayOf(tree.via, { ssh: tree.ssh, timeout_s: REACH_S, purge: args.purge }));
    if (tree) await way?.leave?.(tree);
    else if (!lost) left = await leaveUnknown(opened);
    await endNode(join(treeDir(), "head.json"));
    const removed = tree ? await way?.remove(tree) : await removeRemains();
    // Hosts that cannot be reached do not keep the tree from being removed.
    if (removed?.isErr() && removed.error.code === "lost") left = removed.error;
    else if (removed) orThrow(removed);
    rmSync(treeDir(), { recursive: true, force: true });
  } finally {
    unlock();
  }
  for (const dir of [join(runDir(), "hosts"), join(stateDir(), "hosts"), runDir()]) removeIfEmpty(dir);
  return left ? complain(tool, left) : EXIT.ok;
};

/** Without the tree's file only agents that the head still lists can be ended. Gives what could not be. */
async function leaveUnknown(opened: Result<unknown, MtError>): Promise<MtError | undefined> {
  const told = (await TreeClient.connect()).unwrapOr(undefined);
  const listed = told ? await told.list() : ok([]);
  told?.close();
  const gone = await leaveTree();
  // Local hosts are found by their network (removeRemains).
  if (existsSync(netnsPath(clusterNamespace()))) return undefined;
  const hosts = listed.unwrapOr([]);
  const unreached = hosts.filter((h) => !gone.has(h.host)).map((h) => h.host);
  const why: string[] = [];
  // With a head that lists them all, the file is not needed.
  if (opened.isErr() && (hosts.length === 0 || unreached.length > 0))
    why.push(opened.error.message.replace(/^Cannot read /, ""));
  if (listed.isErr()) why.push(listed.error.message.replace(/^Cannot list the hosts: /, ""));
  if (unreached.length > 0) why.push(`${foldNodes(unreached)} could not be reached`);
  if (why.length === 0) return undefined;
  return mtError(
    "lost",
    `Cannot end all agents: ${why.join(", and ")}`,
    "an agent that finds no head ends by itself within a minute",
  );
}

/** The local hosts of a tree whose file is gone or damaged. */
async function removeRemains(): Promise<Result<void, MtError>> {
  if (!existsSync(netnsPath(clusterNamespace()))) return ok(undefined);
  const { removeHosts, wiredHosts } = await import("../via/local/hosts.ts");
  // Where the hosts cannot be listed, their network goes all the same, and the error is reported.
  const wired = await wiredHosts(true);
  const removed = await removeHosts(wired.unwrapOr([]));
  return wired.isErr() && removed.isOk() ? err(wired.error) : removed;
}

function removeIfEmpty(dir: string): void {
  try {
    if (readdirSync(dir).length === 0) rmdirSync(dir);
  } catch {
    // It is not there, or others use it.
  }
}
