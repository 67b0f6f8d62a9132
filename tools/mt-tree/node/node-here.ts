/** A node of the tree as a process on this machine: it is started, found by its configuration file, and ended. */
import { statSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Result } from "neverthrow";
import { type MtError, MtFailure } from "../../../shared/errors.ts";
import {
  endProcess,
  isAlive,
  netnsPath,
  sharesPath,
  startDaemon,
  toolCommand,
} from "../../../shared/host/process.ts";
import { allPids, commandOf, statOf } from "../../../shared/host/processes.ts";
import { readOwn, writeOwn } from "../../../shared/own-place.ts";
import type { NodeConfig } from "./config.ts";

/** How much of the end of a node's log is read. */
const LOG_CHARACTERS = 4096;

/** Starts a node as a daemon. Gives its pid. */
export function startNode(
  file: string,
  config: NodeConfig,
  netns: string | undefined,
  env: NodeJS.ProcessEnv,
): Result<number, MtError> {
  writeOwn(file, JSON.stringify(config));
  const [program = "", ...args] = toolCommand("mt-tree");
  return startDaemon(program, [...args, "agent", "--config", file], { log: nodeLog(file), netns, env });
}

/**
 * The pid of the node with this configuration file; undefined where it does not run. Where the pid file is gone, with
 * all of its directory, the node is found by its command line.
 */
export function nodePid(file: string): number | undefined {
  const noted = numberIn(file.replace(/\.json$/, ".pid"));
  if (noted > 0 && isAlive(noted, file) && sharesPath(noted, dirname(file))) return noted;
  return allPids().find((pid) => pid !== process.pid && isNode(pid, file));
}

/** By whole arguments: a process whose command line only mentions the file is another one. */
function isNode(pid: number, file: string): boolean {
  const argv = commandOf(pid);
  return (
    argv?.includes("agent") === true &&
    argv[argv.indexOf("--config") + 1] === file &&
    isAlive(pid, file) &&
    sharesPath(pid, dirname(file))
  );
}

function numberIn(path: string): number {
  try {
    return Number(readOwn(path));
  } catch (thrown) {
    if (thrown instanceof MtFailure) throw thrown;
    return 0;
  }
}

/** Whether a node cannot work: its process is stopped, or it is in another network namespace than the one of this name. */
export function isStuck(pid: number, netns: string | undefined): boolean {
  try {
    if (/[Tt]/.test(statOf(pid)?.state ?? "")) return true;
    return netns !== undefined && statSync(netnsPath(netns)).ino !== statSync(`/proc/${pid}/ns/net`).ino;
  } catch {
    return false;
  }
}

/** Ends the node with this configuration file. Gives whether none runs any more. */
export async function endNode(file: string): Promise<boolean> {
  for (let pid = nodePid(file); pid !== undefined; pid = nodePid(file))
    if (!(await endProcess(pid, file))) return false;
  return true;
}

export const nodeLog = (file: string) => join(dirname(file), "node.log");

/** The end of a log; empty where there is none. */
export function readLog(log: string, characters = LOG_CHARACTERS): string {
  try {
    return readOwn(log).slice(-characters);
  } catch {
    return "";
  }
}

/** The last line of a node's log; undefined where it is empty. */
export const lastLogLine = (log: string) => lastLine(readLog(log));

/** The last message of a tool of ours (`mt-tree: Cannot …`), without the tool's name; else the last line that is not indented. */
export function lastLine(text: string): string | undefined {
  const lines = text.split("\n").filter((line) => /^\S/.test(line));
  const ours = lines.findLast((line) => /^mt(-\w+)?: /.test(line));
  return (ours ?? lines.at(-1))?.replace(/^mt(-\w+)?: /, "").trim();
}
