/** mt-launch reads its command line as every tool does: what the script gets, from flags and from the environment. */
import { spawn, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ROOT, tempDir } from "../unit/shared/fixtures.ts";

const DIST = join(ROOT, "dist");

/** What `mt` tells the script, by name; and what it printed. */
function told(words: string[], env: NodeJS.ProcessEnv = {}) {
  const done = spawnSync(join(DIST, "mt"), ["--words", "mt-launch", ...words], {
    env: { PATH: "/usr/bin:/bin", ...env },
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe", "pipe"],
    timeout: 20_000,
  });
  const said = String(done.output[3] ?? "").split("\0");
  expect(said.pop()).toBe("");
  return { code: done.status, stdout: done.stdout, stderr: done.stderr, said: said.sort() };
}
const launch = (file: string, ...words: string[]) =>
  spawnSync(file, words, {
    encoding: "utf8",
    timeout: 20_000,
    env: { PATH: "/usr/bin:/bin", HOME: tempDir() },
  });

describe("the words of mt-launch", () => {
  const plain = [
    "experiment=a b;c",
    "fanout=16",
    "guests=",
    "hosts=",
    "image=tux",
    "log=text",
    "progress=",
    "verb=up",
    "via=local",
  ];

  test("defaults are of the spec, and what stands in a word stays in it", () => {
    expect(told(["up", "a b;c"])).toEqual({ code: 0, stdout: "", stderr: "", said: plain });
    expect(told(["down", "x", "--force"]).said).toContain("force=yes");
    expect(told(["check"]).said).toContain("experiment=");
  });

  test("every flag has its twin in the environment, and goes before it", () => {
    const twins = {
      MT_HOSTS: "kn[1-4]",
      MT_VIA: "local",
      MT_FANOUT: "3",
      MT_GUESTS: "44",
      MT_IMAGE: "mine",
      MT_PROGRESS: "1",
      MT_LOG: "json",
    };
    expect(told(["up", "x"], twins).said).toEqual([
      "experiment=x",
      "fanout=3",
      "guests=44",
      "hosts=kn[1-4]",
      "image=mine",
      "log=json",
      "progress=yes",
      "verb=up",
      "via=local",
    ]);
    expect(told(["up", "x", "--guests", "5", "--no-progress"], twins).said).toEqual(
      expect.arrayContaining(["guests=5", "progress=", "hosts=kn[1-4]"]),
    );
    expect(told(["down", "x"], { MT_FORCE: "1" }).said).toContain("force=yes");
    const wrong = told(["up", "x"], { MT_VIA: "pigeon" });
    expect([wrong.code, wrong.said]).toEqual([64, []]);
    expect(wrong.stderr).toMatch(/Cannot use MT_VIA="pigeon"/);
    expect(told(["up", "x", "--guests", "some"])).toMatchObject({ code: 64, said: [] });
  });

  test("an answer is printed, and nothing is told", () => {
    expect(told(["--version"])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^mt-launch \d/),
      said: [],
    });
  });
});

describe("what the script asks of records", () => {
  const ask = (flag: string, ...lines: (object | string)[]) => {
    const done = spawnSync(join(DIST, "mt"), [flag], {
      input: lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n"),
      encoding: "utf8",
      timeout: 20_000,
    });
    return [done.status, done.stdout, done.stderr];
  };
  const failed = (by: string, message: string) => ({
    state: "failed",
    error: { by, code: "failed", message },
  });

  test("the experiment of a plan, whatever the order of its fields", () => {
    expect(ask("--id", '{"seed":1, "id":"a.b" ,"kind":"experiment"}', { kind: "host", id: "h" })).toEqual([
      0,
      "a.b\n",
      "",
    ]);
    expect(ask("--id", { kind: "host", id: "h" })).toEqual([0, "", ""]);
    expect(ask("--id")).toEqual([0, "", ""]);
  });

  test("records that failed, for people: nothing in them moves the cursor or turns the direction", () => {
    expect(
      ask(
        "--failed",
        { kind: "guest", id: "g[0-3]", host: "a", ...failed("mt-boot", 'no \u202e"room"\u001b[2J\nat all') },
        { kind: "guest", id: "g4", note: '"state":"failed"' },
        "no record",
        { kind: "router", id: "r", state: "failed" },
      ),
    ).toEqual([0, 'guest g[0-3]: no  "room" [2J at all\nrouter r: it failed\n', ""]);
  });

  test("hosts that gave no word, as a node set", () => {
    expect(
      ask(
        "--unheard",
        { kind: "host", id: "a1", ...failed("mt-tree", "lost") },
        { kind: "guest", id: "g0", host: "a2", ...failed("mt-tree", "lost") },
        { kind: "guest", id: "g1", host: "a3", ...failed("mt-boot", "its mt-tree failed") },
        { kind: "guest", id: "g2", host: "a2", ...failed("mt-tree", "lost") },
      ),
    ).toEqual([0, "a[1-2]\n", ""]);
    expect(ask("--unheard", { kind: "host", id: "a1", state: "up" })).toEqual([0, "", ""]);
  });
});

