/**
 * `mt-tree exec hostname` on a warm tree of local hosts, beside clush, pdsh, taktuk and srun on as many hosts of
 * test/testbed; what an agent takes of memory and processor, beside sshd and slurmd. BENCH_HOSTS (16,64,256) says
 * on how many; the agents are measured at 16.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { benchLab, median, report } from "./measure.ts";
import { cpuGroup, measurePeers, seconds, timing } from "./peers.ts";
import { cpuSeconds, memoryMb } from "./processes.ts";

const HOSTS = (process.env.BENCH_HOSTS ?? "16,64,256").split(",").map(Number);
const RUNS = 15;
const IDLE_S = 30;
const AGENTS_AT = 16;
/** Seconds for the whole command, by hosts. */
const PROMISED_S: Record<number, number | undefined> = { 16: 0.06, 64: 0.15, 256: 0.5 };
const NAME = "mbt";

const { dir, env, sh, remove } = benchLab();
env.LC_ALL = "C";
const group = cpuGroup("mt-bench-tree");

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const agentPids = (n: number) =>
  Array.from({ length: n }, (_, k) =>
    Number(readFileSync(join(dir, `run/hosts/${NAME}${k + 1}/tree/agent.pid`), "utf8")),
  );

function exec(n: number): number {
  const line = `mt-tree exec '${NAME}[1-${n}]' -- hostname`;
  sh(`${group.join}; mt-tree up '${NAME}[1-${n}]' --via local --timeout 120 >hosts`);
  const there = Number(sh(`${line} | grep -c '"code":0'`));
  if (there !== n) throw new Error(`${there} of ${n} hosts answered`);
  const before = group.seconds();
  const took = median(seconds(sh(`${group.join}; ${timing(RUNS, line)}`)));
  const cpu_ms = ((group.seconds() - before) / RUNS / n) * 1000;
  const promised = PROMISED_S[n];
  report(
    `mt-tree exec hostname, ${n} hosts, whole command`,
    took,
    "s",
    promised ? { atMost: promised } : undefined,
  );
  report("– CPU a host, of all of it", cpu_ms, "ms", promised ? { atMost: 4 } : undefined);
  return took;
}

async function agents(n: number): Promise<void> {
  const pids = agentPids(n);
  const memory = pids.map(memoryMb);
  report(`an agent's memory, ${n} on one machine`, mean(memory.map((m) => m.pss_mb)), "MB", { atMost: 10 });
  report("– alone on a host", mean(memory.map((m) => m.alone_mb)), "MB", { atMost: 45 });
  const before = cpuSeconds(pids);
  await new Promise((resolve) => setTimeout(resolve, IDLE_S * 1000));
  const idle = (cpuSeconds(pids) - before) / IDLE_S / n;
  report(`an idle agent, over ${IDLE_S} s`, idle * 100, "% of a core", { atMost: 0.1 });
}

try {
  for (const n of HOSTS) {
    const took = exec(n);
    if (n === AGENTS_AT) await agents(n);
    sh("mt-tree down");
    const { peers, daemons } = measurePeers(n);
    for (const { name, seconds, cpu_s } of peers) {
      report(`– beside: ${name}${seconds.length === 1 ? ", one run" : ""}`, median(seconds), "s");
      report("  – CPU a host, of all of it", (cpu_s / n) * 1000, "ms");
    }
    const best = Math.min(...peers.map((p) => median(p.seconds)));
    report(
      "– as fast as the best of them, so many times",
      best / took,
      "×",
      PROMISED_S[n] ? { atLeast: 5 } : undefined,
    );
    if (n === AGENTS_AT)
      for (const { name, mb } of daemons) report(`– beside an agent: ${name}, one of ${n}`, mb, "MB");
  }
} finally {
  remove();
  group.remove();
}
