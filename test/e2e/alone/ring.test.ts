/**
 * A ring of three routers with six guests on three hosts in a chain (fanout 1, so that a host in the middle
 * carries another): up, healed, broken, taken down, on the compiled tools with real guests.
 */
import { spawn } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Lab, type Rec, records, until } from "../lab.ts";

const HOSTS = "te[1-3]";
const UP = ["up", "ring.jsonl", "--hosts", HOSTS, "--fanout", "1", "--guests", "6"];
const up = `mt-launch ${UP.map((w) => `'${w}'`).join(" ")}`;
const TRUE = { hosts: 3, routers: 3, converged: 3, guests: 6, ready: 6 };

describe.skipIf(process.getuid?.() !== 0)("a small ring (needs root)", () => {
  let lab: Lab;
  beforeAll(() => {
    lab = new Lab();
    lab.image();
    expect(lab.sh("mt-topo gen ring --routers 3 --id ring >ring.jsonl").code).toBe(0);
    expect(lab.sh("mt-status snapshot >before").code).toBe(0);
  });
  afterAll(() => lab?.remove());

  const verdictOf = (stdout: string): Rec => {
    const all = records(stdout);
    expect(all.map((r) => r.kind)).toEqual(["verdict"]);
    return all[0]!;
  };
  const expectNothingLeft = () => {
    const left = lab.sh("mt-status left --since before </dev/null");
    expect(records(left.stdout)[0]).toMatchObject({ left_behind: 0 });
    expect(lab.namespaces()).toEqual([]);
  };

  test("comes up, and every guest reaches the others", () => {
    const done = lab.sh(up);
    expect(done.stderr).not.toMatch(/Cannot/);
    expect(verdictOf(done.stdout)).toMatchObject({ ...TRUE, pairs_tried: 12, pairs_reached: 12 });
    expect(done.code).toBe(0);
  });

  test("commands run in guests, their text never in a shell", () => {
    const done = lab.sh(`mt-tree exec te1 -- mt-boot exec 'g[0-1]' -- echo '$(hostname);' "a b"`);
    expect(done.code).toBe(0);
    const inner = records(String(records(done.stdout)[0]!.stdout));
    expect(inner.map((r) => [r.kind, r.code, r.stdout])).toEqual([
      ["exit", 0, "$(hostname); a b\n"],
      ["exit", 0, "$(hostname); a b\n"],
    ]);
    const names = lab.sh("mt-tree map -- mt-boot exec -- hostname <state/plans/ring.plan");
    expect(names.code).toBe(0);
    const exits = records(names.stdout).filter((r) => r.kind === "exit");
    expect(exits.map((r) => `${r.id} ${r.stdout}`).sort()).toEqual(
      [0, 1, 2, 3, 4, 5].map((n) => `g${n} g${n}\n`),
    );
  });

  test("up twice leaves what runs alone; of two at the same instant one is told to wait", async () => {
    const before = lab.guests();
    const both = await Promise.all([1, 2].map(() => lab.start("mt-launch", UP).done));
    expect(both.map((d) => d.code).sort()).toEqual([0, 75]);
    expect(both.find((d) => d.code === 75)!.stderr).toMatch(/another mt-launch is at it since \d{4}-/);
    expect(lab.guests()).toEqual(before);
  });

  test("heals: half of the guests, a router and a supervisor killed", () => {
    const before = lab.guests();
    expect([...before.keys()].sort()).toEqual(["g0", "g1", "g2", "g3", "g4", "g5"]);
    for (const id of ["g0", "g2", "g4"]) process.kill(before.get(id)!, "SIGKILL");
    expect(
      lab.sh(
        "pkill -9 -f '[m]t-boot supervise --host te1 ring' && ip netns pids mt:te1:ring:r0 | xargs kill -9",
      ).code,
    ).toBe(0);
    const done = lab.sh(up);
    expect(verdictOf(done.stdout)).toMatchObject({ ...TRUE, pairs_tried: 12, pairs_reached: 12 });
    expect(done.code).toBe(0);
    const after = lab.guests();
    for (const id of ["g1", "g3", "g5"]) expect(after.get(id)).toBe(before.get(id));
    for (const id of ["g0", "g2", "g4"]) expect(after.get(id)).not.toBe(before.get(id));
  });

  test("check tells what is not true, and changes nothing", () => {
    expect(lab.sh("mt-launch check ring").code).toBe(0);
    expect(lab.sh("mt-tree exec te1 -- mt-route down --experiment ring").code).toBe(0);
    const done = lab.sh("mt-launch check ring");
    expect(done.code).toBe(1);
    const verdict = verdictOf(done.stdout);
    expect(verdict.converged).toBeLessThan(3);
    expect(verdict.pairs_reached).toBeLessThan(Number(verdict.pairs_tried));
  });

  test("down after everything was killed leaves nothing, and down again is fine", () => {
    lab.powerCut(
      lab
        .sh("ip netns list")
        .stdout.split("\n")
        .map((l) => l.split(" ")[0]!)
        .filter((n) => /^mt[-:](te|net)/.test(n)),
    );
    expect(lab.guests().size).toBe(0);
    const done = lab.sh("mt-launch down ring");
    expect(done.stdout).toBe("");
    expect(done.code).toBe(0);
    expectNothingLeft();
    expect(lab.sh("mt-launch down ring").code).toBe(0);
    expect(lab.sh("mt-tree down").code).toBe(0);
  });

  test("a host that dies in the middle of up fails its own records only; up then mends it", async () => {
    // Booted cold, so that te2 dies while its guests are on their way, and not after.
    const pipe =
      "mt-push | mt-tree map -- mt-vnet up | mt-tree map -- mt-boot up --boot cold | mt-tree map -- mt-route up >out; declare -p PIPESTATUS";
    expect(
      lab.sh(
        `mt-tree up '${HOSTS}' --fanout 1 >hosts && mt-topo guests 6 --image tux <ring.jsonl | mt-topo place hosts >plan`,
      ).code,
    ).toBe(0);
    const run = new Promise<string>((resolve) => {
      const child = spawn("bash", ["-c", `${pipe} `], {
        cwd: lab.dir,
        env: lab.env,
        stdio: ["pipe", "pipe", "ignore"],
      });
      let out = "";
      child.stdout.on("data", (d) => (out += d));
      child.on("close", () => resolve(out));
      child.stdin.end(lab.sh("cat plan").stdout);
    });
    const plan = records(lab.sh("cat plan").stdout);
    const on = (host: string) => plan.filter((r) => r.kind === "guest" && r.host === host);
    expect(on("te2").length).toBeGreaterThan(0);
    await until(
      "a guest on te2",
      () => lab.sh("ip netns pids mt-te2 | xargs -r ps -o comm= -p | grep -q qemu").code === 0,
    );
    lab.powerCut(["mt-te2"]);
    const codes = [...(await run).matchAll(/\]="(\d+)"/g)].map((m) => Number(m[1]));
    expect(codes).toEqual([0, 0, 1, 1]);
    const out = records(lab.sh("cat out").stdout);
    // Every record is there once, whatever its state.
    const key = (r: Rec) => `${r.kind} ${r.id}`;
    const ours = (all: Rec[]) =>
      all
        .filter((r) => !["switch", "copy", "sample", "exit"].includes(r.kind))
        .map(key)
        .sort();
    expect(ours(out)).toEqual(ours(plan));
    for (const guest of out.filter((r) => r.kind === "guest"))
      if (guest.host === "te2")
        expect(guest).toMatchObject({
          state: "failed",
          error: { by: "mt-tree", message: expect.stringContaining("te2") },
        });
      else expect(guest.state).toBe("ready");
    expect(verdictOf(lab.sh(up).stdout)).toMatchObject({ ...TRUE, pairs_reached: 12 });
    expect(lab.sh("mt-launch down ring").code).toBe(0);
    // This tree was made by hand: mt-launch leaves it.
    expect(lab.sh("mt-tree status --records").code).toBe(0);
    expect(lab.sh("mt-tree down").code).toBe(0);
    expectNothingLeft();
  });

  test("Ctrl-C in the middle takes down what was built", async () => {
    const launch = lab.start("mt-launch", UP);
    await until("a guest", () => lab.guests().size > 0);
    launch.child.kill("SIGINT");
    expect((await launch.done).code).toBe(130);
    expectNothingLeft();
  });
});
