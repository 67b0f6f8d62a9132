/**
 * Which processes of this machine belong to our MT_RUN: tools, agents, supervisors, QEMU, BIRD and what they started.
 * Not those of another MT_RUN, and not the shell or the pipeline that asks.
 */
import { basename, resolve } from "node:path";
import { runDir } from "../../../shared/host/names.ts";
import { variableOf } from "../../../shared/host/process.ts";
import { allPids, commandOf, statOf } from "../../../shared/host/processes.ts";

export interface Process {
  pid: number;
  /** Clock ticks since boot: tells it from a later process with the same pid. */
  started: string;
  command: string;
}

export interface ProcessFacts {
  pid: number;
  parent: number;
  group: number;
  /** 0: no terminal, as with daemons. */
  terminal: number;
  started: string;
  words: string[];
  /** MT_RUN in its environment. */
  run: string | undefined;
}

const COMMAND_CHARACTERS_MAX = 200;
const DEFAULT_RUN = "/run/megatux";

function readFacts(pid: number): ProcessFacts | undefined {
  const stat = statOf(pid);
  const words = commandOf(pid);
  // A zombie has ended; a kernel thread has no words.
  if (stat === undefined || stat.state === "Z" || words === undefined) return undefined;
  const { parent, group, terminal, started } = stat;
  return { pid, parent, group, terminal, started, words, run: variableOf(pid, "MT_RUN") };
}

/** The tool that a command line runs, compiled or from source. */
export function toolOf(words: readonly string[]): string | undefined {
  const name = basename(words[0] ?? "");
  if (/^mt(-[a-z]+)?$/.test(name)) return name;
  if (!/^(bun|node|deno)$/.test(name)) return undefined;
  for (const word of words.slice(1)) {
    const tool = /(?:^|\/)tools\/(mt(?:-[a-z]+)?)\/main\.ts$/.exec(word)?.[1];
    if (tool) return tool;
  }
  return undefined;
}

const isBelow = (path: string, dir: string) => path.startsWith(`${dir}/`);

/** Whether a word is or contains a path at or below `dir`. */
function names(words: readonly string[], dir: string): boolean {
  return words.some((word) => {
    for (let at = word.indexOf(dir); at >= 0; at = word.indexOf(dir, at + 1)) {
      const before = at === 0 || /[=,:"' ]/.test(word[at - 1]!);
      const after = word[at + dir.length];
      if (before && (after === undefined || /[/,:"' ]/.test(after))) return true;
    }
    return false;
  });
}

/** @param dir the MT_RUN in question, absolute */
export function isOurs(p: ProcessFacts, dir: string): boolean {
  const run = resolve(p.run || DEFAULT_RUN);
  // Only our agents give a program an MT_RUN below this one.
  if (isBelow(run, dir)) return true;
  if (toolOf(p.words) !== undefined && run === dir) return true;
  // QEMU, BIRD and helpers have no terminal; somebody's `less` on a log has one.
  return p.terminal === 0 && names(p.words, dir);
}

/** Processes that only ask: this one, its ancestors, and the other stages of its pipeline. */
export function bystanders(all: ReadonlyMap<number, ProcessFacts>, self: number): Set<number> {
  const above = new Set<number>();
  for (let pid = all.get(self)?.parent ?? 0; pid > 1 && !above.has(pid); pid = all.get(pid)?.parent ?? 0)
    above.add(pid);
  const out = new Set([self, ...above]);
  const group = all.get(self)?.group;
  for (const p of all.values()) {
    if (p.group !== group) continue;
    for (let pid = p.parent, n = 0; pid > 1 && n < 100; pid = all.get(pid)?.parent ?? 0, n++)
      if (above.has(pid)) {
        out.add(p.pid);
        break;
      }
  }
  return out;
}

function allProcesses(): Map<number, ProcessFacts> {
  const all = new Map<number, ProcessFacts>();
  for (const pid of allPids()) {
    const facts = readFacts(pid);
    if (facts) all.set(facts.pid, facts);
  }
  return all;
}

/** Hosts of `--via local` whose agents live under another MT_RUN: another tree on this machine. */
export function foreignHosts(): Set<string> {
  const dir = resolve(runDir());
  const out = new Set<string>();
  for (const { words, run } of allProcesses().values()) {
    const host = /\/hosts\/([^/]+)\/tree\/agent\.json$/.exec(words.at(-1) ?? "")?.[1];
    if (host !== undefined && toolOf(words) !== undefined && !isBelow(resolve(run || DEFAULT_RUN), dir))
      out.add(host);
  }
  return out;
}

export function ourProcesses(): Process[] {
  const dir = resolve(runDir());
  const all = allProcesses();
  const asking = bystanders(all, process.pid);
  return [...all.values()]
    .filter((p) => !asking.has(p.pid) && isOurs(p, dir))
    .map(({ pid, started, words }) => ({
      pid,
      started,
      command: words.join(" ").slice(0, COMMAND_CHARACTERS_MAX),
    }));
}
