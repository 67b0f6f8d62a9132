/**
 * `mt-tree map -- cat` on a warm tree of local hosts: records a second, memory while it runs, every record back once;
 * then, on the largest tree, with a filter that changes each record and an inner agent killed in mid-run. Last a file
 * to 16 hosts down the tree. BENCH_HOSTS (16,64) says on how many hosts, BENCH_RECORDS (1,000,000) how many records.
 */
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { HostStatus } from "../../tools/mt-tree/link/messages.ts";
import { TreeClient } from "../../tools/mt-tree/session/client.ts";
import { benchLab, median, report, timed } from "./measure.ts";
import { pssMb } from "./processes.ts";

const HOSTS = (process.env.BENCH_HOSTS ?? "16,64").split(",").map(Number);
const RECORDS = Number(process.env.BENCH_RECORDS ?? 1_000_000);
const RUNS = 5;
const NAME = "mbm";
/** Records a second, by hosts. */
const PROMISED: Record<number, number | undefined> = { 16: 600_000, 64: 300_000 };
const ROOT_MB = 200;
const AGENT_MB = 80;
const REPARENTED_S = 2;
const FILE_MIB = 64;
const FILE_HOSTS = 16;
const FANOUT = 16;
const SAMPLE_MS = 25;

const { dir, env, sh, remove } = benchLab();
env.LC_ALL = "C";
const path = (name: string) => join(dir, name);
const pidOf = (host: string) => Number(readFileSync(path(`run/hosts/${host}/tree/agent.pid`), "utf8"));
const hostOf = (i: number, n: number) => `${NAME}${(i % n) + 1}`;
const pause = (ms: number) => new Promise((r) => setTimeout(r, ms));
const sizeOf = (name: string) => statSync(path(name), { throwIfNoEntry: false })?.size ?? 0;

function writeRecords(n: number): void {
  const fd = openSync(path("records"), "w");
  for (let i = 0; i < RECORDS; ) {
    let block = "";
    for (const end = Math.min(RECORDS, i + 10_000); i < end; i++)
      block += `{"kind":"guest","id":"g${i}","host":"${hostOf(i, n)}","index":${i},"image":"tux","cores":1,"mem_mib":128,"interfaces":[{"segment":"lan-chi","ip":"10.1.0.10/16"}]}\n`;
    writeSync(fd, block);
  }
  writeSync(fd, '{"kind":"end","id":"bench","counts":{}}\n');
  closeSync(fd);
}

/** A map that runs beside us; its pid is the client's. */
function begin(line: string): { pid: number; ended: () => boolean; code: Promise<number | null> } {
  const child = spawn("bash", ["-c", `exec ${line}`], { cwd: dir, env, stdio: ["ignore", "ignore", "pipe"] });
  let ended = false;
  child.stderr?.resume();
  const code = new Promise<number | null>((resolve) =>
    child.on("close", (c) => {
      ended = true;
      resolve(c);
    }),
  );
  return { pid: child.pid!, ended: () => ended, code };
}

function speed(n: number): void {
  const took = timed(RUNS, () => sh("mt-tree map -- cat <records >back"));
  if (sh("sort records | md5sum") !== sh("sort back | md5sum"))
    throw new Error("map lost, doubled or changed a record");
  const promised = PROMISED[n];
  report(
    `mt-tree map -- cat, ${n} hosts, every record back once`,
    RECORDS / median(took),
    "records/s",
    promised ? { atLeast: promised } : undefined,
  );
}

/** Reads the memory of all processes while another map runs; that takes time, so this run is not timed. */
async function memory(n: number): Promise<void> {
  const head = Number(readFileSync(path("run/tree/head.pid"), "utf8"));
  const agents = Array.from({ length: n }, (_, k) => pidOf(hostOf(k, n)));
  const mapping = begin("mt-tree map -- cat <records >back");
  let [root, client, ofHead] = [0, 0, 0];
  let largest = 0;
  let samples = 0;
  for (; !mapping.ended(); await pause(SAMPLE_MS)) {
    const [c, h] = [pssMb(mapping.pid), pssMb(head)];
    root = Math.max(root, c + h);
    client = Math.max(client, c);
    ofHead = Math.max(ofHead, h);
    // One after another: reading all of them each time would use most of the machine.
    for (let k = 0; k < 8; k++) largest = Math.max(largest, pssMb(agents[(samples * 8 + k) % n]!));
    samples++;
  }
  if ((await mapping.code) !== 0) throw new Error("map failed while its memory was measured");
  if (samples < 5) throw new Error(`only ${samples} samples of memory: more records are needed`);
  const promised = PROMISED[n] !== undefined;
  report(
    "– memory at the root, client and head, at most",
    root,
    "MB",
    promised ? { atMost: ROOT_MB } : undefined,
  );
  report("– – the client alone, at most", client, "MB");
  report("– – the head alone, at most", ofHead, "MB");
  report(
    "– memory of the largest agent, at most",
    largest,
    "MB",
    promised ? { atMost: AGENT_MB } : undefined,
  );
}

