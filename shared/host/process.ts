/**
 * Runs other programs: to their end with a time limit, or as daemons; always from an argument vector, never through a
 * shell. Also finds programs and our own tools.
 */
import { spawn } from "node:child_process";
import { accessSync, closeSync, constants, existsSync, statSync } from "node:fs";
import { basename, delimiter, dirname, join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError, stateOf } from "../errors.ts";
import { openOwn } from "../own-place.ts";
import { commandLineOf, readProc, statOf } from "./processes.ts";

/** From SIGTERM to SIGKILL. */
const KILL_AFTER_MS = 5_000;
/** First letters of the variables that build/entry.ts hides from Bun, by their second letter. */
const HIDDEN_LETTER: Readonly<Record<string, string>> = { O: "N", I: "M", S: "J", U: "B" };
/** The most that a program may print on stdout and stderr together; it is kept in memory. */
const OUTPUT_BYTES_MAX = 256 * 1024 * 1024;

/** The Debian package of a program. */
const PACKAGE_OF: Readonly<Record<string, string>> = {
  "qemu-system-x86_64": "qemu-system-x86",
  bird: "bird2",
  birdc: "bird2",
  ip: "iproute2",
  bridge: "iproute2",
  tc: "iproute2",
  ping: "iputils-ping",
  nsenter: "util-linux",
  sysctl: "procps",
  "dpkg-deb": "dpkg",
  "apt-get": "apt",
  "apt-cache": "apt",
  mmdebstrap: "mmdebstrap",
  mke2fs: "e2fsprogs",
  dumpe2fs: "e2fsprogs",
  debugfs: "e2fsprogs",
  "qemu-img": "qemu-utils",
  srun: "slurm-client",
  scontrol: "slurm-client",
};

export interface RunOptions {
  /** Written to its stdin, which is closed after it. */
  input?: string | Uint8Array;
  /** Seconds; default 60. */
  timeout_s?: number;
  signal?: AbortSignal;
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** A network namespace by name: the program runs in it. */
  netns?: string;
}

export interface Finished {
  code: number;
  stdout: string;
  stderr: string;
}

/**
 * Runs a program to its end. Any exit code is a value (128 if a signal ended it). Errors: `unavailable` if it is not
 * installed, `timeout`, `failed` if it cannot be started, was interrupted or prints too much.
 */
export async function run(
  file: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Result<Finished, MtError>> {
  const { timeout_s = 60, netns } = options;
  const found = findProgram(file);
  if (found.isErr()) return err(found.error);
  // By its full path: it may be in an sbin that is not on PATH.
  const words =
    netns === undefined
      ? [found.value, ...args]
      : ["nsenter", `--net=${netnsPath(netns)}`, "--", found.value, ...args];
  const done = await finish(words, options, timeout_s);
  if (typeof done !== "string") return ok(done);
  return fail(done.startsWith("no end") ? "timeout" : "failed", `Cannot run ${file}: ${done}`);
}

/** How the program ended, or a text saying why it did not end by itself. It gets pipes of its own, not our descriptors. */
function finish(
  words: readonly string[],
  options: RunOptions,
  timeout_s: number,
): Promise<Finished | string> {
  return new Promise((resolve) => {
    const { input, signal } = options;
    if (signal?.aborted) return resolve("interrupted");
    const child = spawn(words[0]!, words.slice(1), {
      stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      env: options.env ?? cleanEnv(),
      cwd: options.cwd,
    });
    const printed: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] };
    let bytes = 0;
    let killer: ReturnType<typeof setTimeout> | undefined;
    let over = false;
    const end = (how: Finished | string) => {
      if (over) return;
      over = true;
      clearTimeout(late);
      signal?.removeEventListener("abort", interrupted);
      // Processes that it left running may hold these open.
      child.stdout?.destroy();
      child.stderr?.destroy();
      resolve(how);
    };
    const finished = (): Finished => {
      const stderr = Buffer.concat(printed.stderr).toString();
      return {
        code: child.exitCode ?? 128,
        stdout: Buffer.concat(printed.stdout).toString(),
        stderr: stderr || (child.signalCode ? `ended by ${child.signalCode}` : ""),
      };
    };
    /** Ends only when the process has: the caller may start it again at once. */
    const kill = (why: string) => {
      // It has ended already; a process that it left running holds its output open.
      if (child.exitCode !== null || child.signalCode !== null) return end(finished());
      child.kill("SIGTERM");
      killer ??= setTimeout(() => child.kill("SIGKILL"), KILL_AFTER_MS);
      child.once("exit", () => end(why));
    };
    const interrupted = () => kill("interrupted");
    const late = setTimeout(() => kill(`no end after ${timeout_s} s`), timeout_s * 1000);
    signal?.addEventListener("abort", interrupted, { once: true });
    for (const stream of ["stdout", "stderr"] as const)
      child[stream]?.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > OUTPUT_BYTES_MAX) kill(`it prints more than ${OUTPUT_BYTES_MAX} bytes`);
        else printed[stream].push(chunk);
      });
    // It may close stdin without reading it.
    child.stdin?.on("error", () => {});
    if (input !== undefined) child.stdin?.end(input);
    child.on("error", (thrown: NodeJS.ErrnoException) => {
      if (child.pid === undefined) end(stateOf(thrown));
    });
    child.on("exit", () => clearTimeout(killer));
    child.on("close", () => end(finished()));
  });
}

