/**
 * The filter law, on the compiled binaries in dist/: every filter command of every tool, as it is called in a
 * pipe, with records of another host, so that nothing on this machine changes. Needs `make build`.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ToolSpec } from "../../shared/cli/spec.ts";
import { expectNew, expectRecords, type Rec } from "../support/records.ts";
import { ROOT } from "../unit/shared/fixtures.ts";

const DIST = join(ROOT, "dist");
const TOOLS = [
  "mt-boot",
  "mt-image",
  "mt-ksm",
  "mt-push",
  "mt-route",
  "mt-status",
  "mt-topo",
  "mt-tree",
  "mt-vnet",
] as const;

interface FilterCase {
  tool: (typeof TOOLS)[number];
  words: string[];
  /** Changes something: then it ends with 74 on a closed stdout, else with 0. */
  changes: boolean;
  /** Kinds of records that it prints beside those that it passes on. */
  adds?: string;
  /** Reads the whole plan before it writes: on bad input it writes none of it. */
  whole?: boolean;
  /** Takes streams without `experiment` and `end`. */
  open?: boolean;
  env?: NodeJS.ProcessEnv;
  /** Passes on, but its exit code says what it found: 1. */
  finds?: number;
}
const FILTERS: FilterCase[] = [
  { tool: "mt-vnet", words: ["up"], changes: true },
  { tool: "mt-vnet", words: ["down"], changes: true },
  { tool: "mt-vnet", words: ["prove"], changes: false },
  { tool: "mt-boot", words: ["up"], changes: true },
  { tool: "mt-boot", words: ["up", "--paused"], changes: true },
  { tool: "mt-boot", words: ["resume"], changes: true },
  { tool: "mt-boot", words: ["pause"], changes: true },
  { tool: "mt-boot", words: ["reset"], changes: true },
  { tool: "mt-boot", words: ["down"], changes: true },
  { tool: "mt-boot", words: ["exec", "--", "true"], changes: true },
  { tool: "mt-boot", words: ["copy", "--to", "/tmp/", "/etc/hostname"], changes: true },
  { tool: "mt-boot", words: ["log"], changes: false },
  { tool: "mt-boot", words: ["stats"], changes: false },
  { tool: "mt-ksm", words: ["settle"], changes: true, adds: "sample" },
  { tool: "mt-ksm", words: ["watch", "--daemon"], changes: true, adds: "sample" },
  { tool: "mt-ksm", words: ["protect"], changes: true, adds: "sample" },
  { tool: "mt-ksm", words: ["report"], changes: false, adds: "sample", open: true },
  { tool: "mt-ksm", words: ["down"], changes: true },
  { tool: "mt-route", words: ["up"], changes: true },
  { tool: "mt-route", words: ["down"], changes: true },
  { tool: "mt-route", words: ["check"], changes: false },
  { tool: "mt-status", words: ["check"], changes: false, adds: "verdict", finds: 1 },
  // No tree is up: the copy on another host fails.
  { tool: "mt-push", words: ["push"], changes: true, adds: "copy", finds: 1 },
  // No tree is up: the command runs here, for the records of this host; it is itself a filter, and passes them on.
  {
    tool: "mt-tree",
    words: ["map", "--", "env", "MT_HOST=mtt-here", "mt-vnet", "up"],
    changes: true,
    env: { MT_HOST: "mtt-there" },
  },
  { tool: "mt-topo", words: ["place", "mtt-there"], changes: false, whole: true },
];
const named = FILTERS.map((f) => [`${f.tool} ${f.words.join(" ")}`, f] as const);

const END = '{"kind":"end", "id":"mttlaw","counts":{"host":1,"image":1,"segment":1,"router":1,"guest":4}}';
/** Lines that no tool here owns, in spellings that no JSON writer gives. */
const PLAN = [
  '{"kind":"experiment", "id":"mttlaw","version":1,"seed":7}',
  '{"kind":"host","id":"mtt-there","addr":"10.254.0.1","cores":2,"mem_mib":6000,"f":1.50}',
  '  {"id":"x","kind":"sonnet","n":12345678901234567890,"f":1.0,"e":1E+2,"u":"\\u00e4ä\\/\u{1f680}","dup":1,"dup":2}  ',
  '{"kind":"sonnet","id":"../x; touch x","host":"mtt-there","text":"a\\u0000b"}\r',
  '{"kind":"image","id":"tux", "hosts":["mtt-there"],"os":"linux","fork":true}',
  '{"kind":"segment","id":"lan","hosts":["mtt-there"],"vni":3,"prefix":"10.1.0.0/16"}',
  '{"kind":"router","id":"r", "host":"mtt-there","index":1,"engine":"bird","protocol":"ospf","interfaces":[{"segment":"lan","ip":"10.1.0.1/16"}]}',
  '{"kind":"guest", "id":"g[0-3]","host":"mtt-there","index":0,"image":"tux","cores":1,"mem_mib":128,"interfaces":[],"future":{"a":[1,2.50]}}',
  '{"kind":"sample","id":"s","host":"mtt-there","time":"2026-11-22T17:00:00Z","x":1.0}',
  END,
];
/** For tools that count the records against the end: only what they do not know. */
const UNKNOWN = [
  ...PLAN.filter((l) => /"(experiment|sonnet)"/.test(l)),
  '{"kind":"end", "id":"mttlaw","counts":{}}',
];
const LONG_LINES = 300_000;
const LONG_HEAD = '{"kind":"experiment","id":"mttlaw","version":1,"seed":7}\n';

