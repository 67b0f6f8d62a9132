/**
 * mt-tree exec and nodes, compiled, on a tree of three local hosts: commands that do not exist,
 * flood, close their output, fork away, are killed or never end; what is printed, and that nothing goes on running.
 * Needs `make build` and root.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { expectRecords } from "../support/records.ts";
import { ROOT } from "../unit/shared/fixtures.ts";

const TREE = join(ROOT, "dist/mt-tree");
const HOSTS = ["mttx1", "mttx2", "mttx3"];
const ALL = "mttx[1-3]";
const isRoot = process.getuid?.() === 0;

let work: string;
const environment = () => ({
  PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: work,
  MT_RUN: join(work, "run"),
  MT_STATE: join(work, "state"),
  MT_LEASES: join(work, "leases"),
  MT_GROUPS: join(work, "groups"),
});

interface Ran {
  code: number | null;
  stdout: string;
  stderr: string;
  seconds: number;
}
function start(words: readonly string[]): { child: ChildProcess; ended: Promise<Ran> } {
  const child = spawn(words[0]!, words.slice(1), { env: environment(), cwd: work });
  const began = performance.now();
  const text = { stdout: "", stderr: "" };
  child.stdout!.on("data", (d) => (text.stdout += d));
  child.stderr!.on("data", (d) => (text.stderr += d));
  child.stdin!.on("error", () => {});
  const late = setTimeout(() => child.kill("SIGKILL"), 30_000);
  const ended = new Promise<Ran>((resolve) =>
    child.on("close", (code) => {
      clearTimeout(late);
      resolve({ code, ...text, seconds: (performance.now() - began) / 1000 });
    }),
  );
  return { child, ended };
}
async function run(words: readonly string[], input = ""): Promise<Ran> {
  const { child, ended } = start(words);
  child.stdin!.end(input);
  return ended;
}
const exec = (...words: string[]) => run([TREE, "exec", ...words]);
const shell = (line: string) => run(["bash", "-c", line.replaceAll("mt-tree", TREE)]);

interface ExitRecord {
  id: string;
  code?: number;
  signal?: string;
  stdout?: string;
  stderr?: string;
  truncated?: boolean;
  state?: string;
  error?: { code: string; message: string; hint?: string };
}
/** The exit records, by host; one a host, and all of them of their schema. */
function records({ stdout, stderr }: Ran): Map<string, ExitRecord> {
  expectRecords(stdout);
  const list = stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as ExitRecord);
  expect(new Set(list.map((r) => r.id)).size, stdout + stderr).toBe(list.length);
  return new Map(list.map((r) => [r.id, r]));
}
/** Processes that have this word in their command line. */
const running = (mark: string) =>
  readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes(mark);
    } catch {
      return false;
    }
  });
async function until(true_: () => boolean, seconds = 10): Promise<void> {
  const end = Date.now() + seconds * 1000;
  while (!true_() && Date.now() < end) await new Promise((go) => setTimeout(go, 25));
  expect(true_()).toBe(true);
}

beforeAll(async () => {
  if (!existsSync(TREE)) throw new Error("Cannot test: dist/ lacks mt-tree; run make build");
  work = mkdtempSync(join(tmpdir(), "mtt-exec-"));
  writeFileSync(join(work, "groups"), "odd: mttx1,mttx3\nrest: @odd,mttx2!mttx1\n");
  if (!isRoot) return;
  const up = await run([TREE, "up", ALL]);
  expect([up.code, up.stderr]).toEqual([0, ""]);
});
afterAll(() => {
  if (!work) return;
  spawnSync(TREE, ["down"], { env: environment(), timeout: 60_000 });
  rmSync(work, { recursive: true, force: true });
});

describe("mt-tree nodes", () => {
  test.each([
    [["r[1-2]n[01-03]!r2n02"], "r1n[01-03],r2n[01,03]\n"],
    [["r[1-2]n[01-03]", "--fold"], "r[1-2]n[01-03]\n"],
    [["kn[8-10/2],gw", "--expand"], "kn8\nkn10\ngw\n"],
    [["rack[1-4]n[01-32]", "--count"], "128\n"],
    [["a!a", "--count"], "0\n"],
    [["a!a"], ""],
    [["@rest"], "mttx[2-3]\n"],
  ])("%j", async (words, expected) => {
    expect(await run([TREE, "nodes", ...words])).toMatchObject({ code: 0, stdout: expected, stderr: "" });
  });

  test("names from stdin, as many as there are", async () => {
    const list = Array.from({ length: 20_000 }, (_, i) => `node-${(i * 7919) % 20_000}`);
    const ran = await run([TREE, "nodes", "-"], list.join("\n"));
    expect([ran.code, ran.stdout]).toEqual([0, "node-[0-19999]\n"]);
  });

  test("what is none is refused", async () => {
    for (const [words, code, why] of [
      [["kn[1-"], 64, /Cannot read node set "kn\[1-": \[ without \] at character 3\n {2}hint: /],
      [["@ood"], 64, /Cannot use group @ood: no such group\n {2}hint: did you mean @odd\?/],
      [["a", "--fold", "--count"], 64, /Cannot use --fold with --count/],
    ] as const) {
      const ran = await run([TREE, "nodes", ...words]);
      expect([ran.code, ran.stdout]).toEqual([code, ""]);
      expect(ran.stderr).toMatch(why);
    }
  });
});

