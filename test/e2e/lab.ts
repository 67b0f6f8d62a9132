/** A lab for end-to-end tests: its own directories, the compiled tools on PATH, and what the kernel shows. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { expectRecords, type Rec } from "../support/records.ts";

const dist = resolve(import.meta.dirname, "../../dist");
const CACHE = "/var/lib/megatux/cache/packages";

export interface Done {
  code: number | null;
  stdout: string;
  stderr: string;
}
export type { Rec };

export class Lab {
  readonly dir = mkdtempSync(join(tmpdir(), "mt-e2e-"));
  readonly env: NodeJS.ProcessEnv;

  constructor() {
    if (!existsSync(join(dist, "mt-tree"))) throw new Error("dist/mt-tree is missing: run make build");
    const { MT_PROGRESS: _progress, ...env } = process.env;
    this.env = {
      ...env,
      PATH: `${dist}:${process.env.PATH}`,
      MT_RUN: join(this.dir, "run"),
      MT_STATE: join(this.dir, "state"),
    };
  }

  /** The guests' image, in this lab's store: built once for all labs of this build, copied to each. */
  image(): void {
    const { mtimeMs } = statSync(join(dist, "mt-image"));
    const once = resolve(dist, `../.build/test/image-${Math.floor(mtimeMs)}`);
    const built = this.sh(
      `mkdir -p -m 700 ${once} && exec 9<${once} && flock 9 &&
      if [ ! -e ${once}/done ]; then
        MT_STATE=${once}/state mt-image build tux --cache ${CACHE} >/dev/null && touch ${once}/done
      fi && mkdir -p -m 700 "$MT_STATE" && cp -a ${once}/state/. "$MT_STATE"`,
    );
    if (built.code !== 0) throw new Error(built.stderr);
  }

  /** Runs a shell line to its end. */
  sh(line: string, timeout_s = 170): Done {
    const done = spawnSync("bash", ["-c", line], {
      cwd: this.dir,
      env: this.env,
      encoding: "utf8",
      timeout: timeout_s * 1000,
      maxBuffer: 64 * 1024 * 1024,
    });
    return { code: done.status, stdout: done.stdout, stderr: done.stderr };
  }

  /** Runs a line in the network between the hosts of `--via local`, where p0, p1, … are their ports. */
  inNetwork(line: string): Done {
    return this.sh(`nsenter -t $(cat run/tree/head.pid) -n ${line}`);
  }

  /** Starts one of our tools, or a program by its whole path; `done` resolves when it has ended. */
  start(file: string, args: string[]): { child: ChildProcess; done: Promise<Done> } {
    const child = spawn(resolve(dist, file), args, {
      cwd: this.dir,
      env: this.env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    child.stdout?.on("data", (d) => (stdout += d));
    child.stderr?.on("data", (d) => (stderr += d));
    return { child, done: new Promise((r) => child.on("close", (code) => r({ code, stdout, stderr }))) };
  }

  /** Pids of this lab's guests, by name; a template that is being made is called `template`. */
  guests(): Map<string, number> {
    const found = new Map<string, number>();
    for (const pid of readdirSync("/proc").filter((p) => /^\d+$/.test(p))) {
      const words = cmdline(pid);
      if (!words[0]?.includes("qemu-system") || !words.some((w) => w.startsWith(this.dir))) continue;
      const name = words[words.indexOf("-name") + 1]?.replace(/^guest=/, "");
      if (name) found.set(name, Number(pid));
    }
    return found;
  }

  /** Pids of an experiment's clones; of one guest, where it is named. */
  clones(experiment: string, guest?: string): number[] {
    return readdirSync("/proc")
      .filter((p) => /^\d+$/.test(p))
      .filter((pid) => {
        const words = cmdline(pid);
        return (
          words.includes("-incoming") &&
          words.some((w) => w.startsWith(this.dir) && w.includes(`/experiments/${experiment}/g/`)) &&
          (guest === undefined || words.includes(`guest=${guest}`))
        );
      })
      .map(Number);
  }

  /** Ends all that runs in these namespaces, as a power cut would. */
  powerCut(namespaces: string[]): void {
    for (const ns of namespaces) this.sh(`ip netns pids '${ns}' | xargs -r kill -9`);
  }

  namespaces(): string[] {
    return this.sh("ip netns list")
      .stdout.split("\n")
      .map((l) => l.split(" ")[0]!)
      .filter((n) => /^mt[-:]te/.test(n));
  }

  remove(): void {
    this.sh("mt-launch down ring; mt-tree down");
    rmSync(this.dir, { recursive: true, force: true });
  }
}

function cmdline(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  } catch {
    return [];
  }
}

/** Records of a stream, each checked against the schema that is shipped for its kind. */
export const records = expectRecords;

/** Polls until `done`; throws where it does not come true in time. */
export async function until(what: string, done: () => boolean, timeout_s = 60): Promise<void> {
  const end = Date.now() + timeout_s * 1000;
  while (!done()) {
    if (Date.now() > end) throw new Error(`${what}: not in ${timeout_s} s`);
    await new Promise((r) => setTimeout(r, 50));
  }
}