let work: string;
let long: string;
let longDigest: string;

beforeAll(() => {
  const missing = TOOLS.filter((t) => !existsSync(join(DIST, t)));
  if (missing.length > 0 || !existsSync(join(DIST, "mt")))
    throw new Error(`Cannot test the binaries: dist/ lacks ${missing.join(", ") || "mt"}; run make build`);
  work = mkdtempSync(join(tmpdir(), "mtt-law-"));
  long = join(work, "long.jsonl");
  let text = LONG_HEAD;
  for (let i = 0; i < LONG_LINES - 2; i++)
    text += `{"kind":"sonnet","id":"s${i}","host":"mtt-there","pad":"${"x".repeat(100)}"}\n`;
  text += '{"kind":"end","id":"mttlaw","counts":{}}\n';
  writeFileSync(long, text);
  longDigest = createHash("sha256").update(text).digest("hex");
});
afterAll(() => {
  // mt-ksm settle took a lease here; whatever it changed goes back.
  if (work) {
    spawnSync(join(DIST, "mt-ksm"), ["down", "--experiment", "mttlaw"], {
      env: environment(),
      stdio: "ignore",
      timeout: 30_000,
    });
    rmSync(work, { recursive: true, force: true });
  }
});

function environment(extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const { MT_HOST: _, ...env } = process.env;
  return {
    ...env,
    PATH: `${DIST}:${env.PATH}`,
    MT_HOST: "mtt-here",
    MT_RUN: join(work, "run"),
    MT_STATE: join(work, "state"),
    // The machine's own lease directory: two directories would undo each other's settings.
    NO_COLOR: "1",
    ...extra,
  };
}
interface Ran {
  code: number | null;
  stdout: string;
  stderr: string;
}
function runTool(
  tool: string,
  words: string[],
  input: string | Buffer,
  options: { env?: NodeJS.ProcessEnv; cwd?: string } = {},
): Ran {
  const done = spawnSync(join(DIST, tool), words, {
    input,
    env: environment(options.env),
    cwd: options.cwd ?? work,
    timeout: 40_000,
    killSignal: "SIGKILL",
    maxBuffer: 1 << 28,
  });
  const stdout = done.stdout.toString();
  expectNew(stdout, input);
  return { code: done.status, stdout, stderr: done.stderr.toString() };
}
/** A shell line around a tool: "$@" is the tool with its words. */
function shell(script: string, filter: FilterCase, extra: NodeJS.ProcessEnv = {}): Ran {
  const done = spawnSync("bash", ["-c", script, "bash", join(DIST, filter.tool), ...filter.words], {
    env: environment({ LONG: long, ...filter.env, ...extra }),
    cwd: work,
    timeout: 50_000,
    killSignal: "SIGKILL",
    maxBuffer: 1 << 28,
  });
  return { code: done.status, stdout: done.stdout.toString(), stderr: done.stderr.toString() };
}
const join_ = (lines: readonly string[]) => lines.map((l) => `${l}\n`).join("");
/** Without the records that the tool adds of its own. */
const passed = (text: string, filter: FilterCase) =>
  text
    .split("\n")
    .slice(0, -1)
    .filter((l) => !(filter.adds && l.startsWith(`{"kind":"${filter.adds}"`) && !PLAN.includes(l)));
const fine = (filter: FilterCase) => (filter.finds === undefined ? [0] : [0, filter.finds]);

