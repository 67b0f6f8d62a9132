import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  cleanEnv,
  endProcess,
  findProgram,
  isAlive,
  run,
  runOk,
  sharesPath,
  startDaemon,
  waitFor,
} from "../../../shared/host/process.ts";
import { tempDir, watch, withEnv } from "./fixtures.ts";

describe("programs", () => {
  test("run to their end: output, exit code and input", async () => {
    const done = (await run("sh", ["-c", "cat; echo oops >&2; exit 3"], { input: "ä\n" }))._unsafeUnwrap();
    expect(done).toEqual({ code: 3, stdout: "ä\n", stderr: "oops\n" });
    expect((await runOk("sh", ["-c", "echo no luck >&2; exit 3"]))._unsafeUnwrapErr().message).toMatch(
      /no luck$/,
    );
  });

  test("arguments are never a shell line", async () => {
    const hostile = ["$(id)", "; id", "a\nb", "`id`", "*", ""];
    const done = (await run("printf", ["<%s>", ...hostile]))._unsafeUnwrap();
    expect(done.stdout).toBe(hostile.map((h) => `<${h}>`).join(""));
  });

  test.each([
    ["bird", "apt-get install bird2"],
    ["qemu-system-x86_64", "apt-get install qemu-system-x86"],
    ["no-such-program", undefined],
  ])("a missing %s names its package: %s", (program, hint) => {
    // A name that no directory has: sbin is searched too, whatever PATH is.
    const missing = findProgram(`/nowhere/${program}`)._unsafeUnwrapErr();
    expect(missing).toMatchObject({
      code: "unavailable",
      message: `Cannot run /nowhere/${program}: no such file`,
    });
    const bare = findProgram(program);
    if (bare.isErr())
      expect(bare.error).toEqual({
        code: "unavailable",
        message: `Cannot run ${program}: it is not installed`,
        ...(hint ? { hint } : {}),
      });
    else expect(bare.value).toMatch(new RegExp(`/${program}$`));
  });

  test("the missing one of a run is a value, not a crash", async () => {
    expect((await run("no-such-program", []))._unsafeUnwrapErr()).toMatchObject({ code: "unavailable" });
  });

  test("sbin is looked in where PATH has it not, as under cron", () => {
    withEnv({ PATH: "/usr/bin:/bin" });
    expect(findProgram("sysctl").isOk()).toBe(true);
  });

  test("one that takes too long is ended, and its children's pipes do not hold us", async () => {
    const before = Date.now();
    const late = (await run("sleep", ["30"], { timeout_s: 0.3 }))._unsafeUnwrapErr();
    expect(late).toMatchObject({ code: "timeout", message: "Cannot run sleep: no end after 0.3 s" });
    expect(Date.now() - before).toBeLessThan(5000);
  });

  test("an abort ends it", async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 50);
    expect((await run("sleep", ["30"], { signal: abort.signal }))._unsafeUnwrapErr()).toMatchObject({
      code: "failed",
    });
  });

  test("one that a signal ends is no success", async () => {
    const done = (await run("sh", ["-c", "kill -9 $$"]))._unsafeUnwrap();
    expect(done.code).not.toBe(0);
    expect(done.stderr).toContain("SIGKILL");
  });

  test("a program that reads no input does not break us", async () => {
    expect((await run("true", [], { input: "x".repeat(1_000_000) }))._unsafeUnwrap().code).toBe(0);
  });
});

test("what would turn a compiled binary into plain Bun is not handed on", async () => {
  withEnv({
    BUN_OPTIONS: "--preload=/tmp/x.ts",
    BUN_BE_BUN: "1",
    NODE_OPTIONS: "--no-warnings",
    MT_KEEP: "1",
  });
  const env = (await run("env", []))._unsafeUnwrap().stdout.split("\n");
  expect(env.filter((line) => /^(BUN_|NODE_OPTIONS)/.test(line))).toEqual(["BUN_GC_TIMER_DISABLE=1"]);
  expect(env).toContain("MT_KEEP=1");
  expect(cleanEnv({ BUN_BE_BUN: "1", X: "y" })).not.toHaveProperty("BUN_BE_BUN");
});