/** The first agent, which has the most below it, is killed when a quarter of the records is back. */
async function killed(n: number): Promise<void> {
  const victim = hostOf(0, n);
  process.env.MT_RUN = env.MT_RUN;
  const client = (await TreeClient.connect())._unsafeUnwrap();
  const listed = async () => (await client.list())._unsafeUnwrap();
  const below = (hosts: HostStatus[]) => hosts.filter((h) => h.parent === victim).map((h) => h.host);
  const kids = below(await listed());
  if (kids.length === 0) throw new Error(`${victim} is no inner node`);
  rmSync(path("back"));
  const mapping = begin("mt-tree map -- sed s/tux/new/ <records >back");
  while (sizeOf("back") < sizeOf("records") / 4 && !mapping.ended()) await pause(2);
  if (mapping.ended()) throw new Error("map had ended before an agent was killed");
  process.kill(pidOf(victim), "SIGKILL");
  const began = performance.now();
  for (;;) {
    const hosts = await listed();
    const elsewhere = (kid: string) => hosts.some((h) => h.host === kid && h.present && h.parent !== victim);
    if (kids.every(elsewhere)) break;
    if (performance.now() - began > 30_000)
      throw new Error("children of the killed agent came nowhere in 30 s");
    await pause(5);
  }
  const reparented_s = (performance.now() - began) / 1000;
  client.close();
  const code = await mapping.code;
  if (code !== 1) throw new Error(`map with an agent killed ended with ${code}, not 1`);
  const { changed, failed } = account(n, victim);
  if (changed + failed !== RECORDS) throw new Error(`${RECORDS - changed - failed} records did not come out`);
  report(
    `an inner agent killed in mid-map, ${n} hosts: its ${kids.length} children elsewhere`,
    reparented_s,
    "s",
    {
      atMost: REPARENTED_S,
    },
  );
  report("– records accounted for, those of living hosts all changed", changed + failed, "records", {
    atLeast: RECORDS,
  });
  report("– of the killed agent's, failed with its name", failed, "records");
}

/** Every line once: changed, or failed where the host was killed; throws at the first that is neither. */
function account(n: number, victim: string): { changed: number; failed: number } {
  const back = readFileSync(path("back"));
  const seen = new Uint8Array(RECORDS);
  let changed = 0;
  let failed = 0;
  for (let at = 0; at < back.length; ) {
    const end = back.indexOf(10, at);
    const line = back.toString("latin1", at, end);
    at = end + 1;
    if (line.startsWith('{"kind":"end"')) continue;
    const i = Number(/"id":"g(\d+)"/.exec(line)?.[1] ?? -1);
    if (seen[i] !== 0) throw new Error(`twice, or nobody's: ${line}`);
    seen[i] = 1;
    if (line.includes('"image":"new"') && !line.includes('"state"')) changed++;
    else if (hostOf(i, n) === victim && /"state":"failed".*"message":"[^"]*mbm1\b/.test(line)) failed++;
    else throw new Error(`not changed: ${line}`);
  }
  return { changed, failed };
}

try {
  for (const n of HOSTS) {
    sh(`mt-tree up '${NAME}[1-${n}]' --fanout ${FANOUT} --timeout 120 >hosts`);
    writeRecords(n);
    speed(n);
    await memory(n);
    if (n === HOSTS[0])
      report(
        "– for scale: cat | cat",
        RECORDS / median(timed(RUNS, () => sh("cat <records | cat >back"))),
        "records/s",
      );
    if (n === FILE_HOSTS) {
      writeFileSync(path("file"), Buffer.alloc(FILE_MIB * 2 ** 20, 7));
      const push = timed(3, () => sh("mt-tree exec @all --stdin -- sha256sum <file >/dev/null"));
      report(`${FILE_MIB} MiB to ${n} hosts down the tree, digested there`, median(push), "s");
      rmSync(path("file"));
    }
    // Smaller trees have no inner node.
    if (n === HOSTS.at(-1) && n > FANOUT) await killed(n);
    sh("mt-tree down");
  }
} finally {
  remove();
}
