/**
 * The tree's file, beside the head's socket: all that mt-tree remembers between two commands. It is written before
 * anything is made, so that `down` finds what a crash left.
 */
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError, MtFailure, mtError } from "../../../shared/errors.ts";
import { lock } from "../../../shared/host/lock.ts";
import { treeDir, treeFile } from "../../../shared/host/names.ts";
import { readOwn, readOwnJson, writeOwn } from "../../../shared/own-place.ts";
import type { Authority } from "../link/authority.ts";

export interface TreeHost {
  id: string;
  addr: string;
  cores: number;
  mem_mib: number;
  /** MTU of its link to the cluster's network, where --mtu gave one (--via local). */
  mtu?: number;
  /** The release of its agent, as `--version` prints it; known where `up` brings the binary. */
  release?: string;
}

export interface TreeFile {
  /** How hosts are reached, as --via names it. */
  via: string;
  fanout: number;
  port: number;
  silence_ms: number;
  /** `listen`: the address on which it listens, where hosts reach it at another one. */
  head: { name: string; addr: string; listen?: string; release?: string };
  /** How ssh is called (--ssh), where hosts are reached by it. */
  ssh?: string;
  /** Links stay inside ssh. */
  no_port?: boolean;
  authority: Authority;
  hosts: TreeHost[];
}

/** The tree that is up here; undefined where none is, an error where its file cannot be read or is damaged. */
export function openTree(): Result<TreeFile | undefined, MtError> {
  let text: string;
  try {
    text = readOwn(treeFile());
  } catch (thrown) {
    if (thrown instanceof MtFailure) return err(thrown.error);
    const { code, message } = thrown as NodeJS.ErrnoException;
    if (code === "ENOENT") return ok(undefined);
    if (code === "EACCES")
      return fail(
        "permission",
        `Cannot read the tree's file ${treeFile()}: it is another user's`,
        "be that user, or have a tree of your own with another MT_RUN",
      );
    return fail("io", `Cannot read the tree's file ${treeFile()}: ${message}`);
  }
  try {
    const tree = JSON.parse(text) as TreeFile;
    if (Array.isArray(tree.hosts) && tree.head?.addr && tree.authority?.key && tree.via) return ok(tree);
  } catch {
    // A file that was cut is no JSON.
  }
  return fail(
    "data",
    `Cannot read the tree's file ${treeFile()}: it is damaged`,
    "mt-tree down removes what can be found of the tree; then mt-tree up with all hosts",
  );
}

/** The same, and undefined also where the file is damaged. Throws where it is another user's. */
export const readTree = () => readOwnJson(treeFile()) as TreeFile | undefined;

export function writeTree(tree: TreeFile): void {
  writeOwn(treeFile(), JSON.stringify(tree));
}

/** Lets one `up` or `down` run at a time. @param without_room as in `lock` */
export async function lockTree(what: string, without_room = false): Promise<Result<() => void, MtError>> {
  const release = await lock(`${treeDir()}.lock`, what, 60, without_room);
  return release.mapErr(({ message }) => mtError("busy", message, "wait for it, then try again"));
}

/**
 * The ancestors of the k-th host, nearest first, without the head. Hosts form a heap of the given fanout: the head has
 * the first `fanout` of them, and each later one is below an earlier one.
 */
export function ancestorsOf(k: number, fanout: number): number[] {
  const out: number[] = [];
  for (let at = Math.floor(k / fanout) - 1; at >= 0; at = Math.floor(at / fanout) - 1) out.push(at);
  return out;
}
