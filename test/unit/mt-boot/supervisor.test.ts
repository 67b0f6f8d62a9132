/**
 * The life of a supervisor, with the real program and without an image: started once however many ask, started
 * again after kill -9 with what it knew, gone after down with everything that it kept.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { findProgram, isAlive, waitFor } from "../../../shared/host/process.ts";
import type { Guest } from "../../../shared/records/index.ts";
import { expectRecords } from "../../support/records.ts";
import { BUN, bunScript, ROOT, watch } from "../shared/fixtures.ts";

const EXPERIMENT = `mtt-supervisor-${process.pid}`;
const dir = mkdtempSync(join(tmpdir(), "mtt-boot-"));
const env = {
  ...process.env,
  MT_RUN: join(dir, "r"),
  MT_STATE: join(dir, "s"),
  MT_LEASES: join(dir, "l"),
  MT_HOST: "kn1",
};
const plan = [
  { kind: "experiment", id: EXPERIMENT, version: 1, seed: 1 },
  {
    kind: "image",
    id: "tux",
    os: "linux",
    fork: true,
    files: { kernel: `sha256:${"9c".repeat(32)}`, initrd: `sha256:${"41".repeat(32)}` },
  },
  { kind: "guest", id: "g[0-3]", host: "kn1", index: 0, image: "tux", cores: 1, mem_mib: 64, interfaces: [] },
  { kind: "guest", id: "far", host: "kn2", index: 9, image: "tux", cores: 1, mem_mib: 64, interfaces: [] },
  { kind: "end", id: EXPERIMENT, counts: { guest: 5 } },
];

function boot(args: string[], input = "", extra: Record<string, string> = {}) {
  const child = spawn(BUN, [join(ROOT, "tools/mt-boot/main.ts"), ...args], {
    env: { ...env, ...extra },
    stdio: ["pipe", "pipe", "pipe"],
  });
  child.stdin.end(input);
  return watch(child).ended;
}
const text = plan.map((line) => `${JSON.stringify(line)}\n`).join("");
const guests = (stdout: string): Guest[] =>
  expectRecords(stdout).filter((r) => r.kind === "guest") as unknown as Guest[];

/** Supervisors of our experiment, as the kernel shows them. */
const supervisors = (): number[] =>
  readdirSync("/proc")
    .filter((p) => /^\d+$/.test(p))
    .map(Number)
    .filter((p) => isAlive(p, `supervise\0--host\0kn1\0${EXPERIMENT}\0`));

afterAll(() => {
  // Without guests it ends by itself; where the test has failed we do not wait for that.
  for (const pid of supervisors()) process.kill(pid, "SIGKILL");
  rmSync(dir, { recursive: true, force: true });
});

test.skipIf(findProgram("qemu-system-x86_64").isErr())(
  "one supervisor, again after kill -9, none after down",
  async () => {
    const all = await Promise.all([1, 2, 3].map(() => boot(["up"], text)));
    for (const { code, stdout } of all) {
      expect(code).toBe(1);
      const [far, mine] = guests(stdout).sort((a, b) => (a.id < b.id ? -1 : 1));
      expect(far).toEqual(plan[3]);
      expect(mine).toMatchObject({
        id: "g[0-3]",
        state: "failed",
        error: {
          by: "mt-boot",
          code: "unavailable",
          message: "Cannot boot g[0-3]: image tux is not on this host",
          hint: "mt-push",
        },
      });
      expect(stdout.trimEnd().split("\n").at(-1)).toBe(JSON.stringify(plan[4]));
    }
    const first = supervisors();
    expect(first).toHaveLength(1);

    process.kill(first[0]!, "SIGKILL");
    const listed = await boot(["ls"]);
    expect(guests(listed.stdout)).toMatchObject([
      { id: "g[0-3]", state: "failed", host: "kn1", experiment: EXPERIMENT },
    ]);
    const checked = guests((await boot(["check"], text)).stdout).find((g) => g.id === "g[0-3]");
    expect(checked).toMatchObject({ state: "failed" });
    expect(checked).not.toHaveProperty("experiment");
    expect(supervisors()).toHaveLength(1);
    expect(supervisors()).not.toEqual(first);

    const exits = await boot(["exec", "g0", "--", "true"]);
    expect(exits.code).toBe(1);
    expect(expectRecords(exits.stdout)).toMatchObject([
      { kind: "exit", id: "g0", guest: "g0", state: "failed" },
    ]);

    for (let round = 0; round < 2; round++) {
      const down = await boot(["down"], text);
      expect(down).toMatchObject({ code: 0, stderr: "" });
      expect(guests(down.stdout)).toContainEqual({ ...plan[2], state: "stopped" });
      expect(guests(down.stdout)).toContainEqual(plan[3]);
      expect(await waitFor(() => supervisors().length === 0 || undefined, 5)).toBe(true);
      expect(
        existsSync(join(dir, "r", "experiments")) ? readdirSync(join(dir, "r", "experiments")) : [],
      ).toEqual([]);
    }

    // A stream that was cut off: nothing is stopped, and nothing is started to stop it.
    const cut = await boot(["down"], text.split("\n").slice(0, 3).join("\n"));
    expect(cut.code).toBe(65);
    expect(guests(cut.stdout)).toEqual([plan[2]]);
  },
);

