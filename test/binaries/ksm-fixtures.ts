/** What the tests of mt-ksm on the real kernel share: the compiled tool, a plan, memory that may be merged. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { leaseHolders } from "../../shared/host/lease.ts";
import { expectRecords } from "../support/records.ts";

const KSM = "/sys/kernel/mm/ksm";
export const BINARY = join(import.meta.dirname ?? __dirname, "../../dist/mt-ksm");
export const MIB = 48;
export const PAGES = (MIB * 1024) / 4;

export const setting = (name: string) => readFileSync(`${KSM}/${name}`, "utf8").trim();
const SET = /^(run|pages_to_scan|sleep_millisecs|advisor_.*)$/;
/** All that mt-ksm sets. */
export const settings = () =>
  Object.fromEntries(
    readdirSync(KSM)
      .filter((name) => SET.test(name))
      .map((name) => [name, setting(name)]),
  );
/** The settings where nobody else holds KSM, so that they must come back. */
export const settingsIfOurs = () => (leaseHolders("ksm").length === 0 ? settings() : undefined);

/** How many of the process's pages are merged. */
export const merged = (pid: number) => Number(readFileSync(`/proc/${pid}/ksm_merging_pages`, "utf8"));

/** A process with `mib` of equal pages that may be merged. perl is on every Debian: its syscall() reaches madvise. */
export async function mergeableMemory(mib = MIB): Promise<ChildProcess> {
  const madvise = process.arch === "arm64" ? 233 : 28;
  const script = `my $s = "x" x (${mib} << 20); my $p = unpack("J", pack("p", $s)); my $from = ($p + 4095) & ~4095;
      syscall(${madvise}, $from, (${mib} << 20) - 4096, 12) == 0 or die "madvise: $!"; $| = 1; print "up\\n"; sleep 120`;
  const memory = spawn("perl", ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => memory.stdout!.once("data", resolve));
  return memory;
}

/** An experiment of its own with a run directory of its own. */
export function ksmLab() {
  if (!existsSync(BINARY)) throw new Error("dist/mt-ksm is missing: run `make build` first");
  const id = `kt${process.pid}`;
  const dir = mkdtempSync(join(tmpdir(), "mtt-ksm-"));
  const env = { ...process.env, MT_RUN: dir };
  const guest = {
    kind: "guest",
    id: "g[0-3]",
    host: "mtt-k1",
    index: 0,
    image: "tux",
    cores: 1,
    mem_mib: 64,
    interfaces: [],
  };
  const records = [
    { kind: "experiment", id, version: 1, seed: 1 },
    guest,
    { kind: "end", id, counts: { guest: 4 } },
  ];
  const plan = records.map((r) => `${JSON.stringify(r)}\n`).join("");
  /** Runs the tool to its end. */
  const ksm = (host: string, words: string[], input = "") => {
    const done = spawnSync(BINARY, [...words, "--host", host], {
      input,
      encoding: "utf8",
      timeout: 60_000,
      env,
    });
    return { code: done.status, out: expectRecords(done.stdout), stderr: done.stderr, text: done.stdout };
  };
  /** Starts the tool; `ended` gives its exit code. */
  const start = (host: string, words: string[], input?: string) => {
    const child = spawn(BINARY, [...words, "--host", host], { env, stdio: ["pipe", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (bytes) => (text += bytes));
    child.stdin.end(input ?? "");
    const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
    return { child, ended, text: () => text };
  };
  const remove = (...hosts: string[]) => {
    for (const host of hosts) ksm(host, ["down", "--experiment", id]);
    rmSync(dir, { recursive: true, force: true });
  };
  return { id, dir, env, plan, ksm, start, remove };
}
