/**
 * Three runtimes and the binary: every tool's help, version and a pass-through, as a compiled binary alone in
 * an empty directory, and from source under Bun, Node and Deno, with the same output. Needs `make build`.
 */
import { spawn } from "node:child_process";
import {
  copyFileSync,
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
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { BUN, ROOT } from "../unit/shared/fixtures.ts";

const DIST = join(ROOT, "dist");
/** The program itself: the package's own start script looks for it anew each time. */
const DENO = join(ROOT, `node_modules/@deno/linux-${process.arch}-glibc/deno`);
const TSX = join(ROOT, "node_modules/tsx/dist/loader.mjs");

/** The command that starts a tool's source, without the file. */
const RUNTIMES = {
  Bun: [BUN],
  Node: [process.execPath, "--import", TSX],
  Deno: [DENO, "run", "-A"],
} as const;

/** A call of each tool that changes nothing: a plan of another host goes through, or there is nothing to show. */
const CALLS: [tool: string, ...words: string[]][] = [
  ["mt-boot", "up"],
  ["mt-image", "ls"],
  ["mt-ksm", "report"],
  ["mt-push", "push"],
  ["mt-route", "up"],
  ["mt-status", "table"],
  ["mt-topo", "place", "mtt-there"],
  ["mt-tree", "map", "--", "cat"],
  ["mt-vnet", "up"],
  ["mt", "vnet", "up"],
];
const PLAN = `${[
  '{"kind":"experiment", "id":"mttrun","version":1,"seed":7}',
  '  {"id":"x","kind":"sonnet","n":12345678901234567890,"f":1.0,"u":"\\u00e4ä\\/","dup":1,"dup":2}  ',
  '{"kind":"sonnet","id":"../x; touch x","host":"mtt-there","text":"a\\u0000b"}\r',
  '{"kind":"end", "id":"mttrun","counts":{}}',
].join("\n")}\n`;

/** The same for this host: without a tree map has nobody for another host's record. */
const OURS = PLAN.replaceAll("mtt-there", "mtt-here");
/** What no host has to return. */
const CONTEXT = PLAN.replace(/[^\n]*mtt-there[^\n]*\n/, "");

let work: string;
beforeAll(() => {
  for (const file of [DENO, TSX, join(DIST, "mt")])
    if (!existsSync(file)) throw new Error(`Cannot test the runtimes: ${file} is missing; run make build`);
  work = mkdtempSync(join(tmpdir(), "mtt-rt-"));
});
afterAll(() => work && rmSync(work, { recursive: true, force: true }));

interface Ran {
  code: number | null;
  stdout: string;
  stderr: string;
}
/** As from cron: only this is in the environment. */
function ran(words: readonly string[], input = "", cwd = work, extra: NodeJS.ProcessEnv = {}): Promise<Ran> {
  const child = spawn(words[0]!, words.slice(1), {
    cwd,
    env: {
      PATH: "/usr/bin:/bin",
      HOME: work,
      MT_HOST: "mtt-here",
      MT_RUN: join(work, "run"),
      MT_STATE: join(work, "state"),
      MT_LEASES: join(work, "leases"),
      ...extra,
    },
    timeout: 40_000,
    killSignal: "SIGKILL",
  });
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (d) => (stdout += d));
  child.stderr.on("data", (d) => (stderr += d));
  return new Promise((done) => child.on("close", (code) => done({ code, stdout, stderr })));
}
/** Without build ids and measured values. */
const comparable = ({ code, stdout, stderr }: Ran): Ran => ({
  code,
  stdout: stdout
    .replace(/commit [0-9a-z]+\)/, "commit)")
    .replace(/^\{"kind":"sample".*$/gm, (line) => Object.keys(JSON.parse(line)).join()),
  stderr,
});
const source = (tool: string) => join(ROOT, "tools", tool, "main.ts");

