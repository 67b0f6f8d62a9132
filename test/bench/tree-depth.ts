/**
 * How depth and time of an `exec` grow with the number of hosts: as many agents in one process, the real protocol over
 * links in memory with a delay of 1 ms each, 16 children a node. A command prints its host and ends; no process is
 * started for it. On the furthest agent alone it takes as long as the links: twice the depth, and the client's own; on all
 * of them this one core has to do the work of all agents. BENCH_AGENTS says how many.
 */
import { spawnSync } from "node:child_process";
import type { Launch } from "../../tools/mt-tree/node/command.ts";
import type { TreeClient } from "../../tools/mt-tree/session/client.ts";
import { memoryTree } from "../support/memory-net.ts";
import { median, report } from "./measure.ts";

const AGENTS = (process.env.BENCH_AGENTS ?? "16,64,256,1024,4400").split(",").map(Number);
const FANOUT = 16;
const DELAY_MS = 1;
const RUNS = 5;

interface Measured {
  depth: number;
  /** Whole command, as its client sees it: on the furthest agent, on all of them; and the processor time of the latter. */
  furthest_ms: number;
  ms: number;
  cpu_ms: number;
  agent_kb: number;
}

const launch =
  (host: string): Launch =>
  (_command, events) => {
    setImmediate(() => {
      events.output(1, Buffer.from(`${host}\n`));
      events.end({ code: 0 });
    });
    return { write: (_bytes, taken) => taken(), endInput() {}, pause() {}, resume() {}, kill() {} };
  };

async function exec(client: TreeClient, names: readonly string[]): Promise<number> {
  const began = performance.now();
  const said = new Map<string, string>();
  let left = names.length;
  await new Promise<void>((resolve) => {
    const session = client.session(
      { argv: ["say"], env: {}, stdin: false },
      {
        output: (host, _fd, bytes) => said.set(host, (said.get(host) ?? "") + bytes),
        exit: (_host, { code }) => code === 0 && --left === 0 && resolve(),
      },
      names.length,
    );
    session.run([...names]);
  });
  const took = performance.now() - began;
  for (const name of names)
    if (said.get(name) !== `${name}\n`) throw new Error(`${name} said ${said.get(name)}`);
  return took;
}

async function times(client: TreeClient, names: readonly string[]): Promise<{ ms: number; cpu_ms: number }> {
  // A first run, so that compiling (JIT) is not measured.
  for (let i = 0; i < 5; i++) await exec(client, names);
  const before = process.cpuUsage();
  const ms: number[] = [];
  for (let i = 0; i < RUNS; i++) ms.push(await exec(client, names));
  const { user, system } = process.cpuUsage(before);
  return { ms: median(ms), cpu_ms: (user + system) / 1000 / RUNS };
}

async function measure(n: number): Promise<Measured> {
  const collect = () => (globalThis as { Bun?: { gc(force: boolean): void } }).Bun?.gc(true);
  collect();
  const before = process.memoryUsage.rss();
  // Thousands of agents that join at the same time on one core must not be taken for frozen.
  const tree = await memoryTree(n, FANOUT, DELAY_MS, launch, { silence_ms: 60_000 });
  const { client, names } = tree;
  const hosts = (await client.list())._unsafeUnwrap().sort((a, b) => b.depth! - a.depth!);
  collect();
  const agent_kb = (process.memoryUsage.rss() - before) / n / 1000;
  const furthest = await times(client, [hosts[0]!.host]);
  return { depth: hosts[0]!.depth!, furthest_ms: furthest.ms, ...(await times(client, names)), agent_kb };
}

const alone = Number(process.argv[2]);
if (alone) {
  process.stdout.write(`${JSON.stringify(await measure(alone))}\n`);
  process.exit();
}

const curve: Measured[] = [];
for (const n of AGENTS) {
  // A process for each size, so that its memory is that of one tree.
  const done = spawnSync(process.execPath, [import.meta.filename, String(n)], {
    encoding: "utf8",
    timeout: 180_000,
  });
  if (done.status !== 0) throw new Error(`${n} agents: ${done.stderr}`);
  const m = JSON.parse(done.stdout) as Measured;
  curve.push(m);
  report(`exec on the furthest of ${n} agents, depth ${m.depth}, ${DELAY_MS} ms a link`, m.furthest_ms, "ms");
  report("– on all of them", m.ms, "ms");
  report("– – processor time a host", (m.cpu_ms / n) * 1000, "µs");
  report("– memory an agent", m.agent_kb, "kB");
}
const [first, last] = [curve[0]!, curve.at(-1)!];
// Links there and back: those between levels, and the client's.
const links = (m: Measured) => 2 * (m.depth + 1);
report(
  `time to the furthest, ${AGENTS.at(-1)} agents over ${AGENTS[0]} (links on the way: ${links(last)} over ${links(first)})`,
  last.furthest_ms / first.furthest_ms,
  "×",
  { atMost: (2 * links(last)) / links(first) },
);