describe.each(named)("%s", (_, filter) => {
  test("passes on byte for byte what it does not own", () => {
    // place says where things are; what it does not know it passes on like all others.
    const lines = filter.whole ? UNKNOWN : PLAN;
    const done = runTool(filter.tool, filter.words, join_(lines), filter);
    expect(fine(filter), done.stderr).toContain(done.code);
    expectRecords(done.stdout);
    const out = passed(done.stdout, filter);
    if (filter.whole)
      for (const line of lines.filter((l) => l.includes("sonnet"))) expect(out).toContain(line);
    else expect(out).toEqual(lines);
  });

  test("a stream without its end was cut off: 65, stderr says so, where an end is expected", () => {
    const lines = PLAN.slice(0, -1);
    const done = runTool(filter.tool, filter.words, join_(lines), filter);
    if (filter.open) return expect([done.code, passed(done.stdout, filter)]).toEqual([0, lines]);
    expect(done.code, done.stderr).toBe(65);
    expect(done.stderr).toMatch(/end record|cut off|without (an|its) end/);
    if (!filter.whole) expect(passed(done.stdout, filter)).toEqual(lines);
    else expect(done.stdout).toBe("");
  });

  test("no input at all was cut off too, where an end is expected", () => {
    expect(runTool(filter.tool, filter.words, "", filter).code).toBe(filter.open ? 0 : 65);
  });

  test("a bad line is an error record, 65, and the rest is passed on", () => {
    for (const bad of ['{"kind":"guest","id":"g', "not JSON", "[1]", '{"id":"x"}']) {
      const done = runTool(
        filter.tool,
        filter.words,
        join_([...PLAN.slice(0, 3), bad, ...PLAN.slice(3)]),
        filter,
      );
      expect(done.code, done.stderr).toBe(65);
      expect(done.stderr).toContain("line 4");
      if (filter.whole) {
        expect(done.stdout.split("\n").filter((l) => l.includes('"kind":"end"'))).toEqual([]);
        continue;
      }
      const error = expectRecords(done.stdout).find((r) => r.kind === "error");
      const out = passed(done.stdout, filter);
      expect(out.filter((l) => !l.startsWith('{"kind":"error"'))).toEqual(PLAN);
      expect(error).toMatchObject({
        kind: "error",
        line: 4,
        raw: bad,
        error: { code: "data", message: expect.stringContaining("Cannot read line 4") },
      });
    }
  });

  test("bytes that are no UTF-8 are a bad line", () => {
    const done = runTool(
      filter.tool,
      filter.words,
      Buffer.concat([
        Buffer.from(`${PLAN[0]}\n{"kind":"x","id":"`),
        Buffer.from([0xff]),
        Buffer.from(`"}\n${END}\n`),
      ]),
      filter,
    );
    expect(done.code).toBe(65);
    expect(done.stderr).toContain("UTF-8");
  });

  test("a plan of another version is refused with 65", () => {
    const done = runTool(
      filter.tool,
      filter.words,
      join_(['{"kind":"experiment","id":"mttlaw","version":2,"seed":7}', ...PLAN.slice(1)]),
      filter,
    );
    expect(done.code).toBe(65);
    expect(done.stderr).toContain("version 2");
  });

  test("hostile ids of this host come out as error records, or as they came; nothing is made outside", () => {
    const before = readdirSync(work).sort();
    const host = filter.env?.MT_HOST ?? "mtt-here";
    const ids = [
      "../../mtt-hostile",
      "/tmp/mtt-hostile",
      "a;touch mtt-hostile",
      "$(touch mtt-hostile)",
      "a\nb",
      "-x",
      "..",
      "x".repeat(300),
    ];
    const lines = ids.flatMap((id) => [
      { kind: "guest", id, host, index: 0, image: "tux", cores: 1, mem_mib: 64, interfaces: [] },
      {
        kind: "guest",
        id: "g0",
        host,
        index: 0,
        image: id,
        cores: 1,
        mem_mib: 64,
        interfaces: [],
      },
      { kind: "router", id, host, index: 0, engine: "bird", protocol: "ospf", interfaces: [] },
      {
        kind: "segment",
        id,
        hosts: [host],
        vni: 1,
        members: [{ host, index: 0, count: 1 }],
      },
      { kind: "image", id, hosts: [host], os: "linux", fork: false, files: { kernel: id, initrd: id } },
      // One that map takes for another host's comes out failed, as it should.
      ...(filter.env ? [] : [{ kind: "host", id, cores: 1, mem_mib: 1 }]),
    ]);
    const texts = lines.map((l) => JSON.stringify(l));
    const done = runTool(filter.tool, filter.words, join_([PLAN[0]!, ...texts, END]), filter);
    expect(
      readdirSync(work).filter((f) => !before.includes(f) && !["run", "state", "leases"].includes(f)),
    ).toEqual([]);
    expect(existsSync("/tmp/mtt-hostile") || existsSync(join(work, "../mtt-hostile"))).toBe(false);
    if (filter.whole) {
      expect([done.code, done.stdout]).toEqual([65, ""]);
      return;
    }
    const out = passed(done.stdout, filter);
    const errors = expectNew(done.stdout, join_(texts)).filter(
      (r): r is Rec & { raw: string; error: { code: string } } => r.kind === "error",
    );
    for (const text of texts)
      expect(out.includes(text) || errors.some((e) => e.raw === text && e.error.code === "data"), text).toBe(
        true,
      );
    expect(done.code).toBe(errors.length > 0 ? 65 : done.code === 1 && filter.finds ? 1 : 0);
    expect(out.at(-1)).toBe(END);
  });

  test("| head -1 ends it, and it does not hang", () => {
    const done = shell('"$@" <"$LONG" | head -n 1; exit $PIPESTATUS', filter);
    expect(done.code, done.stderr).toBe(filter.changes ? 74 : 0);
    expect(done.stdout).toMatch(/^\{"kind":"experiment".*\n$/);
    expect(done.stderr).not.toMatch(/EPIPE|at .*:\d+/);
  });

  test("a reader that sleeps costs no memory, and gets every byte", async () => {
    const fd = openSync(long, "r");
    const child = spawn(join(DIST, filter.tool), filter.words, {
      env: environment(filter.env),
      cwd: work,
      stdio: [fd, "pipe", "ignore"],
    });
    closeSync(fd);
    const closed = new Promise<number | null>((done) => child.on("close", done));
    await new Promise((r) => setTimeout(r, 1500));
    const peak = Number(/VmHWM:\s*(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1]) / 1024;
    const hash = createHash("sha256");
    let lines = 0;
    let tail = "";
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
      let from = 0;
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
        const line = `${tail}${chunk.toString("utf8", from, at)}`;
        tail = "";
        from = at + 1;
        if (filter.adds && line.startsWith(`{"kind":"${filter.adds}"`)) continue;
        hash.update(`${line}\n`);
        lines++;
      }
      tail += chunk.toString("utf8", from);
    }
    expect(fine(filter)).toContain(await closed);
    // A plan that is read as a whole is held in memory.
    if (!filter.whole) expect(peak).toBeLessThan(300);
    if (filter.whole) return expect(lines).toBeGreaterThanOrEqual(LONG_LINES);
    expect(lines).toBe(LONG_LINES);
    expect(hash.digest("hex")).toBe(longDigest);
  });

  test("/dev/full is an I/O error: 74 and a message", () => {
    const done = shell('"$@" >/dev/full <<<"$PLAN"', filter, {
      PLAN: (filter.whole ? UNKNOWN : PLAN).join("\n"),
    });
    expect(done.code).toBe(74);
    expect(done.stderr).toMatch(/the disk is full/);
  });

  test("stdin a terminal is a usage error where records must come", async () => {
    const { spec } = (await import(join(ROOT, "tools", filter.tool, "spec.ts"))) as { spec: ToolSpec };
    if (spec.commands[filter.words[0]!]!.stdin !== "records") return;
    const done = shell(`script -qec "$(printf '%q ' "$@")" /dev/null </dev/null`, filter);
    expect(done.code, done.stdout).toBe(64);
    expect(done.stdout).toContain("stdin is a terminal");
  });
});