test("a call for every tool", () => {
  const tools = readdirSync(join(ROOT, "tools")).filter((t) => existsSync(join(ROOT, "tools", t, "main.ts")));
  expect(CALLS.map(([tool]) => tool).sort()).toEqual(tools.sort());
});

describe.each(CALLS)("%s %s", (tool, ...words) => {
  // Messages of mt begin with the name of a tool.
  const first = tool === "mt" ? ["mt-vnet"] : [];

  test("alone in an empty directory, and from source under Bun, Node and Deno, it says the same", async () => {
    const dir = join(work, `alone-${tool}`);
    mkdirSync(dir);
    copyFileSync(join(DIST, tool), join(dir, tool));
    try {
      for (const [call, input] of [
        [[...first, "--help"], ""],
        [[...first, "--version"], ""],
        [words, tool === "mt-tree" ? OURS : PLAN],
      ] as const) {
        const alone = await ran([join(dir, tool), ...call], input, dir);
        expect(alone.code, call.join(" ")).toBe(0);
        expect(alone.stderr).toMatch(/^(mt-topo: warning: no tree and no DNS knows mtt-there.*\n)?$/);
        if (call !== words) expect(alone.stdout).toMatch(call.includes("--help") ? /Examples:/ : /schema 1/);
        else if (tool !== "mt-image" && tool !== "mt-status")
          for (const line of input.split("\n").filter((l) => l.includes("sonnet")))
            expect(alone.stdout).toContain(`${line}\n`);
        expect(readdirSync(dir)).toEqual([tool]);
        const others = await Promise.all(
          Object.values(RUNTIMES).map((runtime) => ran([...runtime, source(tool), ...call], input, dir)),
        );
        for (const [i, name] of Object.keys(RUNTIMES).entries())
          expect(comparable(others[i]!), `${name}: ${call.join(" ")}`).toEqual(comparable(alone));
      }
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});

describe.each(Object.entries(RUNTIMES))("from source under %s", (name, runtime) => {
  // A loader by its bare name is found from our directory only, and is to go on to tools started elsewhere.
  const bare = name === "Node" ? [process.execPath, "--import", "tsx"] : runtime;

  test("a tool finds the others, and runs them under the same runtime", async () => {
    const seen = await ran([...bare, source("mt-tree"), "map", "--", "mt-vnet", "up"], OURS, ROOT);
    expect(seen).toEqual({ code: 0, stdout: OURS, stderr: "" });
    // A command that the other tool runs sees in /proc which program runs that tool.
    const nested = await ran(
      [...bare, source("mt-tree"), "map", "--", "mt-tree", "map", "--", "sh", "-c", COMMAND_OF_PARENT],
      CONTEXT,
      ROOT,
    );
    expect(nested.code, nested.stderr).toBe(0);
    const parent = nested.stdout.split("\0");
    expect(parent[0]).toMatch(new RegExp(`/${name.toLowerCase()}(\\.exe)?$`));
    expect(parent).toContain(source("mt-tree"));
  });

  test("what toolCommand gives starts in another directory too", async () => {
    // Inside the package, as tools are: Node and Deno look there for what the source imports.
    const dir = mkdtempSync(join(ROOT, ".build/runtimes-"));
    onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
    for (const tool of ["mt-a", "mt-b"]) mkdirSync(join(dir, tool), { recursive: true });
    writeFileSync(
      join(dir, "mt-a/main.ts"),
      `import { toolCommand } from ${JSON.stringify(join(ROOT, "shared/host/process.ts"))};
       import { writeSync } from "node:fs";
       writeSync(1, JSON.stringify(toolCommand("mt-b")));`,
    );
    writeFileSync(
      join(dir, "mt-b/main.ts"),
      `import { readFileSync, writeSync } from "node:fs";
       const words: string[] = process.argv.slice(2);
       writeSync(1, words.join() + (readFileSync("/etc/hostname").length > 0));`,
    );
    const told = await ran([...bare, join(dir, "mt-a/main.ts")], "", ROOT);
    expect([told.code, told.stderr]).toEqual([0, ""]);
    const started = await ran([...(JSON.parse(told.stdout) as string[]), "a b", "-c"], "", "/");
    expect(started).toEqual({ code: 0, stdout: "a b,-ctrue", stderr: "" });
  });

  test("mt-push asks mt-tree which hosts there are, from a directory without our packages", async () => {
    const image = '{"kind":"image","id":"tux","hosts":["mtt-there"],"os":"linux","fork":true}\n';
    const plan = PLAN.replace(/\n/, `\n${image}`);
    const done = await ran([...runtime, source("mt-push")], plan, "/");
    expect([done.code, done.stderr]).toEqual([1, ""]);
    // No tree is up, and it says so: the copy on the other host fails, all else is passed on.
    const [copy = "", ...others] = done.stdout
      .split(/^(?=.*"kind":"copy")/m)
      .at(-1)!
      .split(/(?<=\n)/);
    expect(JSON.parse(copy)).toMatchObject({ id: "tux", host: "mtt-there", error: { code: "lost" } });
    expect(done.stdout.replace(copy, "")).toBe(plan);
    expect(others).not.toEqual([]);
  });

  test("a verdict is kept in SQLite, or it is said what that needs", async () => {
    const state = { MT_STATE: join(work, `state-${name}`) };
    const checked = await ran([...runtime, source("mt-status"), "check", "--only"], PLAN, "/", state);
    const history = await ran([...runtime, source("mt-status"), "history"], "", "/", state);
    // A plan without a host: its verdict is not true.
    const verdict = "mt-status: Cannot confirm mttrun: there is no host\n";
    expect([checked.code, JSON.parse(checked.stdout).kind]).toEqual([1, "verdict"]);
    if (name === "Node" && !sqliteLoads()) {
      const [said = "", hint, ...rest] = checked.stderr.split("\n");
      expect(said).toMatch(
        /^mt-status: Cannot open .*status\.sqlite: better-sqlite3 is not built for Node \d/,
      );
      expect(hint).toBe("  hint: npm rebuild better-sqlite3");
      expect(rest.join("\n")).toBe(verdict);
      return;
    }
    expect(checked.stderr).toBe(verdict);
    expect([history.code, history.stderr]).toEqual([0, ""]);
    expect(JSON.parse(history.stdout)).toMatchObject({ kind: "verdict", id: "mttrun" });
  });
});

test("a history that is there and cannot be read under Node is 69", async () => {
  if (sqliteLoads()) return;
  const state = { MT_STATE: join(work, "state-69") };
  expect((await ran([join(DIST, "mt-status"), "check", "--only"], PLAN, "/", state)).code).toBe(1);
  const done = await ran([...RUNTIMES.Node, source("mt-status"), "history"], "", "/", state);
  expect([done.code, done.stdout]).toEqual([69, ""]);
  expect(done.stderr).toContain("hint: npm rebuild better-sqlite3");
});

/** For sh: the words of its parent process, and stdin swallowed. */
const COMMAND_OF_PARENT = 'cat >/dev/null; cat "/proc/$PPID/cmdline"';

/** Whether better-sqlite3 was built here: `bun install` runs no install script. */
function sqliteLoads(): boolean {
  return existsSync(join(ROOT, "node_modules/better-sqlite3/build/Release/better_sqlite3.node"));
}

test("the lock file of the packages stays binary, and holds both loaders", () => {
  const lock = readFileSync(join(ROOT, "bun.lockb"));
  expect(lock.subarray(0, 20).toString()).toBe("#!/usr/bin/env bun\nb");
  expect(existsSync(join(ROOT, "bun.lock"))).toBe(false);
  const { devDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  for (const name of ["deno", "tsx"]) expect(devDependencies[name]).toMatch(/^\d+\.\d+\.\d+$/);
});
