/**
 * stdin, stdout and stderr belong to others too: whatever is set on one of them, its other owners see. They are used
 * by number, never through process.stdin, process.stdout or process.stderr, whose mere use makes a shared pipe or
 * socket non-blocking (only on a terminal is it harmless: that is opened anew). Who finds one non-blocking waits.
 */
import { constants, openSync, readFileSync, readlinkSync } from "node:fs";
import { isatty } from "node:tty";

/** How long to wait before the next try where only trying tells: soon at first, then rarely enough to cost nothing. */
export const RETRY_MS_MAX = 25;
const CLOSE_ON_EXEC = 0o2000000;

export const isTerminal = (fd: number): boolean => isatty(fd);

/** What the kernel says that it is, as `pipe:[4711]` or a path. */
function target(fd: number): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return undefined;
  }
}

/** Whether it was closed when we were started: Bun has then put /dev/null there, marked as nothing inherited can be. */
export function wasClosed(fd: 0 | 1 | 2): boolean {
  if (target(fd) !== "/dev/null") return false;
  try {
    const flags = /^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "0";
    return (Number.parseInt(flags, 8) & CLOSE_ON_EXEC) !== 0;
  } catch {
    return false;
  }
}

/** Why nobody gives us anything on stdin, to stand after "stdin is"; undefined where somebody may. */
export function noStdin(): "a terminal" | "closed" | undefined {
  if (isTerminal(0)) return "a terminal";
  return wasClosed(0) ? "closed" : undefined;
}

/** What to call stdout and stderr in a message: with the file, where it is one. */
export function nameOf(fd: number): string {
  const name = ["stdin", "stdout", "stderr"][fd] ?? `descriptor ${fd}`;
  const path = isStandard(fd) && wasClosed(fd) ? undefined : target(fd);
  return path?.startsWith("/") ? `${name} (${path})` : name;
}

const anew = new Map<number, number | undefined>();

/**
 * The same pipe or terminal, opened once more for us alone: it blocks, whatever others do to the one that is shared.
 * Nothing where it can't be: a socket, another user's pipe, no /proc; nor for a pipe with a name, whose opening waits
 * for the other end.
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
    // Then we try again and again.
  }
  anew.set(fd, own);
  return own;
}

export const isStandard = (fd: number): fd is 0 | 1 | 2 => fd >= 0 && fd <= 2;
