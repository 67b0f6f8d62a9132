/**
 * One running QEMU: its process, and our connections to its QMP, agent and system call sockets. Started by us or found
 * alive; it does not end with us.
 */
import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readSync, statSync } from "node:fs";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import { tapName } from "../../../shared/host/names.ts";
import { placeGuest, readOomPlan } from "../../../shared/host/oom.ts";
import { cleanEnv, findProgram, isAlive, waitFor } from "../../../shared/host/process.ts";
import { openOwn, ownDir, removeOwn } from "../../../shared/own-place.ts";
import { type Agent, openAgent } from "../guest/agent.ts";
import { type Calls, openCalls } from "../guest/calls.ts";
import type { Boot } from "../platforms/platform.ts";
import { LOG_BYTES_HARD } from "../supervisor/log-end.ts";
import { diskError, Stall } from "./disk.ts";
import { guestFiles, guestMark } from "./guest-files.ts";
import { openQmp, type Qmp, type QmpEvent } from "./qmp.ts";

/** Writes beyond the limit fail, and QEMU goes on. In blocks of 512 bytes (POSIX). */
const LIMITED = `ulimit -f ${LOG_BYTES_HARD / 512}; trap '' XFSZ; exec "$@"`;
const TAIL_CHARACTERS_MAX = 400;
const TAIL_LINES_MAX = 5;
/** How much of a console's end is read: a panic's line stands above some KiB of registers. */
const CONSOLE_BYTES_MAX = 32 * 1024;
const PANIC = "Kernel panic - not syncing: ";

export interface Machine {
  pid: number;
  dir: string;
  qmp: Qmp;
  agent: Agent;
  calls: Calls;
  stall: Stall;
  /** Closes the connections; QEMU goes on. */
  close(): void;
}

/** A QEMU that has just been started. */
export interface Spawned {
  pid: number;
  /** Settles when the process has ended; says how. */
  ended: Promise<string>;
  /** The first line of QEMU's own error, where it ended with one. */
  complaint(): string | undefined;
}

/** Checks what must be on this host before QEMU is started; trying again does not help. */
export function preflight({ experiment, guest, kernel, initrd, disk }: Boot): Result<void, MtError> {
  for (const file of [kernel, initrd, disk?.base])
    if (file !== undefined && !existsSync(file))
      return fail("unavailable", `Cannot boot {id}: image ${guest.image} is not on this host`, "mt-push");
  for (const nic of guest.interfaces.keys()) {
    // /proc shows our own network namespace, /sys/class/net may not. QEMU would make a missing tap, on no bridge.
    if (!existsSync(`/proc/sys/net/ipv4/conf/${tapName(experiment, guest.id, nic)}`))
      return fail("unavailable", `Cannot boot {id}: the tap of its eth${nic} is not there`, "mt-vnet up");
  }
  return ok(undefined);
}

/**
 * Starts QEMU in a session of its own, in a directory made anew; gives its pid at once.
 * @param prepare puts what QEMU needs into the directory; may give a descriptor that QEMU gets as STATE_FD, and that
 * the caller closes; may throw
 */
export function spawnQemu(boot: Boot, prepare?: () => number | undefined): Result<Spawned, MtError> {
  const program = findProgram(boot.platform.qemu);
  if (program.isErr()) return fail("unavailable", program.error.message, program.error.hint);
  const files = guestFiles(boot.dir);
  removeOwn(boot.dir);
  ownDir(boot.dir);
  const state_fd = prepare?.();
  const log = openOwn(files.log, "append");
  try {
    // No limit for a guest with a disk, whose overlay may grow: its logs are cut by the supervisor alone.
    const words = [program.value, ...boot.platform.argv(boot)];
    const limited = boot.disk ? words : ["/bin/sh", "-c", LIMITED, "sh", ...words];
    const child = spawn(limited[0]!, limited.slice(1), {
      cwd: boot.dir,
      detached: true,
      stdio: state_fd === undefined ? ["ignore", log, log] : ["ignore", log, log, state_fd],
      env: cleanEnv(),
    });
    let complaint: string | undefined;
    const ended = new Promise<string>((resolve) => {
      child.once("error", (thrown) => resolve(thrown.message));
      child.once("exit", (code, signal) => {
        if (code) complaint = firstLine(files.log) || `exit code ${code}`;
        resolve(signal ? `ended by ${signal}` : `ended with code ${code}${lastLine(files.log)}`);
      });
    });
    child.unref();
    if (child.pid === undefined) return fail("failed", "Cannot boot {id}: the kernel gave no process");
    awaitCommandLine(child.pid, boot.dir);
    placeGuest(child.pid, readOomPlan(boot.experiment), boot.guest);
    return ok({ pid: child.pid, ended, complaint: () => complaint });
  } finally {
    closeSync(log);
  }
}

