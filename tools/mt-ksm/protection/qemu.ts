/** QEMU processes of this host's guests, and the programs that manage them, found in /proc by their command lines. */
import { basename, dirname } from "node:path";
import { experimentDir, runDir } from "../../../shared/host/names.ts";
import { allPids, commandOf } from "../../../shared/host/processes.ts";

export interface Qemu {
  pid: number;
  words: string[];
  /** The guest's directory, which its pidfile stands in. */
  dir: string;
  /** The guest, as QEMU was told. */
  name: string;
}

function* processes(): Generator<{ pid: number; words: string[] }> {
  for (const pid of allPids()) {
    const words = commandOf(pid);
    if (words !== undefined && words[0] !== "") yield { pid, words };
  }
}

const isQemu = (words: readonly string[]) => basename(words[0]!).startsWith("qemu-system");
const after = (words: readonly string[], flag: string) => words[words.indexOf(flag) + 1] ?? "";

/** The QEMUs of an experiment's guests on this host. */
export function guestQemus(experiment: string): Qemu[] {
  const dir = `${experimentDir(experiment)}/`;
  const out: Qemu[] = [];
  for (const { pid, words } of processes()) {
    if (!isQemu(words) || !words.some((w) => w.includes(dir))) continue;
    const pidfile = words.includes("-pidfile") ? after(words, "-pidfile") : "";
    const name = words.includes("-name")
      ? after(words, "-name")
          .replace(/^guest=/, "")
          .split(",")[0]!
      : "";
    const own = dirname(pidfile);
    out.push({ pid, words, dir: own, name: name || basename(own) });
  }
  return out;
}

/** Commands of our own tools that stay: mt-boot supervise, mt-ksm watch. */
const KEEPER = /^(supervise|watch)$/;

/**
 * Processes that must outlive guests: those that are no guest and have a file below this host's run directory in their
 * command line (BIRD, the tree's agents, …), and those of our own tools that stay.
 */
export function keepers(host: string, experiment: string): number[] {
  const dir = `${runDir()}/`;
  const out: number[] = [];
  for (const { pid, words } of processes()) {
    if (pid === process.pid || isQemu(words)) continue;
    const ours = words.some((w) => KEEPER.test(w)) && words.includes(host) && words.includes(experiment);
    if (ours || words.some((w) => w.startsWith(dir))) out.push(pid);
  }
  return out;
}
