/**
 * Files that others append to without end: a guest's console, what QEMU says, what the supervisor says. One that has
 * more than LOG_BYTES_MAX keeps its end. Who appends meanwhile loses nothing but what comes in that moment.
 */
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  statSync,
  writeSync,
} from "node:fs";

export const LOG_BYTES_MAX = 1024 * 1024;
/** What is kept of it: whole lines. */
export const LOG_BYTES_KEPT = 256 * 1024;
/** What the kernel lets a QEMU write into one file, also where nobody looks: it goes on without its log. */
export const LOG_BYTES_HARD = 2 * LOG_BYTES_MAX;

/** Cuts the file where it is too long. */
export function keepEnd(path: string): void {
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) <= LOG_BYTES_MAX) return;
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_APPEND | constants.O_NOFOLLOW);
  } catch {
    return;
  }
  try {
    const end = Buffer.alloc(LOG_BYTES_KEPT);
    const n = readSync(fd, end, 0, end.length, fstatSync(fd).size - end.length);
    ftruncateSync(fd, 0);
    // One endless line has no beginning to look for.
    const line = end.subarray(0, n).indexOf(10) + 1;
    writeSync(fd, end, line === n ? 0 : line, line === n ? n : n - line);
  } catch {
    // A full disk: then it is empty, and takes what comes.
  } finally {
    closeSync(fd);
  }
}
