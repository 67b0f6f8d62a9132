/**
 * Removes links and router namespaces, whatever state they are in. Links are removed as one group, by one command
 * (400 taps in 0.1 s; one by one takes 10 s); a router's ports go with its namespace.
 */
import { type MtError, mtError } from "../../../shared/errors.ts";
import { namespaceInode } from "../../../shared/host/netns.ts";
import { waitFor } from "../../../shared/host/process.ts";
import { allPids, netnsOf } from "../../../shared/host/processes.ts";
import { runBatch } from "./batch.ts";
import { type Link, namespaces, readLinks } from "./kernel.ts";

const TERM_GRACE_S = 2;
const KILL_GRACE_S = 10;
const GONE_TIMEOUT_S = 60;
/** Far from the small numbers that people give to groups. */
const GROUP = 0x6d740000;

export interface Doomed {
  /** Names of links; those that are not there are no failure. */
  links: ReadonlySet<string>;
  /** Names of namespaces. */
  namespaces: readonly string[];
}

/** Gives what is still there afterwards, by name, with the reason. */
export async function remove(
  doomed: Doomed,
  there: ReadonlyMap<string, Link>,
): Promise<Map<string, MtError>> {
  const left = new Map<string, MtError>();
  const reasons = new Map<string, string>();
  await endProcesses(doomed.namespaces);
  await runBatch(
    "ip",
    doomed.namespaces.map((name) => ({ line: `netns del ${name}`, failed: (why) => reasons.set(name, why) })),
  );
  const links = [...doomed.links].filter((name) => there.has(name));
  if (links.length > 0) await removeLinks(links, there, reasons);
  // The kernel takes namespaces apart in the background: a router's ports are there for a moment longer.
  const now = await waitFor(
    async () => {
      const read = await readLinks();
      return read.isOk() && links.some((name) => read.value.has(name)) ? undefined : read;
    },
    reasons.size > 0 ? 1 : GONE_TIMEOUT_S,
  );
  const known = (now ?? (await readLinks())).unwrapOr(there as Map<string, Link>);
  const cannot = (what: string, name: string) => {
    const why = reasons.get(name) ?? `still there after ${GONE_TIMEOUT_S} s`;
    left.set(name, mtError("failed", `Cannot remove ${what} ${name}: ${why}`));
  };
  for (const name of links) if (known.has(name)) cannot("link", name);
  const remain = new Set(namespaces(""));
  for (const name of doomed.namespaces) if (remain.has(name)) cannot("namespace", name);
  return left;
}

async function removeLinks(
  links: readonly string[],
  there: ReadonlyMap<string, Link>,
  reasons: Map<string, string>,
): Promise<void> {
  const taken = new Set([...there.values()].map((l) => l.group));
  let group = GROUP + (process.pid % 0x10000);
  while (taken.has(String(group))) group++;
  // A router's port may go at any moment, with its namespace: that it is not there is no failure (below).
  const commands = links.map((name) => ({
    line: `link set dev ${name} group ${group}`,
    failed: (why: string) => void reasons.set(name, why),
  }));
  const all = (why: string) => {
    for (const name of links) if (!reasons.has(name)) reasons.set(name, why);
  };
  await runBatch("ip", commands);
  await runBatch("ip", [{ line: `link del group ${group}`, failed: all }]);
  for (const name of links) if (/Cannot find device/.test(reasons.get(name) ?? "")) reasons.delete(name);
}

/** Ends what runs in the namespaces: SIGTERM, then SIGKILL. */
async function endProcesses(names: readonly string[]): Promise<void> {
  const inodes = new Set(names.flatMap((name) => namespaceInode(name) ?? []));
  if (inodes.size === 0) return;
  for (const [signal, grace_s] of [
    ["SIGTERM", TERM_GRACE_S],
    ["SIGKILL", KILL_GRACE_S],
  ] as const) {
    for (const pid of processesIn(inodes)) {
      try {
        process.kill(pid, signal);
      } catch {}
    }
    if (await waitFor(() => (processesIn(inodes).length === 0 ? true : undefined), grace_s)) return;
  }
}

/** One pass over /proc for all namespaces. */
const processesIn = (inodes: ReadonlySet<number>): number[] =>
  allPids().filter((pid) => pid !== process.pid && inodes.has(netnsOf(pid) ?? -1));
