/**
 * `--via slurm`: inside an allocation Slurm tells the nodes, and a step of `srun`, which shares them with the job's own
 * steps, starts the agents. They end with that step, with the job, or with `mt-tree down`. Files are in
 * MT_RUN/tree/slurm: the job's id, and for every step its pid and the output of its agents.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { err, ok } from "neverthrow";
import { fail, type MtError, mtError } from "../../../../shared/errors.ts";
import { treeDir } from "../../../../shared/host/names.ts";
import {
  cleanEnv,
  endProcess,
  findProgram,
  isAlive,
  run,
  toolCommand,
  waitFor,
} from "../../../../shared/host/process.ts";
import { fold } from "../../../../shared/nodeset/ranges.ts";
import { openOwn, writeOwn } from "../../../../shared/own-place.ts";
import { certify } from "../../link/authority.ts";
import { AGENT_ENVIRONMENT } from "../../node/agent-environment.ts";
import { lastLine, readLog } from "../../node/node-here.ts";
import type { TreeFile } from "../../node/tree-file.ts";
import { MARK, marked } from "../marker.ts";
import type { PlannedAgent, StartOutcome, Way, WayOptions } from "../way.ts";
import type { EnrolAnswer } from "./enrol.ts";
import { addressTowards, allocatedHosts, job } from "./nodes.ts";

const dir = () => join(treeDir(), "slurm");
const log = () => join(dir(), "log");
const jobFile = () => join(dir(), "job");

/** Seconds for all agents to answer, where --timeout does not say. */
const ANSWER_S = 30;
/** Seconds for all agents to end. */
const END_S = 10;

export const viaSlurm = ({ timeout_s = ANSWER_S }: WayOptions): Way => ({
  knowsHosts: true,
  async hosts(names, earlier) {
    const id = job();
    if (id.isErr()) return err(id.error);
    const before = earlier && existsSync(jobFile()) ? readFileSync(jobFile(), "utf8") : id.value;
    if (before !== id.value)
      return fail(
        "busy",
        `Cannot bring up the tree: the one that is here is of job ${before}, and this is job ${id.value}`,
        "mt-tree down first",
      );
    const found = await allocatedHosts();
    if (found.isErr()) return err(found.error);
    const { hosts: allocated, failed } = found.value;
    const known = earlier?.hosts ?? [];
    const hosts = [...known];
    for (const name of names.length > 0 || earlier ? names : [...allocated.keys(), ...failed.keys()]) {
      if (hosts.some((h) => h.id === name) || failed.has(name)) continue;
      const host = allocated.get(name);
      if (host) hosts.push(host);
      else
        failed.set(
          name,
          mtError(
            "data",
            `Cannot reach ${name}: it is not in job ${id.value}`,
            `squeue -j ${id.value} tells its nodes`,
          ),
        );
    }
    if (names.length > 0) for (const name of failed.keys()) if (!names.includes(name)) failed.delete(name);
    return ok({ hosts, failed, head: hosts[0] ? await addressTowards(hosts[0].addr) : "127.0.0.1" });
  },
  async may() {
    return findProgram("srun").map(() => undefined);
  },
  async make() {
    return job().map((id) => writeOwn(jobFile(), id));
  },
  headNamespace: undefined,
  start: (tree, agents, signal, replace) => startAgents(tree, agents, signal, timeout_s, replace),
  async lastLogLines(_tree, hosts) {
    // One log for all agents: each line names its host.
    const lines = readLog(log(), 2 ** 20).split("\n");
    return new Map(
      hosts.flatMap((h) => {
        const line = lines.findLast((l) => l.includes(` as ${h}: `) || l.includes(` host ${h}: `));
        return line === undefined ? [] : [[h, lastLine(line)!] as const];
      }),
    );
  },
  async remove() {
    if (!existsSync(dir())) return ok(undefined);
    const steps = readdirSync(dir()).flatMap((f) => (f.endsWith(".pid") ? [f.slice(0, -".pid".length)] : []));
    const ended = await Promise.all(steps.map(endStep));
    return ended.every(Boolean)
      ? ok(undefined)
      : fail("failed", "Cannot end the agents: srun does not end", "scancel the job");
  },
  logOf: () => log(),
});

