/**
 * Who dies first when memory runs out: the order as a function, and with real QEMUs in a memory cgroup that has
 * too little for them. Needs root, a memory cgroup, QEMU, and dist/mt-ksm.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { shortName } from "../../shared/host/names.ts";
import { oomPlan, oomScore } from "../../shared/host/oom.ts";
import { waitFor } from "../../shared/host/process.ts";
import { memoryHierarchies, ownDirectory } from "../../tools/mt-ksm/protection/cgroup.ts";
import { ksmLab } from "./ksm-fixtures.ts";

const guests = (...priorities: (number | undefined)[]) =>
  priorities.map((priority, k) => ({ index: 100 + k, ...(priority === undefined ? {} : { priority }) }));
const scores = (order: "newest" | "priority", ...priorities: (number | undefined)[]) => {
  const all = guests(...priorities);
  const plan = oomPlan(order, all);
  return all.map((g) => oomScore(plan, g));
};

describe("the order", () => {
  it("newest first, over all of the range, whatever the priorities", () => {
    expect(scores("newest", 5, 0, undefined, 7)).toEqual([100, 400, 700, 1000]);
  });

  it("lowest priority first, and the newest among them; none is 0", () => {
    expect(scores("priority", 5, 0, undefined, 7)).toEqual([400, 700, 1000, 100]);
    expect(scores("priority", -1, 2, 2, -1)).toEqual([700, 100, 400, 1000]);
  });

  it("one guest alone still goes before what looks after it; one that nobody has decided on stands in the middle", () => {
    expect(scores("newest", 0)).toEqual([100]);
    expect(oomScore(undefined, { index: 3 })).toBe(500);
    expect(oomScore(oomPlan("newest", []), { index: 3 })).toBe(500);
  });

  it("one that came after the order was decided has its place all the same", () => {
    const newest = oomPlan("newest", guests(0, 0, 0));
    expect(oomScore(newest, { index: 500 })).toBe(1000);
    expect(oomScore(newest, { index: 1 })).toBe(100);
    const priority = oomPlan("priority", guests(5, 0, 0));
    expect(oomScore(priority, { index: 500, priority: 9 })).toBe(
      oomScore(priority, { index: 500, priority: 5 }),
    );
    expect(oomScore(priority, { index: 500, priority: 3 })).toBe(
      oomScore(priority, { index: 500, priority: 5 }),
    );
  });
});

describe("the memory cgroup", () => {
  const v1 = "34 30 0:29 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
  const v2 = "40 30 0:35 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate";

  it("is found in v1 and v2, as they are mounted", () => {
    expect(memoryHierarchies(`${v2}\n${v1}\n1 1 0:1 / / rw - ext4 /dev/vda rw`)).toEqual([
      { version: 1, mount: "/sys/fs/cgroup/memory", root: "/" },
      { version: 2, mount: "/sys/fs/cgroup/unified", root: "/" },
    ]);
  });

  it("stands below our own, also where a container shows part of the hierarchy only", () => {
    const mine = "4:cpu,memory:/job/7\n0::/user.slice/x.scope\n";
    const [one, two] = memoryHierarchies(`${v1}\n${v2}`);
    expect(ownDirectory(one!, mine)).toBe("/sys/fs/cgroup/memory/job/7");
    expect(ownDirectory(two!, mine)).toBe("/sys/fs/cgroup/unified/user.slice/x.scope");
    expect(ownDirectory({ ...one!, root: "/job" }, mine)).toBe("/sys/fs/cgroup/memory/7");
    expect(ownDirectory({ ...one!, root: "/job/7" }, mine)).toBe("/sys/fs/cgroup/memory");
  });
});

const MIB = 40;

describe("mt-ksm protect", { timeout: 120_000 }, () => {
  const { id, dir, plan, ksm, remove } = ksmLab();
  const qemus: ChildProcess[] = [];
  const protect = (...words: string[]) => ksm("mtt-k1", ["protect", "--only", ...words], plan);
  const scoreOf = (pid: number) => Number(readFileSync(`/proc/${pid}/oom_score_adj`, "utf8"));
  /** Put into the cgroup before it takes any memory, as mt-boot does. */
  async function start(name: string, cgroup: string): Promise<ChildProcess> {
    const guest = join(dir, "experiments", shortName(id), "g", name);
    mkdirSync(guest, { recursive: true });
    const memory = `memory-backend-ram,id=m,size=${MIB}M,prealloc=on`;
    const words = ["-M", "none", "-display", "none", "-nodefaults", "-monitor", "stdio", "-object", memory];
    const inside = 'echo $$ >"$0"/cgroup.procs && exec qemu-system-x86_64 "$@"';
    const qemu = spawn("sh", ["-c", inside, cgroup, ...words, "-pidfile", join(guest, "pid")], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    qemus.push(qemu);
    const resident = () => /^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${qemu.pid}/status`, "utf8"))?.[1];
    const there = () =>
      Number(resident()) > MIB * 1024 && existsSync(join(guest, "pid")) ? true : undefined;
    expect(await waitFor(there, 30)).toBe(true);
    return qemu;
  }

  afterAll(() => {
    for (const qemu of qemus) qemu.kill("SIGKILL");
    remove("mtt-k1");
  });

  it("sets who dies first, and the kernel kills only guests, in that order", async () => {
    const first = protect("--memory", "2048");
    expect(first.code).toBe(0);
    const cgroup = first.out[0]!.cgroup as string;
    expect(first.out[0]).toMatchObject({
      id: "protect",
      order: "newest",
      guests: 4,
      running: 0,
      memory_mib: 2048,
    });
    const all: ChildProcess[] = [];
    for (let k = 0; k < 4; k++) all.push(await start(`g${k}`, cgroup));
    const g0 = all[0]!;
    const used = ["memory.usage_in_bytes", "memory.current"].map((f) => join(cgroup, f)).find(existsSync)!;
    const mib = Math.ceil(Number(readFileSync(used, "utf8")) / 1024 / 1024) + 16;
    expect(protect("--memory", String(mib)).out[0]).toMatchObject({
      running: 4,
      score_least: 100,
      score_most: 1000,
    });
    expect(all.map((q) => scoreOf(q.pid!))).toEqual([100, 400, 700, 1000]);
    const me = scoreOf(process.pid);
    expect(me).toBeLessThan(100);
    // The oldest wants more than there is, then the next. The kernel may take one more before the first has let go of its memory:
    // who is dead is at any time the newest, and the oldest never.
    const dead = () => all.flatMap((q, k) => (q.signalCode === "SIGKILL" ? [k] : []));
    for (const [name, n] of [
      ["a", 1],
      ["b", 2],
    ] as const) {
      if (dead().length < n)
        all[n - 1]!.stdin!.write(`object_add memory-backend-ram,id=${name},size=${MIB}M,prealloc=on\n`);
      expect(await waitFor(() => (dead().length >= n ? true : undefined), 30)).toBe(true);
      expect([[3], [2, 3], [1, 2, 3]]).toContainEqual(dead());
    }
    const left = 4 - dead().length;
    // Twice is fine; down gives all back, though guests live on, and is fine twice.
    expect(protect("--memory", String(mib)).out[0]).toMatchObject({ running: left });
    expect(ksm("mtt-k1", ["down", "--experiment", id]).code).toBe(0);
    expect(existsSync(cgroup)).toBe(false);
    expect(g0.exitCode).toBe(null);
    expect(readFileSync(`/proc/${g0.pid}/cgroup`, "utf8")).not.toContain(cgroup.split("/").pop());
    expect(ksm("mtt-k1", ["down", "--experiment", id]).code).toBe(0);
  });

  it("without --memory makes no cgroup; a stream that was cut off decides nothing", () => {
    ksm("mtt-k1", ["down"], plan);
    expect(protect().out[0]).toMatchObject({ guests: 4, kept: expect.any(Number) });
    expect(protect().out[0]).not.toHaveProperty("cgroup");
    const cut = ksm("mtt-k1", ["protect"], plan.split("\n")[0]);
    expect(cut.code).toBe(65);
    expect(cut.out.some((r) => r.kind === "sample")).toBe(false);
    expect(ksm("mtt-k1", ["protect", "--memory", "0"], plan).code).toBe(64);
  });
});
