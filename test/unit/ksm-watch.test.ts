/**
 * mt-ksm watch on the real kernel: one process of this machine steers, another takes over when it is killed,
 * and what was set before comes back, whoever was killed. Needs root, KSM, and dist/mt-ksm.
 */
import type { ChildProcess } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { leaseHolders } from "../../shared/lease.ts";
import { readHolder } from "../../shared/lock.ts";
import { leaseDir } from "../../shared/names.ts";
import { isAlive, waitFor } from "../../shared/process.ts";
import { steeringLock } from "../../tools/mt-ksm/settings.ts";
import { expectRecords } from "../records.ts";
import { ksmLab, mergeableMemory, merged, PAGES, setting, settings, settingsIfOurs } from "./ksm-fixtures.ts";

const { id, dir, plan, ksm, start, remove } = ksmLab("w");
const HOSTS = ["mtt-k1", "mtt-k2"] as const;
const until = (done: () => boolean, s = 60) => waitFor(() => (done() ? true : undefined), s);
const steers = () => readHolder(steeringLock())?.pid;
/** What is left of this test's experiment in the lease directory. */
const left = () =>
  (existsSync(leaseDir()) ? readdirSync(leaseDir()) : []).filter(
    (f) => f.includes(id) || (f.endsWith(".json") && readFileSync(join(leaseDir(), f), "utf8").includes(dir)),
  );

// Other guests of this machine, where there are any, keep the one thread busy: hence the long limits.
describe("mt-ksm watch", { timeout: 120_000 }, () => {
  let memory: ChildProcess;
  let before: ReturnType<typeof settingsIfOurs>;
  const restored = () => {
    expect(left()).toEqual([]);
    if (before && leaseHolders("ksm").length === 0) expect(settings()).toEqual(before);
  };

  beforeAll(async () => {
    before = settingsIfOurs();
    memory = await mergeableMemory();
  });
  afterAll(() => {
    remove(...HOSTS);
    memory.kill("SIGKILL");
  });

  it("merges, says so every few seconds, and leaves the rate to the kernel when it is told to stop", async () => {
    const watch = start(HOSTS[0], ["watch", "--experiment", id, "--every", "0.5"]);
    expect(await until(() => merged(memory.pid!) > PAGES * 0.95)).toBe(true);
    expect(await until(() => /"settled":true/.test(watch.text()))).toBe(true);
    watch.child.kill("SIGTERM");
    expect(await watch.ended).toBe(143);
    const samples = expectRecords(watch.text());
    expect(samples.length).toBeGreaterThan(2);
    expect(samples.at(-1)).toMatchObject({
      kind: "sample",
      id: "ksm",
      host: HOSTS[0],
      experiment: id,
      settled: true,
    });
    expect(leaseHolders("ksm-scan")).toEqual([]);
    expect(setting("run")).toBe("1");
    expect(ksm(HOSTS[0], ["down", "--experiment", id]).code).toBe(0);
    restored();
  });

  it("as a stage of the pipe leaves one process, once, that down ends", async () => {
    const { code, out, text } = ksm(HOSTS[0], ["watch", "--daemon"], plan);
    expect(code).toBe(0);
    expect(text.startsWith(plan.split("\n").slice(0, 2).join("\n"))).toBe(true);
    expect(out.map((r) => r.kind)).toEqual(["experiment", "guest", "sample", "end"]);
    const pid = out[2]!.watch_pid as number;
    expect(isAlive(pid, "watch")).toBe(true);
    expect(ksm(HOSTS[0], ["watch", "--daemon", "--experiment", id]).out[0]).toMatchObject({ watch_pid: pid });
    expect(ksm(HOSTS[0], ["watch", "--experiment", id]).code).toBe(75);
    expect(ksm(HOSTS[0], ["down"], plan)).toMatchObject({ code: 0, text: plan });
    expect(isAlive(pid, "watch")).toBe(false);
    expect(existsSync(join(dir, "experiments"))).toBe(true);
    expect(readdirSync(join(dir, "experiments"))).toEqual([]);
    restored();
  });

  it("steers in one process a machine; killed, another takes over; all killed, down restores", async () => {
    const watches = HOSTS.map((host) => start(host, ["watch", "--experiment", id, "--every", "0"]));
    const pids = watches.map((w) => w.child.pid);
    expect(await until(() => HOSTS.every((h) => leaseHolders("ksm").includes(`${dir}:${h}:${id}`)))).toBe(
      true,
    );
    expect(await until(() => steers() !== undefined)).toBe(true);
    const one = watches.find((w) => w.child.pid === steers());
    // Somebody else's may steer on a machine that is shared.
    if (!one) return;
    const other = watches.find((w) => w !== one)!;
    one.child.kill("SIGKILL");
    await one.ended;
    expect(await until(() => steers() === other.child.pid, 10)).toBe(true);
    expect(await until(() => leaseHolders("ksm-scan").length === 1)).toBe(true);
    // The host that died gives its share back; the other's watch goes on.
    const died = HOSTS[watches.indexOf(one)]!;
    expect(ksm(died, ["down", "--experiment", id]).code).toBe(0);
    expect(setting("run")).toBe("1");
    expect(isAlive(other.child.pid!, "watch")).toBe(true);
    other.child.kill("SIGKILL");
    await other.ended;
    expect(pids.some((pid) => isAlive(pid!, "watch"))).toBe(false);
    expect(ksm(HOSTS[1 - watches.indexOf(one)]!, ["down", "--experiment", id]).code).toBe(0);
    restored();
  });

  it("what a killed process left at full speed, the next one that settles mends", async () => {
    const killed = start(HOSTS[0], ["watch", "--experiment", id, "--every", "0"]);
    expect(await until(() => leaseHolders("ksm-scan").length > 0)).toBe(true);
    killed.child.kill("SIGKILL");
    await killed.ended;
    expect(leaseHolders("ksm-scan").length).toBeGreaterThan(0);
    expect(ksm(HOSTS[1], ["settle", "--only"], plan).out[0]).toMatchObject({ settled: true });
    expect(leaseHolders("ksm-scan")).toEqual([]);
    for (const host of HOSTS) expect(ksm(host, ["down", "--experiment", id]).code).toBe(0);
    restored();
  });
});
