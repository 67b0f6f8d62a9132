/** A node of the tree as a process on this machine: started, found again by its configuration file, ended. */
import { readFileSync, statSync } from "node:fs";
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
import { allPids } from "../../../shared/host/processes.ts";
import { readOwn, writeOwn } from "../../../shared/own-place.ts";
import type { NodeConfig } from "./config.ts";

/** Of a node's log, what is looked at: the end. */
const LOG_CHARACTERS = 4096;

/** Starts a node; it outlives us. Gives its pid. */
export function startNode(
  file: string,
  config: NodeConfig,
  netns: string | undefined,
  env: NodeJS.ProcessEnv,
): Result<number, MtError> {
  writeOwn(file, JSON.stringify(config));
  const [program = "", ...words] = toolCommand("mt-tree");
  return startDaemon(program, [...words, "agent", "--config", file], { log: nodeLog(file), netns, env });
}

/**
 * The pid of the node of this configuration file; undefined where it does not run. Its pid file may be gone, with all
 * of its directory: then its command line tells.
 */
export function nodePid(file: string): number | undefined {
  const noted = numberIn(file.replace(/\.json$/, ".pid"));
  if (noted > 0 && isAlive(noted, file) && sharesPath(noted, dirname(file))) return noted;
  return allPids().find((pid) => pid !== process.pid && isNode(pid, file));
}

/** The words of a command line, whole: what only mentions the file is somebody else. */
function isNode(pid: number, file: string): boolean {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return (
      words.includes("agent") &&
      words[words.indexOf("--config") + 1] === file &&
      isAlive(pid, file) &&
      sharesPath(pid, dirname(file))
    );
  } catch {
    return false;
  }
}

function numberIn(path: string): number {
  try {
    return Number(readOwn(path));
  } catch (thrown) {
    if (thrown instanceof MtFailure) throw thrown;
    return 0;
  }
}

/** Whether a process can do nothing where it is: somebody has stopped it, or its namespace has not this name any more. */
export function isStuck(pid: number, netns: string | undefined): boolean {
  try {
    if (/^State:\s*[Tt]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"))) return true;
    return netns !== undefined && statSync(netnsPath(netns)).ino !== statSync(`/proc/${pid}/ns/net`).ino;
  } catch {
    return false;
  }
}

/** True once no node of this configuration file runs. */
export async function endNode(file: string): Promise<boolean> {
  for (let pid = nodePid(file); pid !== undefined; pid = nodePid(file))
    if (!(await endProcess(pid, file))) return false;
  return true;
}

export const nodeLog = (file: string) => join(dirname(file), "node.log");

/** The end of a log; nothing where there is none. */
export function readLog(log: string, characters = LOG_CHARACTERS): string {
  try {
    return readOwn(log).slice(-characters);
  } catch {
    return "";
  }
}

/** What a node said last, in one line; undefined where it has said nothing. */
export const lastWords = (log: string) => lastLine(readLog(log));

/** The last line of ours, as `mt-tree: Cannot …`, without the name; else the last line of all that is not indented. */
export function lastLine(text: string): string | undefined {
  const lines = text.split("\n").filter((line) => /^\S/.test(line));
  const ours = lines.findLast((line) => /^mt(-\w+)?: /.test(line));
  return (ours ?? lines.at(-1))?.replace(/^mt(-\w+)?: /, "").trim();
}
