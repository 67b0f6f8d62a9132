/**
 * What mt-ksm watch merges of cold guests, and for how much CPU time of the kernel's thread, beside the thread at
 * full speed and the kernel's own advisor, over the same time from the first guest's start. KSM_GUESTS, KSM_SECONDS
 * and KSM_WAYS (reference, watch, advisor) make it smaller. Needs a machine where nobody else merges memory.
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { acquireLease, leaseHolders, releaseLease, type Settings } from "../../shared/host/lease.ts";
import { counter, KSM, ksmdCpuSeconds, pageSize } from "../../tools/mt-ksm/merging/kernel.ts";
import { benchLab, DIST, report } from "./measure.ts";

const GUESTS = Number(process.env.KSM_GUESTS ?? 60);
const SECONDS = Number(process.env.KSM_SECONDS ?? 300);
const WAYS = (process.env.KSM_WAYS ?? "reference,watch,advisor").split(",");
const MIB = 1024 * 1024;
const HOLDER = `bench:${process.pid}`;
const FIXED: Record<string, Record<string, string>> = {
  reference: { advisor_mode: "none", pages_to_scan: "100000", sleep_millisecs: "10", run: "1" },
  advisor: { sleep_millisecs: "20", run: "1", advisor_mode: "scan-time" },
};

interface Point {
  seconds: number;
  saved_mib: number;
  cpu_s: number;
}

const lab = benchLab();
const env = {
  ...process.env,
  PATH: `${DIST}:${process.env.PATH}`,
  MT_RUN: join(lab.dir, "run"),
  MT_STATE: join(lab.dir, "state"),
  MT_HOST: "bench",
};
const plan = join(lab.dir, "plan");

/** Boots the guests under one way of merging, and follows what it saves. */
async function follow(way: string): Promise<{ points: Point[]; ready_s: number }> {
  const run = (...words: string[]) => spawnSync("mt-ksm", words, { env, encoding: "utf8" });
  if (way === "watch") {
    const began = run("watch", "--daemon", "--experiment", "kb");
    if (began.status !== 0) throw new Error(began.stderr);
  } else {
    const settings: Settings = {};
    for (const [name, value] of Object.entries(FIXED[way]!))
      if (existsSync(`${KSM}/${name}`)) settings[`${KSM}/${name}`] = value;
    const taken = await acquireLease("ksm", HOLDER, settings);
    if (taken.isErr()) throw new Error(taken.error.message);
  }
  const points: Point[] = [];
  let ready_s = Number.NaN;
  try {
    const cpu_s = ksmdCpuSeconds() ?? Number.NaN;
    const began = performance.now();
    const seconds = () => (performance.now() - began) / 1000;
    const cold = spawnSync("mt-boot", ["up", "--help"], { env, encoding: "utf8" }).stdout.includes("--boot");
    const up = spawn("mt-boot", ["up", "--only", ...(cold ? ["--boot", "cold"] : [])], {
      env,
      stdio: ["pipe", "ignore", "inherit"],
    });
    up.stdin.end(readFileSync(plan));
    up.once("exit", (code) => {
      ready_s = code === 0 ? seconds() : Number.NaN;
    });
    while (seconds() < SECONDS) {
      await setTimeout(500);
      if (
        FIXED[way] &&
        (counter("run") !== 1 || counter("sleep_millisecs") !== Number(FIXED[way].sleep_millisecs))
      )
        throw new Error("Cannot measure KSM: somebody else has set it meanwhile");
      points.push({
        seconds: seconds(),
        saved_mib: (counter("pages_sharing") * pageSize()) / MIB,
        cpu_s: (ksmdCpuSeconds() ?? Number.NaN) - cpu_s,
      });
    }
    up.kill();
  } finally {
    spawnSync("mt-boot", ["down", "--experiment", "kb"], { env });
    if (way === "watch") run("down", "--experiment", "kb");
    else await releaseLease("ksm", (h) => h === HOLDER);
  }
  if (process.env.KSM_CSV)
    writeFileSync(
      `${process.env.KSM_CSV}.${way}.csv`,
      points.map((p) => `${p.seconds},${p.saved_mib},${p.cpu_s}\n`).join(""),
    );
  return { points, ready_s };
}

/** What it saves in the end: the mean of the last ten seconds. */
function atEnd(points: readonly Point[]): number {
  const last = points.filter((p) => p.seconds > SECONDS - 10);
  return last.reduce((sum, p) => sum + p.saved_mib, 0) / last.length;
}
const reaches = (points: readonly Point[], mib: number) =>
  points.find((p) => p.saved_mib >= mib)?.seconds ?? Number.POSITIVE_INFINITY;

try {
  const others = leaseHolders("ksm");
  if (others.length > 0 || counter("run") !== 0)
    throw new Error(`Cannot measure KSM: it is in use here (${others.join(", ") || "run is not 0"})`);
  lab.sh("mt-image build tux --cache /var/lib/megatux/cache/packages >image", 120);
  const image = {
    ...JSON.parse(readFileSync(join(lab.dir, "image"), "utf8").split("\n")[0]!),
    hosts: ["bench"],
  };
  const guest = {
    kind: "guest",
    host: "bench",
    index: 0,
    image: "tux",
    cores: 1,
    mem_mib: 128,
    interfaces: [],
  };
  const records = [
    { kind: "experiment", id: "kb", version: 1, seed: 1 },
    image,
    { ...guest, id: GUESTS > 1 ? `g[0-${GUESTS - 1}]` : "g0" },
    { kind: "end", id: "kb", counts: { image: 1, guest: GUESTS } },
  ];
  writeFileSync(plan, records.map((r) => `${JSON.stringify(r)}\n`).join(""));

  let goal = Number.NaN;
  let ref: { at_s: number; cpu_s: number } | undefined;
  for (const way of WAYS) {
    const { points, ready_s } = await follow(way);
    const end = atEnd(points);
    const cpu_s = points.at(-1)!.cpu_s;
    const what = `${GUESTS} cold guests, ${SECONDS} s, ${way}`;
    if (way === "reference") {
      goal = 0.95 * end;
      ref = { at_s: reaches(points, goal), cpu_s };
    }
    const promised = way === "watch" && ref !== undefined;
    report(`${what}: all ready after`, ready_s, "s");
    report(`${what}: saved at the end`, end, "MiB", promised ? { atLeast: Math.ceil(goal) } : undefined);
    report(
      `${what}: 95 % of ${Number.isNaN(goal) ? "its own saving" : "the reference's saving"} after`,
      reaches(points, Number.isNaN(goal) ? 0.95 * end : goal),
      "s",
      promised ? { atMost: Math.round(ref!.at_s * 10) / 10 } : undefined,
    );
    report(
      `${what}: CPU time of the kernel's thread`,
      cpu_s,
      "s",
      promised ? { atMost: Math.round((ref!.cpu_s / 3) * 10) / 10 } : undefined,
    );
  }
} finally {
  rmSync(lab.dir, { recursive: true, force: true });
}