const pause = new Int32Array(new SharedArrayBuffer(4));

/**
 * spawn returns a moment before the kernel has set the new program's command line, by which guests are found in
 * /proc: until then it would look dead. Microseconds, so this blocks.
 */
function awaitCommandLine(pid: number, dir: string): void {
  for (let tries = 0; tries < 200 && existsSync(`/proc/${pid}/exe`) && !isAlive(pid, guestMark(dir)); tries++)
    Atomics.wait(pause, 0, 0, 1);
}

/** Waits for the end of a process whose socket has closed. How it ended is known of our own children only. */
export async function endOfProcess(pid: number, dir: string): Promise<string> {
  const gone = await waitFor(() => (isAlive(pid, guestMark(dir)) ? undefined : true), 5);
  // Node tells a child's exit a moment after /proc shows it; the caller races the two, and the child's word says more.
  if (gone) await new Promise((resolve) => setTimeout(resolve, 200));
  return gone ? "ended" : "closed its socket and does not end";
}

/**
 * Connects to a QEMU's QMP, agent and system call sockets.
 * @param timeout_s how long QEMU may take to answer
 */
export async function connectMachine(
  pid: number,
  dir: string,
  options: {
    timeout_s: number;
    onClose?: () => void;
    onEvent?: (event: QmpEvent) => void;
    /** QEMU has stopped the guest because of its disk; `stall` has the error. */
    onStall?: () => void;
  },
): Promise<Result<Machine, MtError>> {
  const files = guestFiles(dir);
  const stall = new Stall();
  const onEvent = (event: QmpEvent) => {
    const error = diskError(event);
    if (error && !stall.error) {
      stall.begin(error);
      options.onStall?.();
    }
    options.onEvent?.(event);
  };
  const given_up = () => !isAlive(pid, guestMark(dir));
  const qmp = await openQmp(files.qmp, { ...options, onEvent, given_up });
  if (qmp.isErr()) return err(qmp.error);
  const agent = await openAgent(files.agent, { timeout_s: options.timeout_s, given_up });
  if (agent.isErr()) {
    qmp.value.close();
    return err(agent.error);
  }
  const calls = await openCalls(files.identity, { timeout_s: options.timeout_s, given_up });
  if (calls.isErr()) {
    agent.value.close();
    qmp.value.close();
    return err(calls.error);
  }
  const close = () => {
    calls.value.close();
    agent.value.close();
    qmp.value.close();
  };
  return ok({ pid, dir, qmp: qmp.value, agent: agent.value, calls: calls.value, stall, close });
}

/** The end of a guest's console, for an error's hint; without time stamps, so that equal errors fold. */
export function consoleTail(dir: string): string | undefined {
  const said = consoleLines(dir);
  const at = said.findIndex((line) => line.includes(PANIC));
  const last = at < 0 ? said.slice(-TAIL_LINES_MAX) : said.slice(Math.max(0, at - 2), at + 1);
  const text = last.join("\n").slice(-TAIL_CHARACTERS_MAX);
  return text === "" ? undefined : `its console ends: ${text}`;
}

/** The message of a guest's kernel panic. */
export function kernelPanic(dir: string): string | undefined {
  const line = consoleLines(dir).find((l) => l.includes(PANIC));
  return line?.slice(line.indexOf(PANIC) + PANIC.length).trim();
}

const consoleLines = (dir: string): string[] =>
  tail(guestFiles(dir).console, CONSOLE_BYTES_MAX)
    .replaceAll("\r", "")
    .split("\n")
    .map((line) => line.replace(/^(<\d+>)?\[ *\d+\.\d+\] ?/, "").trimEnd())
    .filter((line) => line !== "");

function lastLine(file: string): string {
  const line = tail(file, TAIL_CHARACTERS_MAX).trim().split("\n").pop() ?? "";
  return line === "" ? "" : `: ${line}`;
}

/** Without QEMU's name in front. */
function firstLine(file: string): string {
  try {
    const fd = openSync(file, "r");
    try {
      const bytes = Buffer.alloc(TAIL_CHARACTERS_MAX);
      const text = bytes.toString("utf8", 0, readSync(fd, bytes, 0, bytes.length, 0));
      return text
        .trim()
        .split("\n")[0]!
        .replace(/^\S*qemu-system-\w+: /, "");
    } finally {
      closeSync(fd);
    }
  } catch {
    return "";
  }
}

function tail(file: string, bytes_max: number): string {
  try {
    const size = statSync(file).size;
    const bytes = Buffer.alloc(Math.min(size, bytes_max));
    const fd = openSync(file, "r");
    try {
      readSync(fd, bytes, 0, bytes.length, size - bytes.length);
    } finally {
      closeSync(fd);
    }
    return bytes.toString();
  } catch {
    return "";
  }
}