/**
 * What srun runs on a node; its arguments call our own tool. Where that does not run, the node says so at once, and the
 * others go on.
 */
const ON_NODE = `"$@" --version >/dev/null || { printf '\\n${MARK}{"host":"%s","exit":%d}\\n' "$SLURMD_NODENAME" $?; exit; }
exec "$@" enrol`;

/** Where a node cannot be reached Slurm ends the whole step, so the step is started again without that node. */
async function startAgents(
  tree: TreeFile,
  agents: PlannedAgent[],
  signal: AbortSignal,
  timeout_s: number,
  replace: boolean,
): Promise<StartOutcome> {
  const failed = new Map<string, MtError>();
  const running = new Set<string>();
  const until = Date.now() + timeout_s * 1000;
  for (let left = agents; left.length > 0; ) {
    const begun = sizeOf(log());
    const given_s = Math.max(1, (until - Date.now()) / 1000);
    const now = await startAtOnce(tree, left, signal, given_s, replace, running);
    for (const [host, error] of now) failed.set(host, error);
    const unreached = unreachedNodes(readFileSync(log(), "utf8").slice(begun));
    for (const [host, why] of unreached)
      if (now.has(host))
        failed.set(
          host,
          mtError("lost", `Cannot start the agent of ${host}: Slurm does not reach it: ${why}`, "sinfo -R"),
        );
    left = left.filter((a) => now.has(a.host.id) && !unreached.has(a.host.id));
    if (unreached.size === 0 || signal.aborted || Date.now() >= until) break;
    for (const agent of left) failed.delete(agent.host.id);
  }
  return { failed, running };
}

/** From srun's output: nodes where it could not start its task, and why. */
export function unreachedNodes(said: string): Map<string, string> {
  const lines = said.matchAll(/srun: error: Task launch for \S+ failed on node (\S+): (.*)$/gm);
  return new Map([...lines].map(([, node = "", why = ""]) => [node, why]));
}

const sizeOf = (path: string) => (existsSync(path) ? readFileSync(path, "utf8").length : 0);

async function startAtOnce(
  tree: TreeFile,
  agents: PlannedAgent[],
  signal: AbortSignal,
  timeout_s: number,
  replace: boolean,
  running: Set<string>,
): Promise<Map<string, MtError>> {
  const failed = new Map<string, MtError>();
  const waiting = new Map(agents.map((a) => [a.host.id, a]));
  const certified = new Set<string>();
  const step = `mt-tree-${randomBytes(4).toString("hex")}`;
  const srun = startStep(step, [...waiting.keys()]);
  let ended = false;
  srun.on("exit", () => (ended = true)).on("error", () => (ended = true));
  srun.stdin!.on("error", () => {});

  const hear = async (line: string) => {
    const said = answer(line);
    const agent = said && waiting.get(said.host);
    if (!agent) return;
    const { config, host } = agent;
    if ("public_key" in said) {
      // Each host gets one certificate: a second key in its name may be an intruder's.
      if (certified.has(host.id)) return;
      certified.add(host.id);
      try {
        const cert = await certify(tree.authority, host.id, said.public_key);
        const identity = { ca: tree.authority.cert, cert };
        srun.stdin!.write(`${JSON.stringify({ ...config, identity, replace })}\n`);
      } catch {
        waiting.delete(host.id);
        failed.set(host.id, mtError("data", `Cannot start the agent of ${host.id}: what it sent is no key`));
      }
      return;
    }
    waiting.delete(host.id);
    if ("running" in said) running.add(host.id);
    else if ("error" in said) failed.set(host.id, said.error);
    else if ("exit" in said) failed.set(host.id, cannotStart(host.id, said.exit));
  };
  const news = linesOf(join(dir(), `${step}.out`));
  await waitFor(
    async () => {
      const over = ended;
      for (const line of news()) await hear(line);
      return waiting.size === 0 || over ? true : undefined;
    },
    timeout_s,
    20,
    signal,
  );
  // Agents that still wait for their configuration end when stdin does.
  srun.stdin!.end();
  srun.unref();
  for (const host of waiting.keys())
    failed.set(
      host,
      mtError(
        ended ? "failed" : "timeout",
        `Cannot start the agent of ${host}: ${ended ? "srun ended" : `no answer in ${timeout_s} s`}`,
        `what srun said last is in ${log()}`,
      ),
    );
  return failed;
}