describe("processes", () => {
  test("are told from later ones with the same pid by their command line; a zombie is dead", async () => {
    const child = spawn("sleep", ["31.41"]);
    const { ended } = watch(child);
    const pid = child.pid!;
    await waitFor(() => isAlive(pid, "31.41") || undefined, 5);
    expect([isAlive(pid, "31.41"), isAlive(pid, "another"), isAlive(2 ** 22 + 1, "")]).toEqual([
      true,
      false,
      false,
    ]);
    child.kill("SIGKILL");
    await ended;
    expect(isAlive(pid, "31.41")).toBe(false);
    const parent = spawn("sh", ["-c", "sleep 0.5 & echo $!; exec sleep 30"]);
    const zombie = watch(parent);
    await zombie.printed("\n");
    const out = await new Promise<number>((done) => {
      const text = readFileSync(`/proc/${parent.pid}/task/${parent.pid}/children`, "utf8");
      done(Number(text.trim()));
    });
    expect(
      await waitFor(
        () => (/^State:\s*Z/m.test(readFileSync(`/proc/${out}/status`, "utf8")) ? true : undefined),
        5,
      ),
    ).toBe(true);
    expect(isAlive(out, "")).toBe(false);
  });

  test("another's process is not ended, though the pid is the one that was noted", async () => {
    const child = spawn("sleep", ["32.41"]);
    watch(child);
    expect(await endProcess(child.pid!, "qemu-system-x86_64")).toBe(true);
    expect(child.exitCode ?? child.signalCode).toBeNull();
    expect(await endProcess(child.pid!, "32.41")).toBe(true);
  });

  test("one that ignores SIGTERM is killed", async () => {
    const child = spawn("bash", ["-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]);
    const script = watch(child);
    await script.printed("up");
    expect(await endProcess(child.pid!, "trap", 0.2)).toBe(true);
    expect((await script.ended).signal).toBe("SIGKILL");
  });

  test("a daemon lives in a session of its own, and its output is in the log", async () => {
    const log = join(tempDir(), "log");
    const pid = startDaemon("sh", ["-c", "echo started; exec sleep 33.41"], { log })._unsafeUnwrap();
    expect(await waitFor(() => (readFileSync(log, "utf8") === "started\n" ? true : undefined), 5)).toBe(true);
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
    expect(fields[3]).toBe(String(pid));
    expect(await waitFor(() => isAlive(pid, "33.41") || undefined, 5)).toBe(true);
    expect(await endProcess(pid, "33.41")).toBe(true);
    expect(startDaemon("no-such-program", [], { log })._unsafeUnwrapErr().code).toBe("unavailable");
  });
});

test("waiting ends when it is done, when the time is up, and when it is aborted", async () => {
  let n = 0;
  expect(await waitFor(() => (++n === 3 ? "yes" : undefined), 5, 1)).toBe("yes");
  expect(await waitFor(() => undefined, 0.05, 5)).toBeUndefined();
  expect(await waitFor(() => undefined, 60, 5, AbortSignal.abort())).toBeUndefined();
});

describe.skipIf(process.getuid?.() !== 0)(
  "a process that has other files under our paths (needs root)",
  () => {
    test("is not taken for ours, also where our directory is gone", async () => {
      const dir = tempDir();
      const run = join(dir, "run");
      mkdirSync(run);
      const start = (line: string) =>
        spawn("unshare", ["-m", "sh", "-c", `${line}; echo ready; exec sleep 100`], {
          stdio: ["ignore", "pipe", "ignore"],
        });
      const children = [start(`mount -t tmpfs none '${dir}'; mkdir '${run}'`), start(":")];
      try {
        await Promise.all(children.map((child) => once(child.stdout, "data")));
        const shares = () => children.map(({ pid }) => sharesPath(pid!, run));
        expect(shares()).toEqual([false, true]);
        rmSync(run, { recursive: true });
        expect(shares()).toEqual([false, true]);
      } finally {
        for (const child of children) child.kill();
      }
    });
  },
);
