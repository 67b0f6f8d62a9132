/**
 * One BIRD a router: where its files are, which run now, start, reload, end. BIRD itself refuses to start
 * beside another on the same control socket, so two runs of mt-route at once do no harm.
 */
import {
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
} from "node:fs";
import { basename, join, resolve } from "node:path";
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import { experimentDir, routerDir } from "../../../shared/host/names.ts";
import { endProcess, isAlive, netnsPath, runOk, startDaemon, waitFor } from "../../../shared/host/process.ts";
import { ownDir, removeOwn, socketName, writeOwn } from "../../../shared/own-place.ts";

/** A busy machine takes its time; BIRD itself needs 11 ms. */
const START_TIMEOUT_S = 20;
const CONFIG_FILE = "bird.conf";

export interface BirdFiles {
  dir: string;
  /** Stands in BIRD's command line: the mark by which it is known. */
  config: string;
  control: string;
  pid: string;
  log: string;
  /** Seconds that its routes took, once they had converged. */
  converged: string;
}

/** The directory with the directories of an experiment's routers; absolute, since BIRD runs in `/`. */
export const routersDir = (experiment: string) => resolve(experimentDir(experiment), "r");

export function birdFiles(experiment: string, router: string): BirdFiles {
  const dir = resolve(routerDir(experiment, router));
  return {
    dir,
    config: join(dir, CONFIG_FILE),
    control: join(dir, "bird.ctl"),
    pid: join(dir, "bird.pid"),
    log: join(dir, "bird.log"),
    converged: join(dir, "converged_s"),
  };
}

/** The BIRDs whose configuration lies below `dir`, by its path: one pass over /proc for all routers. */
export function findBirds(dir: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    let words: string[];
    try {
      words = readFileSync(`/proc/${entry}/cmdline`, "utf8").split("\0");
    } catch {
      continue;
    }
    if (basename(words[0] ?? "") !== "bird") continue;
    const config = words[words.indexOf("-c") + 1] ?? "";
    if (config.startsWith(`${dir}/`) && isAlive(Number(entry), config)) found.set(config, Number(entry));
  }
  return found;
}

/** Whether a process is in the namespace of this name: one made anew under the same name is another. */
export function isInNamespace(pid: number, netns: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`) === `net:[${statSync(netnsPath(netns)).ino}]`;
  } catch {
    return false;
  }
}

/** Starts BIRD and waits until it has read its configuration; gives its pid. */
export async function startBird(
  files: BirdFiles,
  netns: string,
  config: string,
): Promise<Result<number, MtError>> {
  ownDir(files.dir);
  for (const old of [files.pid, files.log, files.converged]) rmSync(old, { force: true });
  writeOwn(files.config, config);
  // In the foreground: the process that is started is the one that stays.
  const words = ["-f", "-c", files.config, "-s", socketName(files.control), "-P", files.pid];
  const started = startDaemon("bird", words, { log: files.log, netns, cwd: files.dir });
  if (started.isErr()) return started;
  const pid = started.value;
  // BIRD writes its pid when its configuration is read and its control socket is its own.
  const up = await waitFor(
    () => readFirstLine(files.pid) === String(pid) || hasEnded(pid) || undefined,
    START_TIMEOUT_S,
  );
  if (isAlive(pid, files.config) && up) return ok(pid);
  await endProcess(pid, files.config);
  return fail(
    "failed",
    `Cannot start BIRD in ${netns}: ${reasonIn(files.log) ?? (up ? "it ended, and its log has no reason" : `not up after ${START_TIMEOUT_S} s`)}`,
  );
}

/** Not isAlive: until nsenter has become bird, the command line is another. */
function hasEnded(pid: number): boolean {
  try {
    return /^State:\s*Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return true;
  }
}

/** Has a running BIRD take another configuration. The file is replaced only once BIRD has taken it. */
export async function reloadBird(files: BirdFiles, config: string): Promise<Result<void, MtError>> {
  const next = `${files.config}.new`;
  writeOwn(next, config);
  rmSync(files.converged, { force: true });
  const done = await runOk("birdc", ["-s", socketName(files.control), "configure", `"${next}"`], {
    cwd: files.dir,
    timeout_s: START_TIMEOUT_S,
  });
  if (done.isErr()) return done.map(() => undefined);
  const answer = done.value.stdout.trim().split("\n").pop() ?? "";
  if (!/^Reconfigur/.test(answer)) return fail("failed", `Cannot reload BIRD: ${answer}`);
  renameSync(next, files.config);
  return ok(undefined);
}

/** Ends BIRD, where it runs, and removes the router's directory. False where it would not end. */
export async function endBird(dir: string, pid: number | undefined): Promise<boolean> {
  if (pid !== undefined && !(await endProcess(pid, join(dir, CONFIG_FILE)))) return false;
  removeOwn(dir);
  return true;
}

/** Directories of routers that are there, of an experiment. */
export function routerDirs(experiment: string): string[] {
  const dir = routersDir(experiment);
  return existsSync(dir) ? readdirSync(dir).map((name) => join(dir, name)) : [];
}

/** Removes what is empty of the experiment's directory. */
export function removeEmptyDirs(experiment: string): void {
  try {
    rmdirSync(routersDir(experiment));
    rmdirSync(resolve(experimentDir(experiment)));
  } catch {
    // Not there, or another tool's files are in it.
  }
}

const REASON_CHARACTERS_MAX = 300;

/**
 * Why BIRD ended, from its log: the last line of the gravest sort; one without a sort is of its start. Warnings
 * are no reason: every BIRD here begins with one about broadcast addresses.
 */
export function reasonIn(file: string): string | undefined {
  const lines = readLines(file);
  const last = (sort: RegExp) => lines.findLast((line) => sort.test(line));
  const line = last(/<(FATAL|BUG)>/) ?? last(/<(ERR|AUTH)>/) ?? last(/^(?!.*<[A-Z]+>).*\S/);
  return line?.replace(/^(\S+ \S+ )?(<[A-Z]+> |bird: )/, "").slice(0, REASON_CHARACTERS_MAX);
}

function readLines(file: string): string[] {
  try {
    return readFileSync(file, "utf8").split("\n");
  } catch {
    return [];
  }
}

export const readFirstLine = (file: string): string | undefined => readLines(file)[0];

/** Seconds since a process started, by the kernel's clock. */
export function ageOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const ticks = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
    const uptime = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);
    // USER_HZ is 100 on every platform that Linux has (man 5 proc).
    return Math.max(0, uptime - ticks / 100);
  } catch {
    return undefined;
  }
}

/** Resident memory of a process, in KiB. */
export function residentKib(pid: number): number {
  try {
    return Number(/^VmRSS:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
