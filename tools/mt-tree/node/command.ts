/**
 * A command as a session runs it: a process in a group of its own. The group is noted in a file: where the agent is
 * killed, the next agent on this host ends what is left of it.
 */
import { spawn } from "node:child_process";
import { closeSync, readdirSync, rmSync, statSync } from "node:fs";
import { uptime } from "node:os";
import { join } from "node:path";
import { inform } from "../../../shared/cli/stderr.ts";
import { type MtError, mtError } from "../../../shared/errors.ts";
import { startTime } from "../../../shared/host/lock.ts";
import { cleanEnv, toolCommand, waitFor } from "../../../shared/host/process.ts";
import { openOwn, ownDir } from "../../../shared/own-place.ts";
import type { Command } from "../link/messages.ts";

export interface CommandEnd {
  code?: number;
  signal?: string;
  error?: MtError;
}

export interface CommandEvents {
  output(fd: 1 | 2, bytes: Buffer): void;
  /** Whether its output is paused: then its end waits until all of it has been read. */
  outputPaused(): boolean;
  end(how: CommandEnd): void;
}

export interface Running {
  /** `taken` is called when the command has read the bytes, or never will. */
  write(bytes: Buffer, taken: () => void): void;
  endInput(): void;
  pause(): void;
  resume(): void;
  /** Signals its whole process group; what is left of it some seconds after SIGTERM gets SIGKILL. */
  kill(signal: NodeJS.Signals): void;
}

/** Starts a command; errors go to `end`, none is thrown. */
export type Launch = (command: Command, events: CommandEvents) => Running | undefined;

/** How long processes that a command left behind may still keep its output open after it has ended. */
const OUTPUT_GRACE_MS = 500;
/** Time between SIGTERM and SIGKILL. */
export const KILL_GRACE_MS = 5_000;

/** The same, in seconds, where the agent itself was asked to end: less than the agent has. */
export const STOP_S = 2;

/** Unit of the times in /proc, on every Linux. */
const TICKS_PER_S = 100;
/** How much the start time of a process and the time of a file may differ for the same moment. */
const CLOCK_SLACK_MS = 1_000;

/** @param groupsDir where the groups of running commands are noted: an empty file each, named by the leader's pid */
export function launcher(groupsDir?: string): Launch {
  if (groupsDir) ownDir(groupsDir);
  // Copied once: doing it for every command is most of the time that starting one takes here.
  const base = cleanEnv();
  return (command, events) => {
    const { argv, env, cwd, stdin } = command;
    const [first = ""] = argv;
    const [file, ...args] = resolveArgv(argv);
    let over = false;
    const end = (how: CommandEnd) => {
      if (over) return;
      over = true;
      if (mark) rmSync(mark, { force: true });
      events.end(how);
    };
    let mark: string | undefined;
    let child: ReturnType<typeof spawn>;
    try {
      child = spawn(file!, args, {
        cwd: cwd ?? "/",
        env: { ...base, ...env },
        stdio: [stdin ? "pipe" : "ignore", "pipe", "pipe"],
        detached: true,
      });
    } catch (thrown) {
      end({ error: cannotRun(first, cwd, thrown as NodeJS.ErrnoException) });
      return undefined;
    }
    const { pid } = child;
    if (pid !== undefined && groupsDir) {
      mark = join(groupsDir, String(pid));
      note(mark);
    }
    child.on("error", (e: NodeJS.ErrnoException) => {
      if (pid === undefined) end({ error: cannotRun(first, cwd, e) });
    });
    child.stdin?.on("error", () => {
      // It closed its stdin: what still comes is dropped.
    });
    for (const [stream, fd] of [
      [child.stdout, 1],
      [child.stderr, 2],
    ] as const)
      stream?.on("data", (bytes: Buffer) => {
        if (!over) events.output(fd, bytes);
      });
    child.on("exit", (code, signal) => {
      const done = () => {
        clearInterval(grace);
        end({ code: code ?? undefined, signal: signal ?? undefined });
      };
      const grace = setInterval(() => {
        // While output is paused the pipes stay open because we do not read them.
        if (!events.outputPaused()) done();
      }, OUTPUT_GRACE_MS);
      child.on("close", done);
    });
    return {
      write(bytes, taken) {
        const input = child.stdin;
        if (!input || input.destroyed || !input.writable) taken();
        else input.write(bytes, () => taken());
      },
      endInput: () => child.stdin?.end(),
      pause() {
        child.stdout?.pause();
        child.stderr?.pause();
      },
      resume() {
        child.stdout?.resume();
        child.stderr?.resume();
      },
      kill(signal) {
        if (pid === undefined) return;
        signalGroup(pid, signal);
        if (signal === "SIGTERM") killLater(pid);
      },
    };
  };
}

