/**
 * mt-ksm: when merging is at rest, and the compiled tool on the real kernel, with a small process whose
 * memory may be merged. Needs root, KSM, and dist/mt-ksm.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { leaseHolders } from "../../shared/lease.ts";
import { shortName } from "../../shared/names.ts";
import { waitFor } from "../../shared/process.ts";
import { watchForRest } from "../../tools/mt-ksm/converge.ts";
import { kibFields, nominalMib } from "../../tools/mt-ksm/memory.ts";
import { expectRecords } from "../records.ts";

describe("merging is at rest", () => {
  const first = { pages_sharing: 0, full_scans: 10, pages_scanned: 0 };

  it("when two more scans of all memory gain less than asked for", () => {
    const rest = watchForRest(first, 0.01);
    expect(rest({ pages_sharing: 0, full_scans: 11, pages_scanned: 100 }, 1)).toBeUndefined();
    expect(rest({ pages_sharing: 1000, full_scans: 12, pages_scanned: 200 }, 2)).toBeUndefined();
    expect(rest({ pages_sharing: 2000, full_scans: 14, pages_scanned: 400 }, 3)).toBeUndefined();
    expect(rest({ pages_sharing: 2015, full_scans: 15, pages_scanned: 500 }, 4)).toBeUndefined();
    expect(rest({ pages_sharing: 2015, full_scans: 16, pages_scanned: 600 }, 5)).toBe("settled");
  });

  it("when nothing is looked at, and not before three seconds of that", () => {
    const rest = watchForRest(first, 0.01);
    expect(rest(first, 2.5)).toBeUndefined();
    expect(rest(first, 3)).toBe("nothing to merge");
  });

  it("not while a slow scan goes on", () => {
    const rest = watchForRest(first, 0.01);
    for (let s = 1; s < 60; s++) expect(rest({ ...first, pages_scanned: s * 1000 }, s)).toBeUndefined();
  });
});

it("reads what QEMU was given and what the kernel counts", () => {
  expect(nominalMib(["qemu-system-x86_64", "-m", "128"])).toBe(128);
  expect(nominalMib(["q", "-m", "1G"])).toBe(1024);
  expect(nominalMib(["q", "-m", "size=256M,slots=2"])).toBe(256);
  expect(nominalMib(["q", "-machine", "pc"])).toBe(0);
  expect(kibFields("Rss:      1234 kB\nPss_Anon:  7 kB\n")).toEqual({ Rss: 1234, Pss_Anon: 7 });
});

const KSM = "/sys/kernel/mm/ksm";
const BINARY = join(import.meta.dirname ?? __dirname, "../../dist/mt-ksm");
const EXP = `kt${process.pid}`;
const MIB = 48;
const PAGES = (MIB * 1024) / 4;
const dir = mkdtempSync(join(tmpdir(), "mtt-ksm-"));
const env = { ...process.env, MT_RUN: dir };
const plan = [
  { kind: "experiment", id: EXP, version: 1, seed: 1 },
  {
    kind: "guest",
    id: "g[0-3]",
    host: "mtt-k1",
    index: 0,
    image: "tux",
    cores: 1,
    mem_mib: 64,
    interfaces: [],
  },
  { kind: "end", id: EXP, counts: { guest: 4 } },
]
  .map((r) => `${JSON.stringify(r)}\n`)
  .join("");
const setting = (name: string) => readFileSync(`${KSM}/${name}`, "utf8").trim();
const settings = () =>
  ["run", "pages_to_scan", "sleep_millisecs", "advisor_mode"]
    .filter((n) => existsSync(`${KSM}/${n}`))
    .map(setting);
/** How many of the process's pages are merged. */
const merged = (pid: number) => Number(readFileSync(`/proc/${pid}/ksm_merging_pages`, "utf8"));

function ksm(host: string, words: string[], input = "") {
  const done = spawnSync(BINARY, [...words, "--host", host], {
    input,
    encoding: "utf8",
    timeout: 60_000,
    env,
  });
  const out = expectRecords(done.stdout);
  return { code: done.status, out, stderr: done.stderr, text: done.stdout };
}

describe("on this kernel", () => {
  let memory: ChildProcess;
  /** Undefined where somebody else holds KSM: then what was there before is not what we find. */
  let before: string[] | undefined;

  beforeAll(async () => {
    if (!existsSync(BINARY)) throw new Error("dist/mt-ksm is missing: run `make build` first");
    before = leaseHolders("ksm").length === 0 ? settings() : undefined;
    // perl is on every Debian: its syscall() reaches madvise(…, MADV_MERGEABLE).
    const madvise = process.arch === "arm64" ? 233 : 28;
    const script = `my $s = "x" x (${MIB} << 20); my $p = unpack("J", pack("p", $s)); my $from = ($p + 4095) & ~4095;
      syscall(${madvise}, $from, (${MIB} << 20) - 4096, 12) == 0 or die "madvise: $!"; $| = 1; print "up\\n"; sleep 120`;
    memory = spawn("perl", ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    await new Promise((resolve) => memory.stdout!.once("data", resolve));
  });

  afterAll(() => {
    for (const host of ["mtt-k1", "mtt-k2"]) ksm(host, ["down", "--experiment", EXP]);
    memory.kill("SIGKILL");
    rmSync(dir, { recursive: true, force: true });
  });

  it("settle merges what is alike, on two hosts of one machine at once, and goes on slowly", async () => {
    const other = spawn(BINARY, ["settle", "--host", "mtt-k2", "--only"], {
      env,
      stdio: ["pipe", "pipe", "inherit"],
    });
    other.stdin.end(plan);
    const ended = new Promise((resolve) => other.once("exit", resolve));
    const { code, out, text } = ksm("mtt-k1", ["settle"], plan);
    expect(code).toBe(0);
    expect(await ended).toBe(0);
    expect(text.startsWith(plan.split("\n").slice(0, 2).join("\n"))).toBe(true);
    const sample = out.find((r) => r.kind === "sample")!;
    expect(sample).toMatchObject({ id: "ksm", host: "mtt-k1", experiment: EXP, guests: 4, settled: true });
    expect(sample.saved_mib).toBeGreaterThan(MIB * 0.9);
    expect(merged(memory.pid!)).toBeGreaterThan(PAGES * 0.95);
    expect([setting("run"), setting("pages_to_scan"), setting("sleep_millisecs")]).toEqual([
      "1",
      "100",
      "100",
    ]);
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
    const crashed = spawn(BINARY, ["settle", "--host", "mtt-k2", "--only"], {
      env,
      stdio: ["pipe", "ignore", "inherit"],
    });
    crashed.stdin.end(plan);
    expect(await waitFor(() => (setting("pages_to_scan") === "5000" ? true : undefined), 10)).toBe(true);
    crashed.kill("SIGKILL");
    await new Promise((resolve) => crashed.once("exit", resolve));
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
      if (before[0] === "0") expect(merged(memory.pid!)).toBe(0);
    }
    expect(ksm("mtt-k1", ["down"], plan).code).toBe(0);
    expect(ksm("mtt-k1", ["down", "--experiment", "../x"]).code).toBe(64);
  });
});
