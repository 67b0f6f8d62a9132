/** What several tests of shared/ need: temporary directories, and Bun scripts as processes of their own. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { onTestFinished } from "vitest";

export const ROOT = resolve(import.meta.dirname, "../../..");
export const BUN = join(ROOT, ".build/bun/node_modules/.bin/bun");

export const specFile = (tool: string) => join(ROOT, "tools", tool, "spec.ts");

/** A directory that is removed when the test is done. */
export function tempDir(): string {
  const dir = mkdtempSync(join(tmpdir(), "mtt-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Sets environment variables until the test is done. */
export function withEnv(values: Record<string, string | undefined>): void {
  for (const [name, value] of Object.entries(values)) {
    const before = process.env[name];
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
    onTestFinished(() => {
      if (before === undefined) delete process.env[name];
      else process.env[name] = before;
    });
  }
}

export interface Script {
  child: ChildProcess;
  /** Settles when it has ended. */
  ended: Promise<{ code: number | null; signal: string | null; stdout: string; stderr: string }>;
  /** Settles when it has printed this. */
  printed(text: string): Promise<void>;
}

/** Runs TypeScript under Bun, as a process of its own; imports of "shared/…" and "tools/…" are ours. Killed with the test. */
export function bunScript(source: string, args: string[] = [], env: NodeJS.ProcessEnv = {}): Script {
  const file = join(tempDir(), "script.ts");
  writeFileSync(file, source.replaceAll(/"(?=(?:shared|tools)\/)/g, `"${ROOT}/`));
  return watch(
    spawn(BUN, [file, ...args], { env: { ...process.env, ...env }, stdio: ["pipe", "pipe", "pipe"] }),
  );
}

/** Collects what a process prints. */
export function watch(child: ChildProcess): Script {
  let stdout = "";
  let stderr = "";
  let look = () => {};
  child.stdout?.on("data", (d) => {
    stdout += d;
    look();
  });
  child.stderr?.on("data", (d) => {
    stderr += d;
  });
  const ended = new Promise<Awaited<Script["ended"]>>((done) => {
    child.on("close", (code, signal) => {
      done({ code, signal, stdout, stderr });
      look();
    });
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const printed = (text: string) =>
    new Promise<void>((done, reject) => {
      look = () => {
        if (stdout.includes(text)) done();
        else if (child.exitCode !== null || child.signalCode !== null)
          reject(new Error(`ended before it printed ${text}: ${stdout}${stderr}`));
      };
      look();
    });
  return { child, ended, printed };
}

/** Chunks as a stream. */
export async function* streamOf(...chunks: (string | Buffer)[]): AsyncGenerator<Buffer> {
  for (const chunk of chunks) yield Buffer.from(chunk as string);
}
