/** What the benches share: medians, and printing a number on a line, with its promise where there is one. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const DIST = new URL("../../dist/", import.meta.url).pathname;

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}

/** Seconds that `work` takes, each of `times` runs. */
export function timed(times: number, work: () => void): number[] {
  return Array.from({ length: times }, () => {
    const began = performance.now();
    work();
    return (performance.now() - began) / 1000;
  });
}

/** Whether a program is on PATH. */
export const has = (program: string) =>
  spawnSync("sh", ["-c", 'command -v "$1"', "sh", program]).status === 0;

/** Prints a number; with a promise, says whether it is kept, and makes the bench exit 1 where it is not. */
export function report(
  what: string,
  value: number,
  unit: string,
  promise?: { atLeast?: number; atMost?: number },
): void {
  const text =
    value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(value !== 0 && value < 1 ? 3 : 1);
  const kept =
    (promise?.atLeast === undefined || value >= promise.atLeast) &&
    (promise?.atMost === undefined || value <= promise.atMost);
  const aim =
    promise === undefined
      ? ""
      : `  (promised: ${promise.atLeast !== undefined ? `at least ${promise.atLeast.toLocaleString("en")}` : `at most ${promise.atMost}`}${kept ? "" : ", NOT KEPT"})`;
  process.stdout.write(`${what.padEnd(52)} ${text.padStart(12)} ${unit}${aim}\n`);
  if (!kept) process.exitCode = 1;
}

/** Directories of its own and the compiled tools on PATH; `sh` throws where the line fails. */
export function benchLab() {
  const dir = mkdtempSync(join(tmpdir(), "mt-bench-"));
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    PATH: `${DIST}:${process.env.PATH}`,
    MT_RUN: join(dir, "run"),
    MT_STATE: join(dir, "state"),
  };
  const sh = (line: string, timeout_s = 300): string => {
    const done = spawnSync("bash", ["-c", line], {
      cwd: dir,
      env,
      encoding: "utf8",
      timeout: timeout_s * 1000,
    });
    if (done.status !== 0) throw new Error(`${line}: ${done.stderr}`);
    return done.stdout;
  };
  const remove = () => {
    spawnSync("bash", ["-c", "mt-launch down bench; mt-tree down"], { env, timeout: 120_000 });
    rmSync(dir, { recursive: true, force: true });
  };
  return { dir, env, sh, remove };
}
