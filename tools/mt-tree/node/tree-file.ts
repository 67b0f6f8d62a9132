/**
 * What is known of the tree between two commands: one file beside the head's socket. Written before
 * anything is made, so that `down` finds what a crash left.
 */
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError, MtFailure } from "../../../shared/errors.ts";
import { lock } from "../../../shared/host/lock.ts";
import { treeDir, treeFile } from "../../../shared/host/names.ts";
import { readOwn, readOwnJson, writeOwn } from "../../../shared/own-place.ts";
import type { Authority } from "../link/authority.ts";

export interface TreeHost {
  id: string;
  addr: string;
  cores: number;
  mem_mib: number;
  /** Of its link to the cluster's network, where it was asked for: --via local. */
  mtu?: number;
  /** What its agent was started from, as `--version` says it; known where up brings the binary. */
  release?: string;
}

export interface TreeFile {
  /** The name of its way. */
  via: string;
  fanout: number;
  port: number;
  silence_ms: number;
  /** `listen`: its own address, where hosts know it by another one. */
  head: { name: string; addr: string; listen?: string; release?: string };
  /** How ssh is called, where hosts are reached by it. */
  ssh?: string;
  /** Links stay inside ssh. */
  no_port?: boolean;
  authority: Authority;
  hosts: TreeHost[];
}

/** The tree that is here; nothing where none is, an error where its file cannot be read or is damaged. */
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
    // Half of it is no JSON.
  }
  return fail(
    "data",
    `Cannot read the tree's file ${treeFile()}: it is damaged`,
    "mt-tree down takes away what can be found of the tree, then up with all hosts",
  );
}

/** The same where a damaged file is as good as none. Throws where it is another's. */
export const readTree = () => readOwnJson(treeFile()) as TreeFile | undefined;

export function writeTree(tree: TreeFile): void {
  writeOwn(treeFile(), JSON.stringify(tree));
}

/** One `up` or `down` at a time. @param without_room as `lock` has it */
export async function lockTree(what: string, without_room = false): Promise<Result<() => void, MtError>> {
  const held = await lock(`${treeDir()}.lock`, what, 60, without_room);
  return held.isErr() ? fail("busy", held.error.message, "wait for it, then try again") : ok(held.value);
}

/**
 * The ancestors of the k-th host, nearest first, without the head: a heap of the given fanout, in which
 * the head has the first `fanout` hosts, so that whoever comes later stands under somebody who came earlier.
 */
export function ancestorsOf(k: number, fanout: number): number[] {
  const out: number[] = [];
  for (let at = Math.floor(k / fanout) - 1; at >= 0; at = Math.floor(at / fanout) - 1) out.push(at);
  return out;
}