describe.runIf(isRoot).concurrent("mt-tree exec", () => {
  test("a host named twice runs once; groups, @all and operators name hosts", async () => {
    const twice = await exec("mttx1,@odd,mttx[1-2]!mttx2", "--", "sh", "-c", "echo $MT_HOST");
    expect([...records(twice).keys()].sort()).toEqual(["mttx1", "mttx3"]);
    expect(records(twice).get("mttx3")).toMatchObject({ code: 0, stdout: "mttx3\n", stderr: "" });
    expect(twice.code).toBe(0);
    expect((await exec("@all", "--", "true")).stdout.match(/"code":0/g)).toHaveLength(3);
    expect(await exec("mttx1!mttx1", "--", "true")).toMatchObject({ code: 64, stdout: "" });
  });

  test("a command or a directory that is not there, a host that is not in the tree", async () => {
    const none = await exec(`${ALL},mttx9`, "--", "mtt-no-such-command");
    expect(none.code).toBe(1);
    expect(records(none).get("mttx2")).toMatchObject({ state: "failed", error: { code: "unavailable" } });
    expect(records(none).get("mttx9")!.error!.message).toBe("Cannot reach host mttx9: it is not in the tree");
    expect(records(none).size).toBe(4);
    const away = records(await exec("mttx1", "--cwd", "/mtt-nowhere", "--", "true"));
    expect(away.get("mttx1")!.error!.message).toBe(
      "Cannot run true in /mtt-nowhere: it is no directory on this host",
    );
  });

  test("exit codes and signals; 0 only where all are 0", async () => {
    const ran = await exec(ALL, "--", "sh", "-c", "case $MT_HOST in *1) exit 7 ;; *2) kill -9 $$ ;; esac");
    expect(ran.code).toBe(1);
    const by = records(ran);
    expect([by.get("mttx1")!.code, by.get("mttx2")!.signal, by.get("mttx3")!.code]).toEqual([
      7,
      "SIGKILL",
      0,
    ]);
  });

  test("--env, several times, and --cwd", async () => {
    const ran = await exec(
      "mttx1",
      "--env",
      "A=x, y",
      "--env=B=",
      "--cwd",
      "/usr",
      "--",
      "sh",
      "-c",
      'pwd; echo "$A|$B|$MT_HOST"',
    );
    expect(records(ran).get("mttx1")!.stdout).toBe("/usr\nx, y||mttx1\n");
    for (const [flag, value] of [
      ["--env", "nothing"],
      ["--env", "1A=x"],
      ["--cwd", "here"],
    ]) {
      const bad = await exec("mttx1", flag!, value!, "--", "true");
      expect([bad.code, bad.stdout]).toEqual([64, ""]);
      expect(bad.stderr).toMatch(new RegExp(`Cannot use ${flag} .*\n {2}hint: `));
    }
  });

  test("labelled: stdout and stderr apart, each line with its host", async () => {
    const ran = await exec(
      ALL,
      "--human",
      "--",
      "sh",
      "-c",
      "echo out; printf tail; echo err >&2; [ $MT_HOST != mttx2 ]",
    );
    const lines = (text: string) => text.split("\n").filter(Boolean).sort();
    expect(lines(ran.stdout)).toEqual(HOSTS.flatMap((h) => [`${h}: out`, `${h}: tail`]));
    expect(lines(ran.stderr)).toEqual([...HOSTS.map((h) => `${h}: err`), "mttx2: exit code 1"].sort());
    expect(ran.code).toBe(1);
  });

  test("folded: equal outputs once, and how hosts ended likewise", async () => {
    const ran = await exec(
      `${ALL},mttx[8-9]`,
      "--fold",
      "--",
      "sh",
      "-c",
      "case $MT_HOST in *2) echo two >&2; exit 3 ;; *) echo same; exit 4 ;; esac",
    );
    expect(ran.stdout).toBe("--- mttx[1,3] (2) ---\nsame\n");
    expect(ran.stderr).toBe(
      "--- mttx2 (1) ---\ntwo\nmttx[1,3]: exit code 4\nmttx2: exit code 3\nCannot reach host mttx[8-9]: it is not in the tree (mt-tree status lists the hosts)\n",
    );
    expect(ran.code).toBe(1);
  });

  test("a flood is cut and told, and memory stays flat", async () => {
    const ran = await run([
      "python3",
      "-c",
      "import resource,subprocess,sys\nc=subprocess.call(sys.argv[1:])\nprint('peak',resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,file=sys.stderr)\nsys.exit(c)",
      ...[TREE, "exec", ALL, "--", "sh", "-c", "yes | head -c 50M; echo done >&2"],
    ]);
    expect(ran.code).toBe(0);
    for (const record of records(ran).values()) {
      expect(record).toMatchObject({ code: 0, truncated: true, stderr: "done\n" });
      expect(record.stdout).toHaveLength(2 ** 20);
    }
    expect(Number(/peak (\d+)/.exec(ran.stderr)![1]) / 1024).toBeLessThan(200);
    const folded = await exec(ALL, "--fold", "--", "sh", "-c", "yes | head -c 2M");
    expect(folded.stderr).toBe(`${ALL}: stdout cut after 1048576 bytes\n`);
  });

  test("stdin goes to all; who closes it holds nobody back", async () => {
    const bytes = "0123456789abcdef".repeat(4 * 2 ** 16);
    const ran = await run(
      [
        TREE,
        "exec",
        ALL,
        "--stdin",
        "--",
        "sh",
        "-c",
        "case $MT_HOST in *2) exec head -c 3 ;; *) wc -c ;; esac",
      ],
      bytes,
    );
    expect(ran.code).toBe(0);
    expect(HOSTS.map((h) => records(ran).get(h)!.stdout)).toEqual(["4194304\n", "012", "4194304\n"]);
    const closed = await run(
      [TREE, "exec", "mttx1", "--stdin", "--", "sh", "-c", "exec <&-; sleep 0.5; echo on"],
      bytes,
    );
    expect(records(closed).get("mttx1")).toMatchObject({ code: 0, stdout: "on\n" });
  });

  test("what forks away and holds stdout does not hold the command", async () => {
    const mark = "31.4159";
    const ran = await exec("mttx1", "--", "sh", "-c", `setsid sleep ${mark} & echo left`);
    expect(records(ran).get("mttx1")).toMatchObject({ code: 0, stdout: "left\n" });
    expect(ran.seconds).toBeLessThan(5);
    // It was to go on running, and does.
    expect(running(mark)).toHaveLength(1);
    process.kill(Number(running(mark)[0]), "SIGKILL");
  });

  test("--timeout: who has not ended comes out so, and is killed with its children, whatever they ignore", async () => {
    const mark = "27.1828";
    const ran = await exec(
      ALL,
      "--timeout=1",
      "--",
      "sh",
      "-c",
      `[ $MT_HOST = mttx2 ] && exit 0; (trap '' TERM; sleep ${mark}; sleep ${mark}) & sleep ${mark}`,
    );
    expect(ran.code).toBe(1);
    expect(records(ran).get("mttx2")).toMatchObject({ code: 0 });
    for (const host of ["mttx1", "mttx3"])
      expect(records(ran).get(host)).toMatchObject({
        state: "failed",
        error: { code: "timeout", message: "Cannot run sh: no end after 1 s" },
      });
    await until(() => running(mark).length === 0);
  });

  test("Ctrl-C reaches every process on every host", async () => {
    const mark = "16.1803";
    const { child, ended } = start([
      TREE,
      "exec",
      ALL,
      "--",
      "sh",
      "-c",
      `sleep ${mark} & sh -c 'sleep ${mark}; true' & wait`,
    ]);
    await until(() => running(mark).length === 6);
    child.kill("SIGINT");
    const ran = await ended;
    expect(ran.code).toBe(130);
    expect([...records(ran).values()].map((r) => r.error?.message)).toEqual(
      HOSTS.map(() => "Cannot run sh: interrupted"),
    );
    await until(() => running(mark).length === 0, 2);
  });

  test("kill -9 of the command ends it on every host too", async () => {
    const mark = "14.1421";
    const { child, ended } = start([TREE, "exec", ALL, "--", "sh", "-c", `sleep ${mark} & wait`]);
    await until(() => running(mark).length === 3);
    child.kill("SIGKILL");
    await ended;
    await until(() => running(mark).length === 0, 2);
  });

  test("a reader that goes away ends the command everywhere", async () => {
    const mark = "17.3205";
    const ran = await shell(
      `mt-tree exec '${ALL}' --human -- sh -c 'sleep ${mark} & while echo $MT_HOST; do :; done' | head -n 1; exit \${PIPESTATUS[0]}`,
    );
    expect(ran.stdout).toMatch(/^mttx\d: mttx\d\n$/);
    expect(ran.code).toBe(74);
    await until(() => running(mark).length === 0, 2);
  });
});
