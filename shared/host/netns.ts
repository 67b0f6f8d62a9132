/** Named network namespaces: whether one is really there, or only the file that a crash left of it. */
import { statSync } from "node:fs";
import { dirname } from "node:path";
import { netnsPath } from "./process.ts";
import { netnsOf } from "./processes.ts";

/** The inode of a namespace; undefined where nothing is mounted there (a crash between file and mount). */
export function namespaceInode(name: string): number | undefined {
  try {
    const path = netnsPath(name);
    const there = statSync(path);
    return there.dev === statSync(dirname(path)).dev ? undefined : there.ino;
  } catch {
    return undefined;
  }
}

/** Whether a process is in the namespace that has this name now: one that was made anew is another. */
export function isInNamespace(pid: number, name: string): boolean {
  const inode = namespaceInode(name);
  return inode !== undefined && netnsOf(pid) === inode;
}