function startStep(step: string, hosts: string[]): ChildProcess {
  const env: NodeJS.ProcessEnv = { ...cleanEnv(), ...AGENT_ENVIRONMENT };
  // Directories of this machine mean nothing on the nodes.
  for (const name of ["MT_RUN", "MT_STATE", "MT_CACHE", "MT_HOST"]) delete env[name];
  const n = hosts.length;
  // One bracket in each name, which every version of Slurm reads.
  const nodelist = fold(hosts).join(",");
  const child = spawn(
    "srun",
    [
      ...[`--job-name=${step}`, `--nodelist=${nodelist}`, `--nodes=${n}`, `--ntasks=${n}`],
      // Shares the nodes with the job's own steps, with all that the job has on a node.
      ...["--ntasks-per-node=1", "--overlap", "--cpu-bind=none", "--mem=0"],
      // An agent that ends, or a node that dies, does not end the others.
      ...["--kill-on-bad-exit=0", "--no-kill", "--wait=0", "--input=all"],
      ...["sh", "-c", ON_NODE, "sh", ...toolCommand("mt-tree")],
    ],
    {
      detached: true,
      cwd: "/",
      env,
      stdio: ["pipe", openOwn(join(dir(), `${step}.out`), "append"), openOwn(log(), "append")],
    },
  );
  if (child.pid !== undefined) writeOwn(join(dir(), `${step}.pid`), `${child.pid}\n`);
  return child;
}

/**
 * Ends a step of ours: its agents get SIGTERM and end what they run, and srun ends with the last of them. Agents that do
 * not end are ended by srun, or by Slurm where srun was killed.
 */
async function endStep(step: string): Promise<boolean> {
  const pid = Number(readFileSync(join(dir(), `${step}.pid`), "utf8"));
  const said = linesOf(join(dir(), `${step}.out`))().map(answer);
  const { step: id = "" } = said.find((s) => s !== undefined && "step" in s) ?? {};
  const known = /^\d+\.\d+$/.test(id);
  const gone = () => (isAlive(pid, step) ? undefined : true);
  // A job that has ended has no steps, and Slurm says so.
  if (known) {
    const asked = await run("scancel", ["--signal=TERM", id]);
    if (asked.isOk() && asked.value.code === 0 && !gone()) await waitFor(gone, END_S);
    if (gone()) await run("scancel", [id]);
  }
  return gone() ?? endProcess(pid, step, END_S);
}

/** What an agent printed, or the shell before it: the exit code with which our tool did not start. */
type Answer = EnrolAnswer | { host: string; exit: number };

function answer(line: string): Answer | undefined {
  try {
    const said = JSON.parse(marked(line) ?? "") as Answer;
    return typeof said?.host === "string" ? said : undefined;
  } catch {
    return undefined;
  }
}

function cannotStart(host: string, code: number): MtError {
  const [file = ""] = toolCommand("mt-tree");
  const start = `Cannot start the agent of ${host}:`;
  if (code === 127)
    return mtError(
      "unavailable",
      `${start} ${file} is not there`,
      "install it there, or on a shared file system",
    );
  if (code === 126) return mtError("unavailable", `${start} ${file} does not run on this machine`);
  return mtError("failed", `${start} ${file} ended with ${code}`, `what it said is in ${log()}`);
}

/** Gives, each time it is called, the whole lines that were added to a file since. */
function linesOf(path: string): () => string[] {
  const fd = openOwn(path, "read");
  let tail = Buffer.alloc(0);
  return () => {
    const bytes = Buffer.alloc(65536);
    for (let n = readSync(fd, bytes); n > 0; n = readSync(fd, bytes))
      tail = Buffer.concat([tail, bytes.subarray(0, n)]);
    const end = tail.lastIndexOf(10) + 1;
    const whole = tail.toString("utf8", 0, end);
    tail = tail.subarray(end);
    return whole.split("\n").slice(0, -1);
  };
}
