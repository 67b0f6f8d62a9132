/**
 * What MegaTux could leave behind on this machine (processes, namespaces, links, mounts, kernel settings, run files),
 * and what of it was not there before.
 */
import { accessSync, constants, type Dirent, readdirSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { MtFailure, mtError } from "../../../shared/errors.ts";
import { heldLeases } from "../../../shared/host/lease.ts";
import { clusterNamespace, leaseDir, runDir } from "../../../shared/host/names.ts";
import { foreignHosts, ourProcesses, type Process } from "./processes.ts";

export interface Machine {
  processes: Process[];
  /** Named network namespaces whose name can be of MegaTux. */
  namespaces: string[];
  /** Network interfaces in the namespace of the machine itself. */
  links: string[];
  mounts: string[];
  /** Kernel settings by path. */
  settings: Record<string, string>;
  run_files: string[];
}

const KSM_DIR = "/sys/kernel/mm/ksm";
const SYSCTLS = [
  "/proc/sys/net/ipv4/neigh/default/gc_thresh1",
  "/proc/sys/net/ipv4/neigh/default/gc_thresh2",
  "/proc/sys/net/ipv4/neigh/default/gc_thresh3",
  "/proc/sys/net/ipv4/ip_forward",
];

export function lookAtMachine(): Machine {
  return {
    processes: ourProcesses(),
    namespaces: ourNamespaces(list("/run/netns"), foreignHosts()),
    links: links(read("/proc/1/net/dev") ?? read("/proc/net/dev") ?? ""),
    mounts: mountPoints(read("/proc/self/mountinfo") ?? ""),
    settings: settings(),
    run_files: [
      ...filesBelow(resolve(runDir())),
      ...filesBelow(resolve(leaseDir()), "as far as allowed").filter((path) => !foreignLease(path)),
    ],
  };
}

/**
 * Namespaces whose name can be of MegaTux, without those of another tree on this machine.
 * @param foreign hosts whose agents live under another MT_RUN
 */
export function ourNamespaces(names: readonly string[], foreign: ReadonlySet<string>): string[] {
  return names.filter((name) => {
    if (name.startsWith("mt-net-")) return name === clusterNamespace();
    const host = /^mt-(.+)$/.exec(name)?.[1] ?? /^mt:([^:]+):/.exec(name)?.[1];
    return host !== undefined && !foreign.has(host);
  });
}

const below = (holder: string) =>
  holder.startsWith(`${resolve(runDir())}/`) || holder.startsWith(`${resolve(runDir())}:`);

/** Whether a lease file, or a lock or half-written file beside it, belongs only to other users of this machine. */
function foreignLease(path: string): boolean {
  return heldLeases().some(
    (lease) => path.startsWith(lease.file.slice(0, -".json".length)) && !lease.holders.some(below),
  );
}

/** What is in `now` and was not in `before`, one text a thing. */
export function whatIsNew(before: Machine, now: Machine): string[] {
  const known = new Set(before.processes.map((p) => `${p.pid} ${p.started}`));
  const changed = Object.entries(before.settings).filter(
    ([path, was]) => (now.settings[path] ?? was) !== was,
  );
  return [
    ...now.processes
      .filter((p) => !known.has(`${p.pid} ${p.started}`))
      .map((p) => `process ${p.pid}: ${p.command}`),
    ...added(before.namespaces, now.namespaces).map((name) => `namespace ${name}`),
    ...added(before.links, now.links).map((name) => `link ${name}`),
    ...added(before.mounts, now.mounts).map((path) => `mount ${path}`),
    ...changed.map(([path, was]) => `setting ${path}: ${was} before, ${now.settings[path]} now`),
    ...added(before.run_files, now.run_files).map((path) => `file ${path}`),
  ];
}

/** What `now` has more of than `before`: a directory can be mounted twice. */
function added(before: readonly string[], now: readonly string[]): string[] {
  const left = new Map<string, number>();
  for (const item of before) left.set(item, (left.get(item) ?? 0) + 1);
  return now.filter((item) => {
    const n = left.get(item) ?? 0;
    if (n > 0) left.set(item, n - 1);
    return n === 0;
  });
}

/** Names in the text of /proc/net/dev. */
export function links(text: string): string[] {
  return text
    .split("\n")
    .slice(2)
    .flatMap((line) => /^\s*(\S+):/.exec(line)?.[1] ?? []);
}

/** Mount points in the text of mountinfo; those of named namespaces are counted as namespaces. */
export function mountPoints(text: string): string[] {
  return text
    .split("\n")
    .flatMap((line) => line.split(" ")[4] ?? [])
    .filter((path) => !/^(\/var)?\/run\/netns(\/|$)/.test(path));
}

/** All settings of KSM that can be changed, and the sysctls that tools lease. */
function settings(): Record<string, string> {
  const ksm = list(KSM_DIR).map((name) => join(KSM_DIR, name));
  const out: Record<string, string> = {};
  // Settings that another user of this machine has leased are restored by that user.
  const theirs = new Set(
    heldLeases()
      .filter((l) => l.holders.some((h) => !below(h)))
      .flatMap((l) => l.paths),
  );
  for (const path of [...ksm.filter(canBeSet), ...SYSCTLS]) {
    if (theirs.has(path)) continue;
    const value = read(path);
    if (value !== undefined) out[path] = value.trim();
  }
  return out;
}

/**
 * Whether we can set it: in a user namespace only the machine's root sets KSM, and a change there was not left behind
 * by us.
 */
function canBeSet(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return (statSync(path).mode & 0o200) !== 0;
  } catch {
    return false;
  }
}

/** Files, sockets and links below a directory, without the directories themselves. */
function filesBelow(dir: string, how: "all" | "as far as allowed" = "all"): string[] {
  let entries: Dirent[];
  try {
    entries = readdirSync(dir, { withFileTypes: true });
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (how !== "all" || code === "ENOENT" || code === "ENOTDIR") return [];
    throw new MtFailure(
      mtError("permission", `Cannot look into ${dir}: ${code ?? thrown}`, "run it as root"),
    );
  }
  return entries.flatMap((entry) => {
    const path = join(dir, entry.name);
    return entry.isDirectory() ? filesBelow(path, how) : [path];
  });
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
