/**
 * How much more this host can hold: memory available without swapping, also within our memory cgroups, memory pressure
 * (PSI), and the processor time and memory that guests take.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const MIB = 1024 * 1024;

const read = (path: string): string => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
};
const kibOf = (text: string, name: string) =>
  Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1]);

/** Many guests ask at the same time, so an answer is kept for some milliseconds. */
function briefly<T>(ask: () => T): () => T {
  let said: { value: T; at: number } | undefined;
  return () => {
    const now = performance.now();
    if (!said || now - said.at > SAME_MS) said = { value: ask(), at: now };
    return said.value;
  };
}
const SAME_MS = 50;

/** MiB that can still be taken here without swapping or breaking a cgroup's limit. */
export const availableMib = briefly(() =>
  Math.floor(Math.min(kibOf(read("/proc/meminfo"), "MemAvailable") / 1024, ...cgroupRoomMib())),
);

/** What each memory cgroup above us has left, counting file pages that it can drop. */
function cgroupRoomMib(): number[] {
  const rooms: number[] = [];
  for (const line of read("/proc/self/cgroup").split("\n")) {
    const [, controllers, path] = /^\d+:([^:]*):(.+)$/.exec(line) ?? [];
    if (path === undefined) continue;
    const v2 = controllers === "";
    if (!v2 && !controllers!.split(",").includes("memory")) continue;
    const root = v2 ? v2Root() : "/sys/fs/cgroup/memory";
    for (let at = path; root !== undefined; at = join(at, "..")) {
      const dir = join(root, at);
      const room = roomOf(dir);
      if (room !== undefined) rooms.push(room);
      if (at === "/" || at === ".") break;
    }
  }
  return rooms;
}

/** MiB that a memory cgroup, v1 or v2, has left; undefined where it has no limit, or is not there. */
export function roomOf(dir: string): number | undefined {
  const first = (...names: string[]) => names.map((n) => read(join(dir, n))).find((text) => text !== "");
  const limit = Number(first("memory.max", "memory.limit_in_bytes") ?? "NaN");
  const usage = Number(first("memory.current", "memory.usage_in_bytes"));
  const droppable = Number(
    /^(?:total_)?inactive_file (\d+)$/m.exec(read(join(dir, "memory.stat")))?.[1] ?? 0,
  );
  // No limit is "max", or a number beyond all memory.
  return limit < 2 ** 60 ? (limit - usage + droppable) / MIB : undefined;
}

const v2Root = () =>
  ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].find((d) => read(join(d, "cgroup.controllers")) !== "");

/** Percent of the last ten seconds in which some, or all, that could run waited for memory; 0 without PSI. */
export const memoryPressure = briefly(() => {
  const text = read("/proc/pressure/memory");
  const of = (word: string) => Number(new RegExp(`^${word} avg10=([\\d.]+)`, "m").exec(text)?.[1] ?? 0);
  return { some: of("some"), full: of("full") };
});

/** Pages that have been swapped out since boot. */
export const swappedOut = briefly(() => Number(/^pswpout (\d+)$/m.exec(read("/proc/vmstat"))?.[1] ?? 0));

/** Seconds of processor time that a process has had, all its threads. */
export function cpuSeconds(pid: number): number | undefined {
  try {
    let ns = 0;
    for (const thread of readdirSync(`/proc/${pid}/task`))
      ns += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
    return ns / 1e9;
  } catch {
    return undefined;
  }
}

/** Proportional set size: private pages, and a share of each shared one. */
export function proportionalMib(pid: number): number | undefined {
  const kib = kibOf(read(`/proc/${pid}/smaps_rollup`), "Pss");
  return Number.isNaN(kib) ? undefined : kib / 1024;
}
