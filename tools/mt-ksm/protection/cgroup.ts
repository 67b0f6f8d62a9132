/**
 * The memory cgroup of an experiment's guests, v1 or v2, below our own cgroup, so that the limits of a job or a
 * container still hold. It is found by its name alone, also after a crash.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { ok, type Result } from "neverthrow";
import { fail, type MtError, mtError } from "../../../shared/errors.ts";
import { guestCgroup } from "../../../shared/host/names.ts";
import { waitFor } from "../../../shared/host/process.ts";

const MIB = 1024 * 1024;
const DEPTH_MAX = 12;
const REMOVE_S = 5;

interface Hierarchy {
  version: 1 | 2;
  /** Where it is mounted, and which part of it. */
  mount: string;
  root: string;
}

/** The hierarchies that have a memory controller, or may have, from mountinfo. */
export function memoryHierarchies(mountinfo: string): Hierarchy[] {
  const out: Hierarchy[] = [];
  for (const line of mountinfo.split("\n")) {
    const [left = "", right = ""] = line.split(" - ");
    const [, , , root = "/", mount = ""] = left.split(" ");
    const [type, , options = ""] = right.split(" ");
    if (type === "cgroup" && options.split(",").includes("memory")) out.push({ version: 1, mount, root });
    if (type === "cgroup2") out.push({ version: 2, mount, root });
  }
  // Where both are mounted, a v1 hierarchy that names the memory controller has it.
  return out.sort((a, b) => a.version - b.version);
}

/** Our own directory in a hierarchy, from /proc/self/cgroup. */
export function ownDirectory({ version, mount, root }: Hierarchy, cgroup: string): string {
  for (const line of cgroup.split("\n")) {
    const [, id = "", controllers = "", path = "/"] = /^(\d+):([^:]*):(.*)$/.exec(line) ?? [];
    if (id === "" || (version === 2 ? id !== "0" : !controllers.split(",").includes("memory"))) continue;
    if (path === root || root === "/") return join(mount, path === root ? "" : path);
    return path.startsWith(`${root}/`) ? join(mount, path.slice(root.length)) : mount;
  }
  return mount;
}

/** The directory to make the cgroup in; undefined where this hierarchy has no memory controller for us. */
function parentIn(hierarchy: Hierarchy): string | undefined {
  let dir = ownDirectory(hierarchy, readFileSync("/proc/self/cgroup", "utf8"));
  if (!existsSync(dir)) dir = hierarchy.mount;
  if (hierarchy.version === 1) return dir;
  // In v2 a group with processes has no controllers for groups below: the next above that has.
  for (; dir.startsWith(hierarchy.mount); dir = dirname(dir)) {
    if (words(join(dir, "cgroup.subtree_control")).includes("memory")) return dir;
    if (dir === hierarchy.mount) break;
  }
  return undefined;
}

function words(file: string): string[] {
  try {
    return readFileSync(file, "utf8").trim().split(/\s+/);
  } catch {
    return [];
  }
}

const hierarchies = () => memoryHierarchies(readFileSync("/proc/self/mountinfo", "utf8"));

/**
 * Makes the cgroup where it is missing, and sets its limit.
 * @param limit_mib for all its guests together
 */
export function makeCgroup(experiment: string, limit_mib: number): Result<string, MtError> {
  const cannot = `Cannot limit the guests of ${experiment}`;
  const there = findCgroup(experiment);
  const places = hierarchies().flatMap((h) => parentIn(h) ?? []);
  const parent = places[0];
  if (there === undefined && parent === undefined)
    return fail(
      "unavailable",
      `${cannot}: no memory cgroup is there to make one in`,
      "a kernel with CONFIG_MEMCG, and memory in cgroup.subtree_control",
    );
  const dir = there ?? join(parent!, guestCgroup(experiment));
  try {
    mkdirSync(dir, { recursive: true });
    setLimit(dir, limit_mib);
    return ok(dir);
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (code === "EBUSY")
      return fail("busy", `${cannot} to ${limit_mib} MiB: they have more already`, "mt-boot down some first");
    return fail(
      code === "EACCES" || code === "EPERM" || code === "EROFS" ? "permission" : "failed",
      `${cannot}: ${code ?? thrown} at ${dir}`,
      "run it as root, where cgroups may be made",
    );
  }
}

function setLimit(dir: string, limit_mib: number): void {
  const bytes = String(limit_mib * MIB);
  if (existsSync(join(dir, "memory.max"))) {
    // So that the kernel kills one guest, not all of them.
    writeFileSync(join(dir, "memory.oom.group"), "0");
    return writeFileSync(join(dir, "memory.max"), bytes);
  }
  // A moved process takes its charged memory along, on kernels that still do that.
  try {
    writeFileSync(join(dir, "memory.move_charge_at_immigrate"), "3");
  } catch {}
  writeFileSync(join(dir, "memory.limit_in_bytes"), bytes);
}

/** Where it is; undefined where it is not. */
export function findCgroup(experiment: string): string | undefined {
  const name = guestCgroup(experiment);
  for (const { mount } of hierarchies()) {
    const found = search(mount, name, DEPTH_MAX);
    if (found) return found;
  }
  return undefined;
}

function search(dir: string, name: string, depth: number): string | undefined {
  let entries: string[];
  try {
    entries = readdirSync(dir, { withFileTypes: true }).flatMap((e) => (e.isDirectory() ? e.name : []));
  } catch {
    return undefined;
  }
  if (entries.includes(name)) return join(dir, name);
  if (depth === 0) return undefined;
  for (const entry of entries) {
    const found = search(join(dir, entry), name, depth - 1);
    if (found) return found;
  }
  return undefined;
}

/** Removes it; processes that are still in it move to its parent. */
export async function removeCgroup(experiment: string): Promise<MtError | undefined> {
  const dir = findCgroup(experiment);
  if (dir === undefined) return undefined;
  let why = "";
  const gone = await waitFor(() => {
    try {
      for (const pid of words(join(dir, "cgroup.procs"))) if (pid) release(pid, dirname(dir));
      rmdirSync(dir);
      return true;
    } catch (thrown) {
      const { code } = thrown as NodeJS.ErrnoException;
      if (code === "ENOENT") return true;
      why = String(code ?? thrown);
      return undefined;
    }
  }, REMOVE_S);
  return gone ? undefined : mtError("failed", `Cannot remove ${dir}: ${why}`);
}

function release(pid: string, parent: string): void {
  try {
    writeFileSync(join(parent, "cgroup.procs"), pid);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== "ESRCH") throw thrown;
  }
}
