/** The main job's time, and what a guest takes of memory once it is up and merged (TCG, cold boots). */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DIST, report } from "./measure.ts";

const GUESTS = 32;
const root = new URL("../../", import.meta.url).pathname;
const dir = mkdtempSync(join(tmpdir(), "mt-bench-"));
const env = {
  ...process.env,
  PATH: `${DIST}:${process.env.PATH}`,
  MT_RUN: join(dir, "run"),
  MT_STATE: join(dir, "state"),
};
const sh = (line: string, timeout_s: number, environment: NodeJS.ProcessEnv = env) => {
  const done = spawnSync("bash", ["-c", line], {
    cwd: root,
    env: environment,
    encoding: "utf8",
    timeout: timeout_s * 1000,
  });
  if (done.status !== 0) throw new Error(`${line}: ${done.stderr}`);
  return done.stdout;
};

try {
  const verdict = JSON.parse(sh("examples/demo 2>/dev/null", 420, process.env));
  report("make demo, installed and built: 44 guests, 4 hosts", verdict.seconds, "s", { atMost: 240 });

  sh("mt-image build tux --cache /var/lib/megatux/cache/packages", 120);
  sh(`mt-topo gen ring --routers 2 --id bench >${dir}/bench.jsonl`, 10);
  const up = performance.now();
  sh(`mt-launch up ${dir}/bench.jsonl --hosts mb1 --guests ${GUESTS}`, 300);
  report(`${GUESTS} cold guests on one host, mt-launch up to verdict`, (performance.now() - up) / 1000, "s");
  const inner = JSON.parse(sh("mt-tree exec mb1 -- mt-ksm report --experiment bench", 60)).stdout;
  const sample = JSON.parse(inner.split("\n")[0]);
  report("a guest of 128 MiB: resident, VMM included", sample.rss_mib / GUESTS, "MiB");
  report("a guest of 128 MiB: proportional, VMM included, merged", sample.pss_mib / GUESTS, "MiB");
} finally {
  spawnSync("bash", ["-c", "mt-launch down bench; mt-tree down"], { env, timeout: 120_000 });
  rmSync(dir, { recursive: true, force: true });
}
