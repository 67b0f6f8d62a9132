/** Named network namespaces: whether one exists, or only the file that a crash left. */
import { statSync } from "node:fs";
import { dirname } from "node:path";
import { netnsPath } from "./process.ts";
import { netnsOf } from "./processes.ts";

/** The inode of a namespace; undefined if nothing is mounted on its file (a crash between file and mount). */
export function namespaceInode(name: string): number | undefined {
  try {
    const path = netnsPath(name);
    const there = statSync(path);
    return there.dev === statSync(dirname(path)).dev ? undefined : there.ino;
  } catch {
    return undefined;
  }
}

/** Whether a process is in the namespace that has this name now: one that was remade is a different one. */
export function isInNamespace(pid: number, name: string): boolean {
  const inode = namespaceInode(name);
  return inode !== undefined && netnsOf(pid) === inode;
}
