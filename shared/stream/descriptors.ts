/**
 * stdin, stdout and stderr are shared with other processes, which see whatever flags are set on them. So they are used
 * by number, never through process.stdin, process.stdout or process.stderr: touching these makes a shared pipe or
 * socket non-blocking (a terminal is opened anew, so there it is harmless). If one is non-blocking already, wait.
 */
import { constants, openSync, readFileSync, readlinkSync } from "node:fs";
import { isatty } from "node:tty";

/** Longest pause between tries on a non-blocking descriptor, in ms; the first is 1 ms. */
export const RETRY_MS_MAX = 25;
const CLOSE_ON_EXEC = 0o2000000;

export const isTerminal = (fd: number): boolean => isatty(fd);

/** The target of a descriptor, such as `pipe:[4711]` or a path. */
function target(fd: number): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return undefined;
  }
}

/** Whether it was closed when we were started: Bun then opens /dev/null there with close-on-exec, which no inherited descriptor has. */
export function wasClosed(fd: 0 | 1 | 2): boolean {
  if (target(fd) !== "/dev/null") return false;
  try {
    const flags = /^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "0";
    return (Number.parseInt(flags, 8) & CLOSE_ON_EXEC) !== 0;
  } catch {
    return false;
  }
}

/** Why stdin gives nothing, to complete "stdin is …"; undefined if it may give something. */
export function noStdin(): "a terminal" | "closed" | undefined {
  if (isTerminal(0)) return "a terminal";
  return wasClosed(0) ? "closed" : undefined;
}

/** The name of a descriptor for messages: `stdout`, and the file if it is one. */
export function nameOf(fd: number): string {
  const name = ["stdin", "stdout", "stderr"][fd] ?? `descriptor ${fd}`;
  const path = isStandard(fd) && wasClosed(fd) ? undefined : target(fd);
  return path?.startsWith("/") ? `${name} (${path})` : name;
}

const anew = new Map<number, number | undefined>();

/**
 * The same pipe or terminal opened again for us alone: it blocks, whatever flags the shared one has. Undefined if that
 * is not possible (a socket, another user's pipe, no /proc) or would wait for the other end (a named pipe).
 */
export function openAnew(fd: 0 | 1 | 2): number | undefined {
  if (anew.has(fd)) return anew.get(fd);
  let own: number | undefined;
  try {
    if (isTerminal(fd) || target(fd)?.startsWith("pipe:"))
      own = openSync(
        `/proc/self/fd/${fd}`,
        (fd === 0 ? constants.O_RDONLY : constants.O_WRONLY) | constants.O_NOCTTY,
      );
  } catch {
    // The caller polls instead.
  }
  anew.set(fd, own);
  return own;
}

export const isStandard = (fd: number): fd is 0 | 1 | 2 => fd >= 0 && fd <= 2;