describe("every tool", () => {
  test.each(TOOLS)(
    "%s: help and version on stdout, 0; what it does not know is 64 with a hint and nothing on stdout",
    (tool) => {
      const help = runTool(tool, ["--help"], "");
      expect([help.code, help.stderr]).toEqual([0, ""]);
      expect(help.stdout).toContain(`${tool}:`);
      const version = runTool(tool, ["--version"], "");
      expect([version.code, version.stderr]).toEqual([0, ""]);
      expect(version.stdout).toMatch(
        new RegExp(`^${tool} \\d+\\.\\d+\\.\\d+ \\(schema 1, commit [0-9a-z]+\\)\n$`),
      );
      for (const words of [["--no-such-flag"], ["no-such-command"], ["\u001b[31m"]]) {
        const refused = runTool(tool, words, "");
        expect([refused.code, refused.stdout], words.join(" ")).toEqual([64, ""]);
        expect(refused.stderr).toMatch(/hint: /);
        expect(refused.stderr).not.toContain("\u001b");
      }
    },
  );

  test.each(TOOLS)("%s: every command refuses an unknown flag, and shows its help", async (tool) => {
    const { spec } = (await import(join(ROOT, "tools", tool, "spec.ts"))) as { spec: ToolSpec };
    for (const command of Object.keys(spec.commands)) {
      const refused = runTool(tool, [command, "--no-such-flag"], "");
      expect([refused.code, refused.stdout], command).toEqual([64, ""]);
      const help = runTool(tool, [command, "--help"], "");
      expect([help.code, help.stderr], command).toEqual([0, ""]);
    }
  });

  test.each(TOOLS)("%s: help into /dev/full is 74, into a closed pipe 0", (tool) => {
    const full = spawnSync("bash", ["-c", '"$1" --help >/dev/full', "bash", join(DIST, tool)], {
      env: environment(),
    });
    expect(full.status).toBe(74);
    const closed = spawnSync(
      "bash",
      ["-c", '"$1" --help | true; exit $PIPESTATUS', "bash", join(DIST, tool)],
      { env: environment() },
    );
    expect(closed.status).toBe(0);
  });

  test.each([...TOOLS, "mt"])("%s: a hostile working directory is not read", (tool) => {
    // BUN_OPTIONS and BUN_BE_BUN do get through to a compiled binary: they are the caller's own environment;
    // cleanEnv keeps them from what the tools start (test/unit/shared/process.test.ts).
    const dir = join(work, `hostile-${tool}`);
    mkdirSync(dir);
    const marker = join(dir, "marker");
    const preload = `require("node:fs").writeFileSync(${JSON.stringify(marker)}, "");\n`;
    for (const name of [".env", ".env.local", ".env.production", ".env.development"])
      writeFileSync(join(dir, name), `MT_LOG=nonsense\nBUN_OPTIONS=--preload=${dir}/preload.ts\n`);
    for (const name of ["preload.ts", "index.ts"]) writeFileSync(join(dir, name), preload);
    writeFileSync(
      join(dir, "bunfig.toml"),
      'preload = ["./preload.ts"]\n[run]\npreload = ["./preload.ts"]\n',
    );
    writeFileSync(join(dir, "package.json"), '{"type":"module","imports":{"#x":"./preload.ts"}}');
    writeFileSync(join(dir, "tsconfig.json"), "{ not json");
    for (const words of tool === "mt" ? [["mt-vnet", "ls"]] : [["--version"], ["ls"]]) {
      const done = runTool(tool, words, "", { cwd: dir });
      expect(done.stderr).not.toContain("nonsense");
      expect([0, 1, 64, 69, 75]).toContain(done.code);
    }
    expect(existsSync(marker)).toBe(false);
    rmSync(dir, { recursive: true });
  });
});

