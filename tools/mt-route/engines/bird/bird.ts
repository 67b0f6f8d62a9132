/**
 * One BIRD a router. BIRD itself refuses to start beside another on the same control socket, so two runs of
 * mt-route at once do no harm.
 */
import { readFileSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../../shared/errors.ts";
import { endProcess, isAlive, run, runOk, startDaemon, waitFor } from "../../../../shared/host/process.ts";
import { allPids, commandOf } from "../../../../shared/host/processes.ts";
import { removeOwn, socketName, writeOwn } from "../../../../shared/own-place.ts";
import type { Engine } from "../engine.ts";
import { birdConfig } from "./config.ts";

/** A busy machine takes its time; BIRD itself needs 11 ms. */
const START_TIMEOUT_S = 20;
const ASK_TIMEOUT_S = 10;
const REASON_CHARACTERS_MAX = 300;

/** Stands in BIRD's command line, which is how its process is known. */
const configFile = (dir: string) => join(dir, "bird.conf");
const logFile = (dir: string) => join(dir, "bird.log");
const controlSocket = (dir: string) => socketName(join(dir, "bird.ctl"));

export const bird: Engine = {
  title: "BIRD",
  programs: ["bird", "birdc"],
  config: birdConfig,
  running,
  isRunning: (dir, pid) => isAlive(pid, configFile(dir)),
  current: (dir) => readText(configFile(dir)),
  start,
  reload,
  end,
  neighbours,
  log: logFile,
  lastError: (dir) => reasonIn(logFile(dir)),
};

function running(parent: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const pid of allPids()) {
    const words = commandOf(pid);
    if (basename(words?.[0] ?? "") !== "bird") continue;
    const config = words![words!.indexOf("-c") + 1] ?? "";
    const dir = dirname(config);
    if (dirname(dir) === parent && config === configFile(dir) && isAlive(pid, config)) found.set(dir, pid);
  }
  return found;
}

async function start(dir: string, netns: string, config: string): Promise<Result<number, MtError>> {
  const pidFile = join(dir, "bird.pid");
  for (const old of [pidFile, logFile(dir)]) rmSync(old, { force: true });
  writeOwn(configFile(dir), config);
  // In the foreground: the process that is started is the one that stays.
  const words = ["-f", "-c", configFile(dir), "-s", controlSocket(dir), "-P", pidFile];
  const started = startDaemon("bird", words, { log: logFile(dir), netns, cwd: dir });
  if (started.isErr()) return started;
  const pid = started.value;
  // BIRD writes its pid when its configuration is read and its control socket is its own.
  const up = await waitFor(
    () => readText(pidFile)?.trim() === String(pid) || hasEnded(pid) || undefined,
    START_TIMEOUT_S,
  );
  if (up && isAlive(pid, configFile(dir))) return ok(pid);
  await endProcess(pid, configFile(dir));
  const late = up ? "it ended, and its log gives no reason" : `it is not up after ${START_TIMEOUT_S} s`;
  return fail("failed", `Cannot start BIRD in ${netns}: ${reasonIn(logFile(dir)) ?? late}`);
}

/** Not isAlive: until nsenter has become bird, the command line is another. */
function hasEnded(pid: number): boolean {
  const status = readText(`/proc/${pid}/status`);
  return status === undefined || /^State:\s*Z/m.test(status);
}

/** The file is replaced only once BIRD has taken the configuration. */
async function reload(dir: string, config: string): Promise<Result<void, MtError>> {
  const next = `${configFile(dir)}.new`;
  writeOwn(next, config);
  const done = await runOk("birdc", ["-s", controlSocket(dir), "configure", `"${next}"`], {
    cwd: dir,
    timeout_s: START_TIMEOUT_S,
  });
  if (done.isErr()) return err(done.error);
  const answer = done.value.stdout.trim().split("\n").pop() ?? "";
  if (!/^Reconfigur/.test(answer)) return fail("failed", `Cannot reload BIRD: ${answer}`);
  renameSync(next, configFile(dir));
  return ok(undefined);
}

async function end(dir: string, pid: number | undefined): Promise<Result<void, MtError>> {
  if (pid !== undefined && !(await endProcess(pid, configFile(dir))))
    return fail(
      "failed",
      `Cannot end BIRD of ${basename(dir)}: process ${pid} does not end`,
      `ps -p ${pid} says what it waits for`,
    );
  removeOwn(dir);
  return ok(undefined);
}

async function neighbours(dir: string): Promise<Result<Map<string, string>, MtError>> {
  const words = ["-s", controlSocket(dir), "show", "ospf", "neighbors"];
  const told = await run("birdc", words, { timeout_s: ASK_TIMEOUT_S, cwd: dir });
  if (told.isErr()) return err(told.error);
  if (told.value.code !== 0) return fail("failed", "BIRD does not answer on its control socket");
  return ok(neighbourStates(told.value.stdout));
}

/** By interface, from `birdc show ospf neighbors`: `10.9.0.2  1  ExStart/PtP  9.001  eth0  10.9.0.1`. */
export function neighbourStates(text: string): Map<string, string> {
  const states = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [id, , state, , device] = line.trim().split(/\s+/);
    if (device !== undefined && /^\d+\.\d+\.\d+\.\d+$/.test(id!)) states.set(device, state!.split("/")[0]!);
  }
  return states;
}

/**
 * Why BIRD ended, from its log: the last line of the gravest class. Lines without a class are from before its start.
 * Warnings are no reason: every BIRD here begins with one about broadcast addresses.
 */
export function reasonIn(file: string): string | undefined {
  const lines = (readText(file) ?? "").split("\n");
  const last = (pattern: RegExp) => lines.findLast((line) => pattern.test(line));
  const line = last(/<(FATAL|BUG)>/) ?? last(/<(ERR|AUTH)>/) ?? last(/^(?!.*<[A-Z]+>).*\S/);
  return line?.replace(/^(\S+ \S+ )?(<[A-Z]+> |bird: )/, "").slice(0, REASON_CHARACTERS_MAX);
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}
