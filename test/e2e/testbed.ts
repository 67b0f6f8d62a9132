/** Hosts with real sshd, and real Slurm, for tests: test/testbed, with our compiled tools on PATH. */
import { spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { Done } from "./lab.ts";

const repository = resolve(import.meta.dirname, "../..");
const script = `${repository}/test/testbed`;

export class Testbed {
  readonly name: string;
  readonly #env: NodeJS.ProcessEnv;

  /** @param name what its hosts are called: `NAME1`… and the control node `NAME0` */
  constructor(name: string, hosts: number, flags: string[] = []) {
    this.name = name;
    const { MT_RUN: _run, MT_STATE: _state, MT_PROGRESS: _progress, ...env } = process.env;
    this.#env = { ...env, TESTBED: name, PATH: `${repository}/dist:${process.env.PATH}` };
    this.down();
    const up = this.#script(["up", String(hosts), ...flags]);
    if (up.code !== 0) throw new Error(up.stderr);
  }

  #script(words: string[], timeout_s = 100): Done {
    const done = spawnSync(script, words, {
      env: this.#env,
      encoding: "utf8",
      timeout: timeout_s * 1000,
      maxBuffer: 64 * 1024 * 1024,
    });
    return { code: done.status, stdout: done.stdout, stderr: done.stderr };
  }

  /** Runs a shell line on a host to its end; host 0 is the control node. */
  on(host: number, line: string, timeout_s?: number): Done {
    return this.#script(["on", String(host), "bash", "-c", line], timeout_s);
  }

  /** Runs a shell line in an allocation of `nodes` hosts. */
  allocated(nodes: number, line: string, timeout_s?: number): Done {
    return this.#script(["on", "0", "salloc", "-Q", `-N${nodes}`, "bash", "-c", line], timeout_s);
  }

  /** Starts a shell line on the control node; `done` resolves when it has ended. */
  start(line: string): { done: Promise<Done> } {
    const child = spawn(script, ["on", "0", "bash", "-c", line], { env: this.#env });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (d) => (stdout += d));
    child.stderr.on("data", (d) => (stderr += d));
    return { done: new Promise((r) => child.on("close", (code) => r({ code, stdout, stderr }))) };
  }

  /** What runs in a host's network, but for the cluster's own daemons: command lines. */
  processes(host: number): string[] {
    const pids = spawnSync("ip", ["netns", "pids", `${this.name}${host}`], { encoding: "utf8" }).stdout;
    return pids.split("\n").flatMap((pid) => {
      try {
        const words = readFileSync(`/proc/${Number(pid)}/cmdline`, "utf8")
          .split("\0")
          .join(" ")
          .trim();
        return pid === "" || words === "" || /^\S*(sshd|slurm\w+|munged)\b/.test(words) ? [] : [words];
      } catch {
        return [];
      }
    });
  }

  down(): void {
    const done = this.#script(["down"]);
    if (done.code !== 0) throw new Error(done.stderr);
  }
}