test("mt-tree map -- cat, where no tree is up, is cat", () => {
  const env = { MT_HOST: "mtt-there" };
  expect(runTool("mt-tree", ["map", "--", "cat"], join_(PLAN), { env })).toMatchObject({
    code: 0,
    stdout: join_(PLAN),
  });
});

test("what a tool starts does not get BUN_OPTIONS", () => {
  const done = runTool("mt-tree", ["map", "--", "sh", "-c", "env >&2; cat"], join_(PLAN), {
    env: { BUN_OPTIONS: "--smol", MT_HOST: "mtt-there" },
  });
  expect(done.code, done.stderr).toBe(0);
  expect(done.stderr).toContain("MT_HOST=");
  expect(done.stderr).not.toContain("BUN_OPTIONS");
});

describe("mt, all tools in one", () => {
  test.each(TOOLS)("is %s by the name of a link, by its first word, and by that without mt-", (tool) => {
    const link = join(work, tool);
    symlinkSync(join(DIST, "mt"), link);
    const version = runTool(tool, ["--version"], "").stdout;
    for (const [file, words] of [
      [link, ["--version"]],
      [join(DIST, "mt"), [tool, "--version"]],
      [join(DIST, "mt"), [tool.slice(3), "--version"]],
    ] as const) {
      const done = spawnSync(file, words, { env: environment(), timeout: 20_000 });
      expect([done.status, done.stdout.toString()]).toEqual([0, version]);
    }
    rmSync(link);
  });

  test("is a filter too", () => {
    expect(runTool("mt", ["mt-vnet", "up"], join_(PLAN))).toMatchObject({ code: 0, stdout: join_(PLAN) });
    expect(runTool("mt", ["vnet", "up"], join_(PLAN.slice(0, -1))).code).toBe(65);
  });

  test.each([[[]], [["no-such-tool"]], [["constructor"]], [["--no-such-flag"]]])(
    "%j is no tool: 64, the tools are named",
    (words) => {
      const done = runTool("mt", words, "");
      expect([done.code, done.stdout]).toEqual([64, ""]);
      for (const tool of TOOLS) expect(done.stderr).toContain(tool);
    },
  );
});
