/** Named network namespaces: whether one is really there, or only the file that a crash left of it. */
import { statSync } from "node:fs";
import { dirname } from "node:path";
import { netnsPath } from "./process.ts";

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
