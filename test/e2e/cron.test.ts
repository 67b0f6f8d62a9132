/**
 * mt-launch as cron runs it: no terminal, cron's PATH, working directory /, umask 077, TZ and locale unset. Silent
 * where nothing is wrong, the exit code is the verdict, and a second one says which is running and since when.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Done, Lab, records, until } from "./lab.ts";

const LAUNCH = resolve(import.meta.dirname, "../../dist/mt-launch");

describe.skipIf(process.getuid?.() !== 0)("mt-launch under cron (needs root)", () => {
  let lab: Lab;
  let topology: string;
  beforeAll(() => {
    lab = new Lab();
    lab.image();
    topology = join(lab.dir, "cronring.jsonl");
    expect(lab.sh(`mt-topo gen ring --routers 3 --id cronring >${topology}`).code).toBe(0);
  });
  afterAll(() => {
    lab?.sh("mt-launch down cronring");
    lab?.remove();
  });

  /** A line of a crontab, as cron would start it. */
  function cron(...words: string[]): { child: ChildProcess; done: Promise<Done> } {
    const child = spawn(
      "setsid",
      ["sh", "-c", 'umask 077; cd /; exec env -i PATH=/usr/bin:/bin HOME=/root "$@"', "sh"].concat(
        [`MT_RUN=${lab.env.MT_RUN}`, `MT_STATE=${lab.env.MT_STATE}`, LAUNCH],
        words,
      ),
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    let stdout = "";
    let stderr = "";
    child.stdout?.on("data", (d) => (stdout += d));
    child.stderr?.on("data", (d) => (stderr += d));
    return { child, done: new Promise((r) => child.on("close", (code) => r({ code, stdout, stderr }))) };
  }
  const upWords = () => ["up", topology, "--hosts", "mc[1-2]", "--guests", "2"];
  const lockFile = () => join(lab.dir, "state/plans/cronring.lock");

  test("comes up in silence, its verdict is true; a second one meanwhile gets 75 and is told who and since when", async () => {
    const rootBefore = readdirSync("/").sort();
    const began = Date.now();
    const first = cron(...upWords());
    await until("the first has the lock", () => existsSync(lockFile()) && statSync(lockFile()).size > 0);
    const second = await cron(...upWords()).done;
    expect([second.code, second.stdout]).toEqual([75, ""]);
    const told = /Cannot up cronring: .*since (\S+Z) \(mt-launch up, pid (\d+)\)/.exec(second.stderr);
    expect(told, second.stderr).not.toBeNull();
    expect(Number(told![2])).toBe(first.child.pid);
    expect(Date.parse(told![1]!)).toBeGreaterThan(began - 1000);
    expect(Date.parse(told![1]!)).toBeLessThanOrEqual(Date.now());

    const done = await first.done;
    expect([done.code, done.stderr]).toEqual([0, ""]);
    expect(records(done.stdout)).toMatchObject([
      { kind: "verdict", id: "cronring", hosts: 2, routers: 3, converged: 3, guests: 2, ready: 2 },
    ]);
    expect(readdirSync("/").sort()).toEqual(rootBefore);
    // umask 077: nobody else may read what it wrote.
    expect(statSync(join(lab.dir, "state/plans/cronring.plan")).mode & 0o077).toBe(0);
    expect(readFileSync(join(lab.dir, "state/plans/cronring.plan"), "utf8")).toContain('"kind":"end"');
  });

  test("check: the exit code is the verdict, and what is wrong is said", async () => {
    const fine = await cron("check", "cronring").done;
    expect([fine.code, fine.stderr]).toEqual([0, ""]);
    expect(lab.sh("mt-tree exec 'mc[1-2]' -- mt-route down --experiment cronring").code).toBe(0);
    const broken = await cron("check", "cronring").done;
    expect(broken.code).toBe(1);
    expect(records(broken.stdout)).toMatchObject([{ kind: "verdict", converged: 0, ready: 2 }]);
    expect(broken.stderr).toMatch(/router r\d: Cannot confirm router r\d: BIRD does not run/);
  });

  test("down in silence, also where it is down already", async () => {
    for (const _ of [1, 2])
      expect(await cron("down", "cronring").done).toEqual({ code: 0, stdout: "", stderr: "" });
    expect(lab.guests().size).toBe(0);
    expect(lab.sh("ip netns list").stdout).not.toMatch(/^mt[-:]mc[12]/m);
  });
});