describe("the script", () => {
  test("answers, and passes the exit code on", () => {
    const help = launch(join(DIST, "mt-launch"), "--help");
    expect([help.status, help.stderr]).toEqual([0, ""]);
    expect(help.stdout).toContain("mt-launch check [FLAGS] [EXPERIMENT]");
    const typo = launch(join(DIST, "mt-launch"), "up", "x", "--hostss", "kn1");
    expect([typo.status, typo.stdout]).toEqual([64, ""]);
    expect(typo.stderr).toBe("mt-launch: Cannot use --hostss: no such flag\n  hint: did you mean --hosts?\n");
  });

  test("copied without mt it says what is missing", () => {
    const alone = join(tempDir(), "mt-launch");
    copyFileSync(join(DIST, "mt-launch"), alone);
    const done = launch(alone, "--help");
    expect([done.status, done.stdout]).toEqual([69, ""]);
    expect(done.stderr).toMatch(/^mt-launch: Cannot read the command line: \S+\/mt is missing; make install/);
  });

  test("what goes wrong is JSON where that is asked for", () => {
    const done = launch(join(DIST, "mt-launch"), "check", 'no"such', "--log", "json");
    expect([done.status, done.stdout]).toEqual([65, ""]);
    expect(JSON.parse(done.stderr)).toMatchObject({
      tool: "mt-launch",
      level: "error",
      message: 'Cannot read no"such: it names no experiment',
    });
  });

  test("what holds no topology and no plan is 65, and named as what it is", { timeout: 120_000 }, () => {
    const dir = tempDir();
    const file = (name: string, text: string) => {
      writeFileSync(join(dir, name), text);
      return join(dir, name);
    };
    const odd = JSON.stringify({ kind: "experiment", id: "a/b", version: 1, seed: 1 });
    for (const [words, why] of [
      [file("empty", ""), /empty: it is empty\n {2}hint: a GML file, or a plan/],
      [file("blank", "\n \n\n"), /blank: it is empty/],
      [file("odd", `${odd}\n`), /experiment id: expected .* got "a\/b"/],
      [dir, /Cannot read .*: it is a directory, not a file with a topology or a plan/],
      ["/dev/null", /Cannot read \/dev\/null: it is a character special file, not a file/],
      ["no-such", /Cannot read 'no-such': no such file, and no experiment of that name is up/],
      ["", /Cannot read '': no such file/],
    ] as const) {
      const done = launch(join(DIST, "mt-launch"), "up", words);
      expect([done.status, done.stdout, done.stderr]).toEqual([65, "", expect.stringMatching(why)]);
    }
  });

  test("what a killed one left is cleared away by the next, what a living one has is not", async () => {
    const home = tempDir();
    const state = join(home, "state");
    const env = { PATH: "/usr/bin:/bin", HOME: home, MT_STATE: state, MT_RUN: join(home, "run") };
    const left = () =>
      existsSync(join(state, "plans"))
        ? readdirSync(join(state, "plans")).filter((f) => f.startsWith(".launch."))
        : [];
    const fifo = join(home, "fifo");
    expect(spawnSync("mkfifo", [fifo]).status).toBe(0);
    // It waits for its topology.
    const living = spawn(join(DIST, "mt-launch"), ["up", fifo], { env, stdio: "ignore" });
    const ended = new Promise((resolve) => living.on("close", resolve));
    const feed = await open(fifo, "w");
    expect(left()).toHaveLength(1);
    const look = () =>
      spawnSync(join(DIST, "mt-launch"), ["check", "mtt-none"], { env, encoding: "utf8", timeout: 20_000 });
    expect(look().status).toBe(65);
    expect(left()).toHaveLength(1);
    living.kill("SIGKILL");
    await ended;
    await feed.close();
    for (const end = Date.now() + 20_000; left().length > 0 && Date.now() < end; ) look();
    expect(left()).toEqual([]);
  });
});
