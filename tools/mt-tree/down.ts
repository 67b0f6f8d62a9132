/** mt-tree down: ends head and agents and takes away what was made on hosts, also after a crash, also twice. */
import { existsSync, readdirSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { complain, type Invocation } from "../../shared/cli/start.ts";
import { EXIT, type MtError, orThrow } from "../../shared/errors.ts";
import { runDir, stateDir, treeDir } from "../../shared/names.ts";
import { endProcess } from "../../shared/process.ts";
import { lockTree, readTree } from "./tree-file.ts";
import { wayOf } from "./via.ts";

/** Seconds that a host may take to be reached: one that is off does not hold up the others for long. */
const REACH_S = 5;

export async function down({ tool, args }: Invocation): Promise<number> {
  if (!existsSync(treeDir())) return EXIT.ok;
  let left: MtError | undefined;
  const unlock = orThrow(await lockTree("mt-tree down"));
  try {
    const tree = readTree();
    const way =
      tree && (await wayOf(tree.via, { ssh: tree.ssh, timeout_s: REACH_S, purge: args.purge === true }));
    if (tree) await way?.leave?.(tree);
    const pidFile = join(treeDir(), "head.pid");
    if (existsSync(pidFile))
      await endProcess(Number(readFileSync(pidFile, "utf8")), join(treeDir(), "head.json"));
    const removed = tree && (await way?.remove(tree));
    // Hosts that are off or cut off do not keep the tree of the others.
    if (removed?.isErr() && removed.error.code === "lost") left = removed.error;
    else if (removed) orThrow(removed);
    rmSync(treeDir(), { recursive: true, force: true });
  } finally {
    unlock();
  }
  for (const dir of [join(runDir(), "hosts"), join(stateDir(), "hosts"), runDir()]) removeIfEmpty(dir);
  return left ? complain(tool, left) : EXIT.ok;
}

function removeIfEmpty(dir: string): void {
  try {
    if (readdirSync(dir).length === 0) rmdirSync(dir);
  } catch {
    // Not there, or somebody else's now.
  }
}