/** As `run`, but an exit code other than 0 is an error (`failed`) with the last line of its stderr. */
export async function runOk(
  file: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Result<Finished, MtError>> {
  const done = await run(file, args, options);
  if (done.isErr() || done.value.code === 0) return done;
  const why = done.value.stderr.trim().split("\n").pop() || `exit code ${done.value.code}`;
  return fail("failed", `Cannot run ${file} ${args.slice(0, 3).join(" ")}: ${why}`);
}

export interface DaemonOptions {
  /** stdout and stderr are appended to this file. */
  log: string;
  netns?: string;
  env?: NodeJS.ProcessEnv;
  cwd?: string;
}

/** Starts a program that outlives us, in its own session. Returns its pid (nsenter execs the program, so it is that). */
export function startDaemon(
  file: string,
  args: readonly string[],
  options: DaemonOptions,
): Result<number, MtError> {
  const found = findProgram(file);
  if (found.isErr()) return err(found.error);
  const words =
    options.netns === undefined
      ? [found.value, ...args]
      : ["nsenter", `--net=${netnsPath(options.netns)}`, "--", found.value, ...args];
  const log = openOwn(options.log, "append");
  try {
    const child = spawn(words[0]!, words.slice(1), {
      detached: true,
      stdio: ["ignore", log, log],
      env: options.env ?? cleanEnv(),
      cwd: options.cwd ?? "/",
    });
    child.on("error", () => {});
    child.unref();
    if (child.pid === undefined) return fail("failed", `Cannot start ${file}: the kernel gave no process`);
    return ok(child.pid);
  } finally {
    closeSync(log);
  }
}

/**
 * The environment for programs that we start: ours, without the variables that make a compiled Bun binary do something
 * else. Variables that build/entry.ts renamed to hide them from Bun get their names back, for other programs.
 */
export function cleanEnv(extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { ...process.env, ...extra };
  for (const [name, value] of Object.entries(env)) {
    const [, hidden] = /^\?(ODE_.*|IMALLOC_.*|SC_.*|UN_.*)$/.exec(name) ?? [];
    if (hidden !== undefined) {
      delete env[name];
      env[HIDDEN_LETTER[hidden[0]!] + hidden] = value;
    }
  }
  for (const name of Object.keys(env))
    if (name.startsWith("BUN_") || name === "NODE_OPTIONS") delete env[name];
  // Otherwise an idle Bun wakes ten times a second for its garbage collector.
  env.BUN_GC_TIMER_DISABLE = "1";
  return env;
}

/** The path of a program, from PATH and the sbin directories (which cron leaves out). `unavailable`, with the package, if it is not there. */
export function findProgram(file: string): Result<string, MtError> {
  if (file.includes("/"))
    return existsSync(file) ? ok(file) : fail("unavailable", `Cannot run ${file}: no such file`);
  const path = `${process.env.PATH ?? ""}${delimiter}/usr/local/sbin${delimiter}/usr/sbin${delimiter}/sbin${delimiter}/usr/bin${delimiter}/bin`;
  for (const dir of path.split(delimiter)) {
    if (dir === "") continue;
    const full = join(dir, file);
    try {
      accessSync(full, constants.X_OK);
      return ok(full);
    } catch {}
  }
  const pkg = PACKAGE_OF[file];
  return fail(
    "unavailable",
    `Cannot run ${file}: it is not installed`,
    pkg ? `apt-get install ${pkg}` : undefined,
  );
}

/**
 * The words that call one of our tools, to which its arguments are added: the compiled binary beside this one, `mt`
 * with the tool's name, or the source under the runtime that runs us.
 */
export function toolCommand(tool: string): string[] {
  const self = process.execPath;
  const entry = process.argv[1] ?? "";
  if (!/\.ts$/.test(entry) || entry.startsWith("/$bunfs/")) {
    if (basename(self) === "mt") return [self, tool];
    const sibling = join(dirname(self), tool);
    return [existsSync(sibling) ? sibling : tool];
  }
  return [self, ...runtimeFlags(), join(dirname(entry), "..", tool, "main.ts")];
}

/** The flags that the runtime needs to run another source file as it runs us, from any directory. */
function runtimeFlags(): string[] {
  // Deno does not reveal its flags.
  if (process.versions.deno) return ["run", "-A"];
  // Node resolves a loader's bare name from the working directory, which may differ.
  return process.execArgv.map((word, i, words) => {
    const [, flag = "", name] = /^(?:(--import=|--loader=)|(?!-))(.+)$/.exec(word) ?? [];
    if (name === undefined || (flag === "" && !/^--(import|loader)$/.test(words[i - 1] ?? ""))) return word;
    try {
      return flag + import.meta.resolve(name);
    } catch {
      return word;
    }
  });
}

export const netnsPath = (name: string) => (name.includes("/") ? name : `/run/netns/${name}`);

/** Whether the process is alive and is the one that was started, not a later one with its pid: `mark` occurs in its command line. */
export function isAlive(pid: number, mark: string): boolean {
  const stat = statOf(pid);
  return stat !== undefined && stat.state !== "Z" && commandLineOf(pid)?.includes(mark) === true;
}

/**
 * Whether this path is for that process what it is for us; where there is nothing, the nearest directory above that
 * is there. Hosts that share a process table (namespaces, containers) have paths of the same names in files of their own.
 */
export function sharesPath(pid: number, path: string): boolean {
  for (let at = path; ; at = dirname(at)) {
    const [ours, theirs] = [inodeOf(at), inodeOf(`/proc/${pid}/root${at}`)];
    if (ours !== undefined || theirs !== undefined) return ours === theirs;
    if (at === "/") return false;
  }
}

function inodeOf(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path);
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

/** A variable of the environment that a process was started with; undefined where it has none, or we may not look. */
export function variableOf(pid: number, name: string): string | undefined {
  const entries = readProc(pid, "environ")?.split("\0");
  return entries?.find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** Polls until `done` returns something other than undefined; undefined if the time ran out or the signal came. */
export async function waitFor<T>(
  done: () => T | undefined | Promise<T | undefined>,
  timeout_s: number,
  every_ms = 20,
  signal?: AbortSignal,
): Promise<T | undefined> {
  const end = Date.now() + timeout_s * 1000;
  for (;;) {
    const value = await done();
    if (value !== undefined) return value;
    if (Date.now() >= end || signal?.aborted) return undefined;
    await new Promise((resolve) => setTimeout(resolve, every_ms));
  }
}

/** Ends a process (see isAlive for `mark`): SIGTERM, SIGKILL after `grace_s`. Whether it is gone, 10 s after that at most. */
export async function endProcess(pid: number, mark: string, grace_s = 2): Promise<boolean> {
  const gone = () => (isAlive(pid, mark) ? undefined : true);
  if (gone()) return true;
  for (const [signal, wait_s] of [
    ["SIGTERM", grace_s],
    ["SIGKILL", 10],
  ] as const) {
    try {
      process.kill(pid, signal);
    } catch {
      return gone() === true;
    }
    if (await waitFor(gone, wait_s)) return true;
  }
  return false;
}
