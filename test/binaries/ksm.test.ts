/**
 * mt-ksm settle, watch, report and down: the compiled tool on the real kernel, with a small process whose memory
 * may be merged, and real kills. One file, since the kernel has one KSM. Needs root, KSM, and dist/mt-ksm.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { leaseHolders } from "../../shared/host/lease.ts";
import { readHolder } from "../../shared/host/lock.ts";
import { leaseDir, shortName } from "../../shared/host/names.ts";
import { isAlive, waitFor } from "../../shared/host/process.ts";
import { kibFields, nominalMib } from "../../tools/mt-ksm/merging/memory.ts";
import { steeringLock } from "../../tools/mt-ksm/merging/settings.ts";
import { expectRecords } from "../support/records.ts";
import {
  ksmLab,
  MIB,
  mergeableMemory,
  merged,
  PAGES,
  setting,
  settings,
  settingsIfOurs,
} from "./ksm-fixtures.ts";

it("reads what QEMU was given and what the kernel counts", () => {
  expect(nominalMib(["qemu-system-x86_64", "-m", "128"])).toBe(128);
  expect(nominalMib(["q", "-m", "1G"])).toBe(1024);
  expect(nominalMib(["q", "-m", "size=256M,slots=2"])).toBe(256);
  expect(nominalMib(["q", "-machine", "pc"])).toBe(0);
  expect(kibFields("Rss:      1234 kB\nPss_Anon:  7 kB\n")).toEqual({ Rss: 1234, Pss_Anon: 7 });
});

const { id: EXP, dir, plan, ksm, start, remove } = ksmLab();
const HOSTS = ["mtt-k1", "mtt-k2"] as const;
const until = (done: () => boolean, s = 60) => waitFor(() => (done() ? true : undefined), s);
/** The process that steers now; other people's too, on a machine that is shared. */
const steers = () => readHolder(steeringLock())?.pid;
/** Our shares in the controller's rate. */
const scanning = () => leaseHolders("ksm-scan").filter((h) => h.startsWith(dir));
/** What is left of this test's experiment in the lease directory. */
const left = () =>
  (existsSync(leaseDir()) ? readdirSync(leaseDir()) : []).filter(
    (f) =>
      f.includes(EXP) || (f.endsWith(".json") && readFileSync(join(leaseDir(), f), "utf8").includes(dir)),
  );

