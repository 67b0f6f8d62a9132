/**
 * Odd environments, on the compiled binaries: whatever the caller's variables, directories and file systems are,
 * messages and exit codes are the tool's own, never the runtime's. Needs `make build`; root for most.
 */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EXIT_MEANINGS } from "../../shared/cli/spec.ts";
import { ROOT, specFile } from "../unit/shared/fixtures.ts";

const DIST = join(ROOT, "dist");
const TOOLS = readdirSync(join(ROOT, "tools")).filter((t) => existsSync(specFile(t)));
const BINARIES = TOOLS.filter((t) => t !== "mt-launch");
const isRoot = process.getuid?.() === 0;
/** A uid without a user. */
const UNKNOWN_USER = 54_321;

/** For each tool a command that shows what is there, and one that reads a plan with nothing for this host. */
const PLAN =
  '{"kind":"experiment","id":"mttenv","version":1,"seed":7}\n{"kind":"end","id":"mttenv","counts":{}}\n';
const CALLS: [command: string, input: string][] = [
  ["mt-boot ls", ""],
  ["mt-boot down", PLAN],
  ["mt-image ls", ""],
  ["mt-ksm down", PLAN],
  ["mt-launch down mttenv", ""],
  ["mt-push has -- x", ""],
  ["mt-route down", PLAN],
  ["mt-status table", PLAN],
  ["mt-topo gen ring --routers 3", ""],
  ["mt-tree nodes a[1-3]", ""],
  ["mt-tree status", ""],
  ["mt-vnet ls", ""],
];

let work: string;
beforeAll(() => {
  const missing = TOOLS.filter((t) => !existsSync(join(DIST, t)));
  if (missing.length > 0) throw new Error(`Cannot test: dist/ lacks ${missing.join(", ")}; run make build`);
  work = mkdtempSync(join(tmpdir(), "mtt-env-"));
  chmodSync(work, 0o755);
});
afterAll(() => work && rmSync(work, { recursive: true, force: true }));

interface How {
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** Stands before the command. */
  within?: readonly string[];
  input?: string;
}
const usual = (): NodeJS.ProcessEnv => ({
  PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: work,
  MT_HOST: "mtt-here",
  MT_RUN: join(work, "run"),
  MT_STATE: join(work, "state"),
  MT_CACHE: join(work, "cache"),
  MT_LEASES: join(work, "leases"),
});
function run(words: readonly string[], { env = usual(), cwd = work, within = [], input = "" }: How = {}) {
  const all = [...within, ...words];
  const done = spawnSync(all[0]!, all.slice(1), { env, cwd, input, encoding: "utf8", timeout: 60_000 });
  return { code: done.status, stdout: done.stdout, stderr: done.stderr };
}
const call = (command: string) => {
  const [tool = "", ...words] = command.split(" ");
  return [join(DIST, tool), ...words];
};
const shell = (line: string) => ["sh", "-c", `${line}; exec "$@"`, "sh"];
const apart = (line: string) => ["unshare", "-m", ...shell(line)];

const OURS = /^(?:mt-[a-z]+: .*|mt: .*| {2}.*|Cannot start: .*|)$/;
function expectOwnWords({ code, stderr }: ReturnType<typeof run>): void {
  expect(Object.keys(EXIT_MEANINGS).map(Number), stderr).toContain(code);
  expect(code, stderr).not.toBe(70);
  for (const line of stderr.split("\n")) expect(line).toMatch(OURS);
  expect(stderr).not.toMatch(/\bE[A-Z]{3,}\b[:,]|Error:|^\s+at |unbound|Bun v/m);
}