/** Notes a group. Where that fails, as on a full disk, the command runs all the same. */
function note(mark: string): void {
  try {
    closeSync(openOwn(mark, "append"));
  } catch (thrown) {
    inform(`Cannot note a command's process group: ${(thrown as Error).message}`);
  }
}

/** The program and arguments to run: our own tools are those of this release, whatever PATH says. */
export function resolveArgv(argv: readonly string[]): readonly string[] {
  const [first = "", ...rest] = argv;
  return /^mt-[a-z]+$/.test(first) ? [...toolCommand(first), ...rest] : argv;
}

/** Groups that got SIGTERM and may still have members. */
const ending = new Set<number>();

/**
 * Kills what is left of a process group after the grace. The whole group, because the leader may end on SIGTERM and
 * leave children that ignore it.
 */
function killLater(leader: number): void {
  if (ending.has(leader)) return;
  ending.add(leader);
  const end = Date.now() + KILL_GRACE_MS;
  const look = setInterval(() => {
    if (ending.has(leader) && signalGroup(leader, Date.now() >= end ? "SIGKILL" : 0) && Date.now() < end)
      return;
    ending.delete(leader);
    clearInterval(look);
  }, 100);
}

/** Called before the agent ends: groups that got SIGTERM have this long, and are then killed. Nobody else would do it. */
export async function endAsked(grace_s: number): Promise<void> {
  await waitFor(() => ([...ending].some((leader) => signalGroup(leader, 0)) ? undefined : true), grace_s, 20);
  for (const leader of ending) signalGroup(leader, "SIGKILL");
  ending.clear();
}

/** Signals a process group. Gives whether it has any process. */
function signalGroup(leader: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-leader, signal);
  } catch {
    return false;
  }
}

/** Kills the groups that an earlier agent left running: nobody can get their output any more. */
export function endLeftGroups(groupsDir: string): void {
  let files: string[];
  try {
    files = readdirSync(groupsDir);
  } catch {
    return;
  }
  const booted_ms = Date.now() - uptime() * 1000;
  for (const file of files) {
    const path = join(groupsDir, file);
    const pid = Number(file);
    const written_ms = statSync(path).mtimeMs;
    rmSync(path, { force: true });
    // A pid is used again only when the whole group has ended: a leader that is younger than the file is another group.
    const ticks = startTime(pid);
    const began_ms = ticks === undefined ? written_ms : booted_ms + (Number(ticks) * 1000) / TICKS_PER_S;
    if (!(pid > 1) || written_ms < booted_ms || began_ms > written_ms + CLOCK_SLACK_MS) continue;
    signalGroup(pid, "SIGKILL");
  }
}

/** Why a program could not be started here. */
export function cannotRun(file: string, cwd: string | undefined, e: NodeJS.ErrnoException): MtError {
  // The kernel gives ENOENT for a missing directory as it does for a missing program.
  if (cwd !== undefined && !isDirectory(cwd))
    return mtError(
      "data",
      `Cannot run ${file} in ${cwd}: it is no directory on this host`,
      "make it there first",
    );
  if (e.code === "ENOENT")
    return mtError(
      "unavailable",
      `Cannot run ${file}: it is not on this host`,
      "install it there, or give its whole path",
    );
  if (e.code === "EACCES") return mtError("permission", `Cannot run ${file}: it may not be executed`);
  return mtError("failed", `Cannot run ${file}: ${e.message}`);
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}
