/** mt-tree down: ends head and agents and removes local hosts, also after a crash, also twice. */
import { existsSync, readdirSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Invocation } from "../../shared/cli/start.ts";
import { EXIT, orThrow } from "../../shared/errors.ts";
import { runDir, stateDir, treeDir } from "../../shared/names.ts";
import { endProcess } from "../../shared/process.ts";
import { lockTree, readTree } from "./tree-file.ts";
import { wayOf } from "./via.ts";

export async function down(_invocation: Invocation): Promise<number> {
  if (!existsSync(treeDir())) return EXIT.ok;
  const unlock = orThrow(await lockTree("mt-tree down"));
  try {
    const tree = readTree();
    const pidFile = join(treeDir(), "head.pid");
    if (existsSync(pidFile))
      await endProcess(Number(readFileSync(pidFile, "utf8")), join(treeDir(), "head.json"));
    if (tree) orThrow(await (await wayOf(tree.via, {})).remove(tree));
    rmSync(treeDir(), { recursive: true, force: true });
  } finally {
    unlock();
  }
  for (const dir of [join(runDir(), "hosts"), join(stateDir(), "hosts"), runDir()]) removeIfEmpty(dir);
  return EXIT.ok;
}

function removeIfEmpty(dir: string): void {
  try {
    if (readdirSync(dir).length === 0) rmdirSync(dir);
  } catch {
    // Not there, or somebody else's now.
  }
}