describe("on this kernel", { timeout: 120_000 }, () => {
  let memory: ChildProcess;
  /** Undefined where somebody else holds KSM: the settings are then not those that were there before. */
  let before: ReturnType<typeof settingsIfOurs>;

  beforeAll(async () => {
    before = settingsIfOurs();
    memory = await mergeableMemory();
  });

  afterAll(() => {
    remove("mtt-k1", "mtt-k2");
    memory.kill("SIGKILL");
  });

  it("settle merges what is alike, on two hosts of one machine at once, and goes on slowly", async () => {
    const { ended } = start("mtt-k2", ["settle", "--only"], plan);
    const { code, out, text } = ksm("mtt-k1", ["settle"], plan);
    expect(code).toBe(0);
    expect(await ended).toBe(0);
    expect(text.startsWith(plan.split("\n").slice(0, 2).join("\n"))).toBe(true);
    const sample = out.find((r) => r.kind === "sample")!;
    expect(sample).toMatchObject({ id: "ksm", host: "mtt-k1", experiment: EXP, guests: 4, settled: true });
    expect(sample.saved_mib).toBeGreaterThan(MIB * 0.9);
    expect(merged(memory.pid!)).toBeGreaterThan(PAGES * 0.95);
    expect(scanning()).toEqual([]);
    if (steers() === undefined)
      expect(settings()).toMatchObject({ run: "1", pages_to_scan: "100", sleep_millisecs: "100" });
  });

  it("settle that runs out of time says so and is no failure", () => {
    const { code, out, stderr } = ksm("mtt-k1", ["settle", "--timeout", "0"], plan);
    expect(code).toBe(0);
    expect(out.find((r) => r.kind === "sample")).toMatchObject({ settled: false });
    expect(stderr).toContain("not settled after 0 s");
  });

  it("settle does nothing for a stream that was cut off", () => {
    const { code, out } = ksm("mtt-k1", ["settle"], plan.split("\n").slice(0, 2).join("\n"));
    expect(code).toBe(65);
    expect(out.some((r) => r.kind === "sample")).toBe(false);
  });

  it("report sums up the experiment's own QEMU processes", async () => {
    const guest = join(dir, "experiments", shortName(EXP), "g", "g0");
    mkdirSync(guest, { recursive: true });
    const qemu = spawn("qemu-system-x86_64", [
      "-M",
      "none",
      "-m",
      "64",
      "-display",
      "none",
      "-nodefaults",
      "-pidfile",
      join(guest, "pid"),
    ]);
    try {
      expect(await waitFor(() => (existsSync(join(guest, "pid")) ? true : undefined), 20)).toBe(true);
      const { code, out } = ksm("mtt-k1", ["report", "--experiment", EXP]);
      expect(code).toBe(0);
      expect(out[0]).toMatchObject({ kind: "sample", experiment: EXP, processes: 1, nominal_mib: 64 });
      expect(out[0]!.rss_mib).toBeGreaterThan(1);
      expect(out[0]!.pss_mib).toBeLessThanOrEqual(out[0]!.rss_mib as number);
      expect(ksm("mtt-k1", ["report", "--experiment", `${EXP}x`]).out[0]).toMatchObject({ processes: 0 });
      // As a filter it passes the plan on.
      expect(ksm("mtt-k1", ["report"], plan).out.map((r) => r.kind)).toEqual([
        "experiment",
        "guest",
        "sample",
        "end",
      ]);
    } finally {
      qemu.kill("SIGKILL");
    }
  });

  it("down restores what was there when the last host goes, after a crash too, and twice", async () => {
    const crashed = start("mtt-k2", ["settle", "--only"], plan);
    expect(
      await waitFor(() => (leaseHolders("ksm").some((h) => h.includes("mtt-k2")) ? true : undefined), 10),
    ).toBe(true);
    crashed.child.kill("SIGKILL");
    await crashed.ended;
    expect(ksm("mtt-k1", ["down"], plan)).toMatchObject({ code: 0, text: plan });
    // The other host still holds it.
    expect(setting("run")).toBe("1");
    expect(merged(memory.pid!)).toBeGreaterThan(PAGES * 0.95);
    expect(ksm("mtt-k2", ["down", "--experiment", EXP]).code).toBe(0);
    expect(
      leaseHolders("ksm")
        .concat(leaseHolders("ksm-scan"))
        .filter((h) => h.endsWith(EXP)),
    ).toEqual([]);
    if (before && leaseHolders("ksm").length === 0) {
      expect(settings()).toEqual(before);
      if (before.run === "0") expect(merged(memory.pid!)).toBe(0);
    }
    expect(ksm("mtt-k1", ["down"], plan).code).toBe(0);
    expect(ksm("mtt-k1", ["down", "--experiment", "../x"]).code).toBe(64);
  });

  const restored = () => {
    expect(left()).toEqual([]);
    if (before && leaseHolders("ksm").length === 0) expect(settings()).toEqual(before);
  };

  it("watch merges, says so every few seconds, and leaves the rate to the kernel when it is told to stop", async () => {
    const watch = start(HOSTS[0], ["watch", "--experiment", EXP, "--every", "0.5"]);
    expect(await until(() => merged(memory.pid!) > PAGES * 0.95)).toBe(true);
    expect(await until(() => (watch.text().match(/"settled":true/g)?.length ?? 0) > 1)).toBe(true);
    watch.child.kill("SIGTERM");
    expect(await watch.ended).toBe(143);
    const samples = expectRecords(watch.text());
    expect(samples.length).toBeGreaterThan(1);
    expect(samples.at(-1)).toMatchObject({
      kind: "sample",
      id: "ksm",
      host: HOSTS[0],
      experiment: EXP,
      settled: true,
    });
    expect(scanning()).toEqual([]);
    expect(setting("run")).toBe("1");
    expect(ksm(HOSTS[0], ["down", "--experiment", EXP]).code).toBe(0);
    restored();
  });

  it("watch as a stage of the pipe leaves one process, once, that down ends", async () => {
    const { code, out, text } = ksm(HOSTS[0], ["watch", "--daemon"], plan);
    expect(code).toBe(0);
    expect(text.startsWith(plan.split("\n").slice(0, 2).join("\n"))).toBe(true);
    expect(out.map((r) => r.kind)).toEqual(["experiment", "guest", "sample", "end"]);
    const pid = out[2]!.watch_pid as number;
    expect(isAlive(pid, "watch")).toBe(true);
    expect(ksm(HOSTS[0], ["watch", "--daemon", "--experiment", EXP]).out[0]).toMatchObject({
      watch_pid: pid,
    });
    expect(ksm(HOSTS[0], ["watch", "--experiment", EXP]).code).toBe(75);
    expect(ksm(HOSTS[0], ["down"], plan)).toMatchObject({ code: 0, text: plan });
    expect(isAlive(pid, "watch")).toBe(false);
    expect(existsSync(join(dir, "experiments", shortName(EXP), "ksm.log"))).toBe(false);
    restored();
  });

  it("watch steers in one process a machine; killed, another takes over; all killed, down restores", async () => {
    const watches = HOSTS.map((host) => start(host, ["watch", "--experiment", EXP, "--every", "0"]));
    const pids = watches.map((w) => w.child.pid);
    expect(await until(() => HOSTS.every((h) => leaseHolders("ksm").includes(`${dir}:${h}:${EXP}`)))).toBe(
      true,
    );
    expect(await until(() => pids.includes(steers()))).toBe(true);
    const one = watches.find((w) => w.child.pid === steers())!;
    const other = watches.find((w) => w !== one)!;
    one.child.kill("SIGKILL");
    await one.ended;
    expect(await until(() => steers() === other.child.pid)).toBe(true);
    expect(await until(() => scanning().length === 1)).toBe(true);
    // The host that died gives its share back; the other's watch goes on.
    const died = HOSTS[watches.indexOf(one)]!;
    expect(ksm(died, ["down", "--experiment", EXP]).code).toBe(0);
    expect(setting("run")).toBe("1");
    expect(isAlive(other.child.pid!, "watch")).toBe(true);
    other.child.kill("SIGKILL");
    await other.ended;
    expect(pids.some((pid) => isAlive(pid!, "watch"))).toBe(false);
    expect(ksm(HOSTS[1 - watches.indexOf(one)]!, ["down", "--experiment", EXP]).code).toBe(0);
    restored();
  });

  it("watch what a killed process left at full speed, the next one that settles mends", async () => {
    const killed = start(HOSTS[0], ["watch", "--experiment", EXP, "--every", "0"]);
    expect(await until(() => scanning().length > 0)).toBe(true);
    killed.child.kill("SIGKILL");
    await killed.ended;
    expect(scanning().length).toBe(1);
    expect(ksm(HOSTS[1], ["settle", "--only"], plan).out[0]).toMatchObject({ settled: true });
    expect(scanning()).toEqual([]);
    for (const host of HOSTS) expect(ksm(host, ["down", "--experiment", EXP]).code).toBe(0);
    restored();
  });
});