describe("variables that the runtime would obey", () => {
  const HOSTILE: NodeJS.ProcessEnv = {
    BUN_BE_BUN: "1",
    BUN_OPTIONS: "--preload /nonexistent.ts --nonsense",
    BUN_JSC_nonsense: "1",
    BUN_JSC_useJIT: "perhaps",
    BUN_INSPECT: "1",
    BUN_CONFIG_VERBOSE_FETCH: "1",
    NODE_OPTIONS: "--nonsense",
    NODE_CHANNEL_FD: "9",
    NODE_TLS_REJECT_UNAUTHORIZED: "0",
    NODE_EXTRA_CA_CERTS: "/nonexistent",
    JSC_nonsense: "1",
    MIMALLOC_VERBOSE: "1",
    MIMALLOC_SHOW_STATS: "1",
    mimalloc_show_errors: "1",
  };
  test.each([...BINARIES, "mt"])("%s is what it is without them", (tool) => {
    const plain = run([join(DIST, tool), "--help"]);
    expect([tool === "mt" ? 64 : 0, plain.stderr === "" || tool === "mt"]).toEqual([plain.code, true]);
    // Tool by tool, though the binaries differ only in that.
    for (const [name, value] of tool === "mt" ? Object.entries(HOSTILE) : [])
      expect(run([join(DIST, tool), "--help"], { env: { ...usual(), [name]: value } }), name).toEqual(plain);
    expect(run([join(DIST, tool), "--help"], { env: { ...usual(), ...HOSTILE } })).toEqual(plain);
  });

  test("what our tools set for each other still reaches Bun, and only as they set it", () => {
    const words = [join(DIST, "mt-tree"), "map", "--", "sh", "-c", `env >${work}/env; cat`];
    run(words, { env: { ...usual(), ...HOSTILE, NODE_ENV: "x", KEPT: "y" }, input: PLAN });
    const stdout = readFileSync(join(work, "env"), "utf8");
    const lines = stdout.split("\n");
    // Variables that are not Bun's are passed on to other programs.
    expect(stdout).toContain("KEPT=y");
    expect(stdout).toContain("NODE_ENV=x");
    expect(lines.filter((l) => /^(BUN_|NODE_OPTIONS|\?)/.test(l))).toEqual(["BUN_GC_TIMER_DISABLE=1"]);
  });

  test("a .env and a bunfig.toml where it is started change nothing", () => {
    const cwd = join(work, "dotenv");
    mkdirSync(cwd);
    writeFileSync(join(cwd, ".env"), "MT_HOST=elsewhere\nMT_LOG=nonsense\n");
    writeFileSync(join(cwd, "bunfig.toml"), 'preload = ["./evil.ts"]\n');
    writeFileSync(join(cwd, "evil.ts"), "console.log('evil')\n");
    for (const tool of BINARIES)
      expect(run([join(DIST, tool), "--version"], { cwd }).stdout).toMatch(new RegExp(`^${tool} \\S`));
  });
});

describe.each(CALLS)("%s", (command, input) => {
  const words = call(command);
  let plain: ReturnType<typeof run>;
  beforeAll(() => {
    plain = run(words, { input });
    expectOwnWords(plain);
  });

  test.each<[string, (env: NodeJS.ProcessEnv) => NodeJS.ProcessEnv]>([
    ["without HOME", ({ HOME: _, ...env }) => env],
    ["with a HOME that is not there", (env) => ({ ...env, HOME: "/nonexistent/home" })],
    ["without PATH", ({ PATH: _, ...env }) => env],
    [
      "with a TMPDIR that is not there",
      (env) => ({ ...env, TMPDIR: "/nonexistent/tmp", BUN_TMPDIR: "/nonexistent" }),
    ],
    ["with a language that nobody has", (env) => ({ ...env, LANG: "xx_YY.nonsense", LC_ALL: "zz" })],
    [
      "with 1.5 MB of variables",
      (env) => ({
        ...env,
        ...Object.fromEntries(Array.from({ length: 15 }, (_, i) => [`X${i}`, "x".repeat(100_000)])),
      }),
    ],
  ])("%s: the same", (how, change) => {
    // mt-launch is a script: env(1) finds its shell on PATH.
    if (how === "without PATH" && command.startsWith("mt-launch")) return;
    expect(run(words, { env: change(usual()), input })).toEqual(plain);
  });

  test("in a directory that was removed, or that nobody may enter: the same", () => {
    const gone = join(work, "gone");
    mkdirSync(gone, { recursive: true });
    const removed = run(words, { cwd: gone, within: shell(`rmdir '${gone}'`), input });
    // The shell prints a message of its own about it before the first line of mt-launch.
    const own = removed.stderr.replaceAll(/^(?:sh|shell-init|.*bash): .*getcwd.*\n/gm, "");
    expect({ ...removed, stderr: own }).toEqual(plain);
  });

  test.skipIf(!isRoot)("as a user without a name and a home: own words", () => {
    const within = ["setpriv", `--reuid=${UNKNOWN_USER}`, `--regid=${UNKNOWN_USER}`, "--clear-groups"];
    expectOwnWords(run(words, { env: { PATH: usual().PATH }, within, input, cwd: "/" }));
  });

  test.skipIf(!isRoot)("where nothing can be written: own words", () => {
    const line = 'mount --rbind / /mnt; mount -o remount,bind,ro /mnt; exec chroot /mnt "$@"';
    const ran = run(words, { within: apart(line), input });
    expectOwnWords(ran);
  });

  test.skipIf(!isRoot)("without /proc: 69, own words", () => {
    const ran = run(words, { within: apart("umount -l /proc"), input });
    expectOwnWords(ran);
    expect([ran.code, ran.stderr]).toEqual([69, expect.stringContaining("Cannot start: /proc is not there")]);
  });

  test("with nothing open: own words or none", () => {
    const ran = run(words, { within: ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"] });
    expect(Object.keys(EXIT_MEANINGS).map(Number)).toContain(ran.code);
    expect(ran.code).not.toBe(70);
  });
});
