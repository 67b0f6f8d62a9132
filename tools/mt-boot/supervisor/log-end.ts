/**
 * Keeps log files short: a guest's console, QEMU's and the supervisor's stderr. One longer than LOG_BYTES_MAX is cut down
 * to its end. What others append while it is cut is lost.
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
/** How much is kept, in whole lines. */
export const LOG_BYTES_KEPT = 256 * 1024;
/** File size limit of a QEMU, for when no supervisor cuts its logs: it goes on without them. */
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
    // Begins after the first newline; a single long line has none.
    const line = end.subarray(0, n).indexOf(10) + 1;
    writeSync(fd, end, line === n ? 0 : line, line === n ? n : n - line);
  } catch {
    // A full disk: the file is empty then, and is appended to.
  } finally {
    closeSync(fd);
  }
}
