/** The files of one guest in its directory, and how its QEMU is found by them in /proc when all else is lost. */
import { join } from "node:path";

export const guestFiles = (dir: string) => ({
  pid: join(dir, "pid"),
  qmp: join(dir, "qmp"),
  agent: join(dir, "agent"),
  identity: join(dir, "identity"),
  /** All that the guest has written to its console. */
  console: join(dir, "console"),
  /** Where a client is attached to it. */
  tty: join(dir, "tty"),
  log: join(dir, "qemu.log"),
});

/** What stands in the command line of this guest's QEMU and of no other process. */
export const guestMark = (dir: string) => `\0-pidfile\0${join(dir, "pid")}\0`;

/** The file descriptor on which QEMU finds the state that it goes on from. */
export const STATE_FD = 3;