test.skipIf(findProgram("qemu-system-x86_64").isErr())(
  "what nobody knows of a guest comes out of the ledger as it came, digit by digit",
  async () => {
    const odd = `"n":9007199254740993,"e":1e400,"m":-0, "s":"\\u00e9"`;
    const lines = text.replace('"interfaces":[]}', `"interfaces":[],${odd}}`);
    expect(lines).toContain(odd);
    await boot(["up"], lines);
    for (const pid of supervisors()) process.kill(pid, "SIGKILL");
    for (const words of [["ls"], ["resume", "g[0-3]"]]) {
      const { stdout } = await boot(words);
      expect(guests(stdout)).toMatchObject([{ id: "g[0-3]", state: "failed" }]);
      expect(stdout).toContain(`,${odd},`);
    }
    expect((await boot(["down"], lines)).code).toBe(0);
  },
);

/** Removes all of MT_RUN, as somebody's rm -rf would. */
const emptyRun = () => {
  for (const name of readdirSync(env.MT_RUN))
    rmSync(join(env.MT_RUN, name), { recursive: true, force: true });
};

test.skipIf(findProgram("qemu-system-x86_64").isErr())(
  "one whose directory was taken away ends by itself, and leaves the next one's files alone",
  async () => {
    await boot(["up"], text);
    const [first] = supervisors();
    emptyRun();
    await boot(["up"], text);
    expect(await waitFor(() => !supervisors().includes(first!) || undefined, 20)).toBe(true);
    const next = supervisors();
    expect(next).toHaveLength(1);
    expect(guests((await boot(["ls"])).stdout)).toMatchObject([{ id: "g[0-3]", state: "failed" }]);
    expect(supervisors()).toEqual(next);
    emptyRun();
    expect(await waitFor(() => supervisors().length === 0 || undefined, 20)).toBe(true);
    expect(readdirSync(env.MT_RUN)).toEqual([]);
  },
);

test.skipIf(findProgram("qemu-system-x86_64").isErr())(
  "down ends one whose directory was taken away, with a plan and by name; not another MT_RUN's",
  async () => {
    for (const down of [["down"], ["down", "--experiment", EXPERIMENT]]) {
      await boot(["up"], text);
      const [living] = supervisors();
      // So that it cannot notice by itself.
      process.kill(living!, "SIGSTOP");
      emptyRun();
      const other = await boot(down, text, { MT_RUN: join(dir, "other") });
      expect(other).toMatchObject({ code: 0, stderr: "" });
      expect(supervisors()).toEqual([living]);
      expect(await boot(down, text)).toMatchObject({ code: 0, stderr: "" });
      expect(supervisors()).toEqual([]);
      expect(existsSync(join(env.MT_RUN, "experiments", EXPERIMENT))).toBe(false);
    }
  },
);

test("the ledger gives back what was put, in the plan's order, and knows whose it is", async () => {
  const source = `
    import { hasLedger, openLedger } from "tools/mt-boot/persist/ledger.ts";
    const id = "an-experiment-with-a-long-name";
    const before = hasLedger(id);
    const row = (n, state) => ({ record: { kind: "guest", id: "g" + n, index: n }, image: {}, accel: "auto", ready_timeout_s: 9, wanted: "ready", state });
    const ledger = await openLedger(id, { host: "kn1" });
    for (const r of [row(2, "ready"), row(1, "ready"), row(2, "running"), row(3, "paused")]) ledger.put(r);
    ledger.drop(["g3"]);
    ledger.close();
    const again = await openLedger(id);
    console.log(JSON.stringify([before, again.about(), again.rows().map((r) => r.record.id + r.state)]));`;
  const { stdout, stderr } = await bunScript(source, [], { MT_RUN: join(dir, "ledger") }).ended;
  expect(stderr).toBe("");
  expect(JSON.parse(stdout)).toEqual([
    false,
    { experiment: "an-experiment-with-a-long-name", host: "kn1" },
    ["g1ready", "g2running"],
  ]);
});
