/**
 * The hidden command of `--via slurm`: an agent that makes its own key, prints the public half on stdout, and gets its
 * configuration on stdin, which srun copies to all agents. Nothing secret is sent: certificates are public, and private
 * keys never leave their hosts.
 */
import { existsSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Call } from "../../../../shared/cli/invocation.ts";
import { EXIT, type MtError, mtError } from "../../../../shared/errors.ts";
import { runDir } from "../../../../shared/host/names.ts";
import { endProcess, isAlive } from "../../../../shared/host/process.ts";
import { readOwn, writeOwn } from "../../../../shared/own-place.ts";
import { writeAll } from "../../../../shared/stream/writer.ts";
import { makeKey } from "../../link/authority.ts";
import { tlsTransport } from "../../link/tls.ts";
import { cannotListen, runNode } from "../../node/agent.ts";
import type { NodeConfig } from "../../node/config.ts";
import { markedLine } from "../marker.ts";

/** The lines that an agent prints: its key, then that it listens, or why not. */
export type EnrolAnswer =
  | { host: string; public_key: string; step: string }
  | { host: string; listening: true }
  /** An agent of this tree ran already, and was left alone. */
  | { host: string; running: true }
  | { host: string; error: MtError };

/** The configuration that comes on stdin: all but the key, which the agent has made. */
type EnrolConfig = Omit<NodeConfig, "identity"> & {
  identity: { ca: string; cert: string };
  /** Whether an agent of this tree that runs is ended first; else it is left alone. */
  replace: boolean;
};

/** How long it waits for its configuration. */
const TOLD_S = 60;

export async function enrol({ signal }: Call): Promise<number> {
  const host = process.env.SLURMD_NODENAME ?? "";
  const say = (answer: EnrolAnswer) => writeAll(1, markedLine(JSON.stringify(answer)));
  const { publicKey, key } = await makeKey();
  const { SLURM_JOB_ID, SLURM_STEP_ID } = process.env;
  say({ host, public_key: publicKey, step: `${SLURM_JOB_ID}.${SLURM_STEP_ID}` });
  const told = await configFor(host);
  if (!told) {
    say({ host, error: mtError("timeout", `Cannot join host ${host}: mt-tree up did not tell it how`) });
    return EXIT.failed;
  }
  settle(host);
  const identity = { ...told.identity, key };
  // Where Slurm has no cgroups, the next agent of the job ends what a killed one left running. Nodes may share the
  // directory (a /tmp on the network), so file names have the host in them.
  const groups = join(runDir(), `job-${SLURM_JOB_ID}-${host}`);
  const pidFile = `${groups}.port-${told.self.port}`;
  const noted = () => (existsSync(pidFile) ? Number(readOwn(pidFile)) : 0);
  const before = noted();
  if (before !== process.pid && isAlive(before, "enrol")) {
    if (!told.replace) {
      say({ host, running: true });
      return EXIT.ok;
    }
    await endProcess(before, "enrol");
  }
  writeOwn(pidFile, String(process.pid));
  const ended = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
  try {
    await runNode({ ...told, identity }, tlsTransport(identity), groups, ended, () =>
      say({ host, listening: true }),
    );
  } catch (thrown) {
    rmSync(pidFile, { force: true });
    say({ host, error: cannotListen(told, thrown as NodeJS.ErrnoException) });
    return EXIT.failed;
  }
  // An agent that replaced this one has noted its own pid.
  if (noted() === process.pid) {
    rmSync(pidFile, { force: true });
    rmSync(groups, { recursive: true, force: true });
  }
  try {
    rmdirSync(runDir());
  } catch {
    // It is not empty: others use it.
  }
  return EXIT.ok;
}

/** The first line that is for this host; all others are dropped. Undefined where stdin ends, or nothing comes in time. */
function configFor(host: string): Promise<EnrolConfig | undefined> {
  return new Promise((resolve) => {
    let tail = "";
    let found = false;
    const late = setTimeout(() => resolve(undefined), TOLD_S * 1000);
    process.stdin.setEncoding("utf8");
    process.stdin.on("data", (text: string) => {
      if (found) return;
      const lines = (tail + text).split("\n");
      tail = lines.pop() ?? "";
      for (const line of lines) {
        const config = configOf(line);
        if (config?.self?.name !== host) continue;
        found = true;
        clearTimeout(late);
        resolve(config);
      }
    });
    process.stdin.on("end", () => resolve(undefined));
    process.stdin.on("error", () => resolve(undefined));
  });
}

/** Undefined where a line is no configuration. */
function configOf(line: string): EnrolConfig | undefined {
  try {
    return JSON.parse(line) as EnrolConfig;
  } catch {
    return undefined;
  }
}

/** The environment of commands on this host: its name, and no directory that exists only where the job was submitted. */
function settle(host: string): void {
  process.env.MT_HOST = host;
  if (process.env.XDG_RUNTIME_DIR && !existsSync(process.env.XDG_RUNTIME_DIR))
    delete process.env.XDG_RUNTIME_DIR;
}
