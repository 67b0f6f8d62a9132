/**
 * Unusual records, through the compiled tools: nested very deep, with digits that no double can hold,
 * between lines that only JavaScript takes for blank, after a byte order mark, never placed. What a tool does not know
 * comes out as it came in. Needs `make build`; its last part a tree of one local host, and so root.
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bridgeName } from "../../shared/host/names.ts";
import { readRecord } from "../../shared/stream/record-line.ts";
import { ROOT } from "../unit/shared/fixtures.ts";

const MT = join(ROOT, "dist/mt");
const HERE = "mttr1";
const isRoot = process.getuid?.() === 0;
let work: string;
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), "mtt-records-"));
});
afterAll(() => rmSync(work, { recursive: true, force: true }));

const environment = () => ({
  PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: work,
  MT_RUN: join(work, "run"),
  MT_STATE: join(work, "state"),
  MT_LEASES: join(work, "leases"),
  MT_HOST: HERE,
});
function run(words: readonly string[], input: string | Buffer, options: { cwd?: string } = {}) {
  const done = spawnSync(MT, words, {
    input,
    env: environment(),
    cwd: options.cwd ?? work,
    timeout: 50_000,
    killSignal: "SIGKILL",
    maxBuffer: 1 << 28,
  });
  const stdout = done.stdout.toString();
  return {
    code: done.status,
    stdout,
    stderr: done.stderr.toString(),
    lines: stdout.split("\n").slice(0, -1),
  };
}
const text = (lines: readonly string[]) => lines.map((line) => `${line}\n`).join("");
const stateOf = (line: string | undefined) => {
  const read = readRecord({ text: line ?? "" });
  if (!read || "why" in read) throw new Error(`no record: ${line?.slice(0, 200)}`);
  return read.line as { kind: string; id: string; state?: string; error?: Record<string, string> };
};

const EXPERIMENT = '{"kind":"experiment","id":"mttr","version":1,"seed":7}';
const END = '{"kind":"end","id":"mttr","counts":{}}';
const guest = (id: string, host: string | undefined, more = "") =>
  `{"kind":"guest","id":"${id}",${host === undefined ? "" : `"host":"${host}",`}"index":0,"image":"none","cores":1,"mem_mib":64,"interfaces":[]${more}}`;
const router = (id: string, host: string | undefined, more = "") =>
  `{"kind":"router","id":"${id}",${host === undefined ? "" : `"host":"${host}",`}"index":0,"engine":"bird","protocol":"ospf","interfaces":[]${more}}`;

/** Commands, and the kinds of this host's records that each of them acts on. */
const FILTERS: [string, string[]][] = [
  ["vnet up", ["router", "guest"]],
  ["vnet down", ["router", "guest"]],
  ["boot up", ["guest"]],
  ["boot up --batch 2", ["guest"]],
  ["boot pause", ["guest"]],
  ["boot resume", ["guest"]],
  ["boot check", ["guest"]],
  ["boot exec -- true", ["guest"]],
  ["boot down", ["guest"]],
  ["route up", ["router"]],
  ["route check", ["router"]],
  ["route down", ["router"]],
  ["ksm report", []],
  ["push push", []],
  ["status check", []],
];
const named = FILTERS.map(([command, owned]) => [command, command.split(" "), owned] as const);

const nested = (n: number, open: string, close: string) => `${open.repeat(n)}1${close.repeat(n)}`;
const DEEP = [
  ["lists", nested(40_000, "[", "]")],
  ["objects", nested(40_000, '{"a":', "}")],
] as const;

describe.each(DEEP)("records with a field of 40,000 nested %s", (_, deep) => {
  const x = `,"x":${deep}}`;
  const withX = (line: string) => line.slice(0, -1) + x;
  const lines = [
    EXPERIMENT,
    `{"kind":"host","id":"elsewhere","cores":1,"mem_mib":1}`,
    `{"kind":"segment","id":"s","hosts":["elsewhere"],"vni":1}`,
    router("r0", HERE),
    guest("g0", HERE),
    guest("g1", "elsewhere"),
    '{"kind":"sonnet","id":"s18"}',
    END,
  ].map(withX);

  test.each(named)(
    "mt %s: its own come out failed, the rest as it came, and its end",
    (_name, words, owned) => {
      const done = run(words, text(lines));
      const out = done.lines.filter((line) => !/^\{"kind":"(sample|verdict|exit)"/.test(line));
      expect(out.length, done.stderr).toBe(lines.length);
      for (const [i, line] of lines.entries()) {
        const { kind, id } = stateOf(line);
        if (!owned.includes(kind) || !line.includes(HERE)) {
          expect(out.includes(line), `${kind} ${id}`).toBe(true);
          continue;
        }
        const failed = out.find((l) => l.startsWith(line.slice(0, 30)))!;
        expect(stateOf(failed), `${i}`).toMatchObject({
          id,
          state: "failed",
          error: { code: "data", message: `Cannot act on ${kind} ${id}: x: nested deeper than 256 levels` },
        });
        expect(failed.includes(x.slice(0, -1))).toBe(true);
      }
      expect(out.at(-1)).toBe(lines.at(-1));
      expect([0, 1]).toContain(done.code);
      if (owned.length > 0) expect(done.code).toBe(1);
    },
  );

  test("mt topo import, guests and place keep it", () => {
    const plan = [
      EXPERIMENT,
      '{"kind":"image","id":"tux","os":"linux","fork":true}',
      '{"kind":"segment","id":"s","vni":1,"prefix":"10.1.0.0/16"}',
      '{"kind":"router","id":"r0","index":0,"engine":"bird","protocol":"ospf","interfaces":[{"segment":"s","ip":"10.1.0.1/16"}]}',
      '{"kind":"sonnet","id":"s18"}',
      '{"kind":"end","id":"mttr","counts":{"router":1}}',
    ].map(withX);
    writeFileSync(join(work, "deep.plan"), text(plan));
    writeFileSync(
      join(work, "hosts"),
      `{"kind":"host","id":"${HERE}","addr":"10.254.0.1","cores":1,"mem_mib":999${x}\n`,
    );
    const imported = run(["topo", "import", "deep.plan"], "");
    const crowd = run(["topo", "guests", "3", "--image", "tux"], imported.stdout);
    const placed = run(["topo", "place", "hosts"], crowd.stdout);
    for (const done of [imported, crowd, placed])
      expect([done.code, done.stderr.match(/Cannot.*/)]).toEqual([0, null]);
    // The LAN and the guests are new.
    expect(
      placed.lines.filter((line) => line.includes(x.slice(0, -1))).map((line) => stateOf(line).kind),
    ).toEqual(["experiment", "host", "image", "segment", "router", "sonnet", "end"]);
    expect(stateOf(placed.lines.find((l) => stateOf(l).kind === "router"))).toMatchObject({ host: HERE });
  });

  test("one in a field that has to be read is refused with its line", () => {
    const bad = `{"kind":"guest","id":"g0","host":"${HERE}","index":0,"image":"i","cores":1,"mem_mib":1,"interfaces":${deep}}`;
    const refused = run(["topo", "place", HERE], text([EXPERIMENT, bad, END]));
    expect([refused.code, refused.stdout]).toEqual([65, ""]);
    expect(refused.stderr).toContain("Cannot read line 2: guest interfaces: nested deeper than 256 levels");
  });
});

test("a million levels are no more than forty thousand", () => {
  for (const deep of [nested(1_000_000, "[", "]"), nested(1_000_000, '{"a":', "}")]) {
    const line = guest("g0", HERE, `,"x":${deep}`);
    const done = run(["boot", "down"], text([EXPERIMENT, line, END]));
    expect([done.code, done.lines.length, done.lines[2]]).toEqual([1, 3, END]);
    expect(stateOf(done.lines[1])).toMatchObject({ id: "g0", state: "failed" });
    expect(done.lines[1]!.includes(deep)).toBe(true);
  }
});

test("after such a record a tool still heeds SIGTERM", async () => {
  const child = spawn(MT, ["boot", "down"], {
    env: environment(),
    cwd: work,
    stdio: ["pipe", "pipe", "ignore"],
  });
  const ended = new Promise((resolve) => child.on("close", resolve));
  child.stdin.write(text([EXPERIMENT, guest("g0", HERE, `,"x":${DEEP[0][1]}`)]));
  let out = "";
  await new Promise<void>((resolve) =>
    child.stdout.on("data", (chunk) => {
      out += chunk;
      if (out.includes('"state":"failed"')) resolve();
    }),
  );
  child.kill("SIGTERM");
  expect(await ended).toBe(143);
});

describe("what a tool does not know it puts out as it came", () => {
  const x =
    ',"x":[9007199254740993,1e400,-0,1.0,1E5],"\\u0041":{"b": {"n":12345678901234567890}},"y":1,"y":2.0,"10":-0.0';

  test("mt boot down: a record that is changed, and one that is a range", () => {
    const lines = [EXPERIMENT, guest("g[0-3]", HERE, x), END];
    const done = run(["boot", "down"], text(lines));
    expect([done.code, done.lines]).toEqual([0, [EXPERIMENT, done.lines[1], END]]);
    expect(done.lines[1]).toBe(guest("g[0-3]", HERE, `${x},"state":"stopped"`));
  });

  test("mt boot up: a record that fails, spaces and all", () => {
    const spaced = guest("g0", HERE, x)
      .replaceAll(',"', ' , "')
      .replace('"interfaces":[]', '"interfaces":[ { "segment":"s", "z":1e400 } ]');
    const done = run(["boot", "up"], text([EXPERIMENT, spaced, END]));
    expect(done.code).toBe(1);
    const failed = done.lines[1]!;
    const said = failed.slice(failed.indexOf(',"state"'), failed.lastIndexOf("}"));
    expect(failed.replace(said, "")).toBe(spaced);
    expect(stateOf(failed)).toMatchObject({ state: "failed", error: { code: "data" } });
  });

  test("mt topo: a plan that is imported, filled and placed, again and on other hosts", () => {
    const plan = [
      `{"kind":"experiment","id":"mttr","version":1,"seed":7${x}}`,
      `{"kind":"image","id":"tux","os":"linux","fork":true${x}}`,
      `{"kind":"segment","id":"s","prefix":"10.1.0.0/16"${x}}`,
      `{"kind":"router","id":"r0","engine":"bird","protocol":"ospf","interfaces":[{"segment":"s","z":1e400,"ip":"10.1.0.1/16"}]${x}}`,
      `{"kind":"guest","id":"g[0-1]","image":"tux","cores":1.0,"mem_mib":64,"interfaces":[{"z":-0,"segment":"s","ip":"10.1.0.10/16"}]${x}}`,
      `{"kind":"end","id":"mttr","counts":{}${x}}`,
    ];
    const hosts = [1, 2].map(
      (n) => `{"kind":"host","id":"h${n}","addr":"10.254.0.${n}","cores":1,"mem_mib":99${x}}`,
    );
    writeFileSync(join(work, "plan.jsonl"), text(plan));
    writeFileSync(join(work, "two"), text(hosts));
    const imported = run(["topo", "import", "plan.jsonl"], "");
    const placed = run(
      ["topo", "place", "two"],
      run(["topo", "guests", "2", "--image", "tux"], imported.stdout).stdout,
    );
    const again = run(["topo", "place", "two"], placed.stdout);
    expect([placed.code, again.stdout]).toEqual([0, placed.stdout]);
    const first = placed.lines.filter((line) => line.includes('"y":1,"y":2.0'));
    // All of ours: the guests of `guests` and their LAN are its own.
    expect(first.map((line) => stateOf(line).kind)).toEqual(
      expect.arrayContaining(["experiment", "host", "host", "image", "segment", "router", "guest", "end"]),
    );
    for (const line of first) expect(line).toContain(x);
    expect(placed.stdout).toContain('{"segment":"s","z":1e400,"ip":"10.1.0.1/16"}');
    expect(placed.stdout).toMatch(/\{"z":-0,"segment":"s",/);
    expect(placed.stdout).toContain('"cores":1.0');
  });
});

describe("lines that are blank for JavaScript alone", () => {
  const BLANK = ["", " ", "\t \r"];
  const ODD = ["\u00a0", "\f", "\v", "\u2028", "\u2029", "\ufeff", "\u3000", "\u0085"];
  test.each([["vnet up"], ["boot down"], ["route up"], ["push push"], ["status check"]])(
    "mt %s: error records; those of JSON's white space are none",
    (command) => {
      const done = run(command.split(" "), text([EXPERIMENT, ...BLANK, ...ODD, END]));
      expect(done.code, done.stderr).toBe(65);
      const errors = done.lines
        .map(stateOf as never)
        .filter((r) => (r as { kind: string }).kind === "error") as {
        raw: string;
        line: number;
      }[];
      expect(errors.map(({ raw, line }) => [raw, line])).toEqual(ODD.map((raw, i) => [raw, i + 5]));
    },
  );

  test("mt topo reads no plan that has one", () => {
    for (const [i, odd] of ODD.entries()) {
      const done = run(["topo", "place", HERE], text([EXPERIMENT, ...BLANK, odd, END]));
      expect([i, done.code, done.stdout]).toEqual([i, 65, ""]);
      expect(done.stderr).toContain("Cannot read line 5: it is no JSON");
    }
  });
});

describe("a byte order mark and CRLF", () => {
  test.each(named)(
    "mt %s: the mark is none of the first record, and CR stays where it stands",
    (_, words) => {
      const lines = [EXPERIMENT, '{"kind":"sonnet","id":"s18"}', guest("g1", "elsewhere"), END].map(
        (l) => `${l}\r`,
      );
      const done = run(words, `\ufeff${text(lines)}`);
      expect([0, 1], done.stderr).toContain(done.code);
      expect(done.lines.filter((l) => !/^\{"kind":"(sample|verdict)"/.test(l))).toEqual(lines);
    },
  );

  test("mt topo reads plans and hosts with them, from files and from stdin", () => {
    writeFileSync(join(work, "bom.plan"), `\ufeff${EXPERIMENT}\r\n${END}\r\n`);
    writeFileSync(join(work, "bom-hosts"), `\ufeff{"kind":"host","id":"h1","cores":1,"mem_mib":1}\r\n`);
    const fromFile = run(["topo", "import", "bom.plan"], "");
    const fromStdin = run(["topo", "import", "-"], `\ufeff${EXPERIMENT}\r\n${END}\r\n`);
    expect([fromFile.code, fromFile.lines[0], fromStdin.stdout]).toEqual([
      0,
      `${EXPERIMENT}\r`,
      fromFile.stdout,
    ]);
    const placed = run(["topo", "place", "bom-hosts"], `\ufeff${fromFile.stdout}`);
    expect([placed.code, placed.lines.length], placed.stderr).toEqual([0, 3]);
  });
});

describe("an id that is empty", () => {
  test.each(["vnet up", "boot down", "status check", "topo place x"])(
    "mt %s refuses it, in the same words",
    (command) => {
      const done = run(command.split(" "), text([EXPERIMENT, '{"kind":"sonnet","id":""}', END]));
      expect(done.code).toBe(65);
      expect(done.stderr).toContain("Cannot read line 2: id: expected a string");
    },
  );
});

describe("a plan that was never placed", () => {
  const plan = [
    EXPERIMENT,
    '{"kind":"segment","id":"s","vni":1}',
    router("r0", undefined),
    guest("g[0-3]", undefined),
    END,
  ];

  test.each(named.filter(([, , owned]) => owned.length > 0))(
    "mt %s: 65, and what places it",
    (command, words, owned) => {
      const done = run(words, text(plan));
      expect(done.code, done.stderr).toBe(65);
      expect(done.stderr).toContain("mt-topo place");
      for (const line of plan) {
        const { kind, id } = stateOf(line);
        const out = done.lines.filter((l) => stateOf(l).kind === kind);
        if (!owned.includes(kind)) expect(out).toEqual([line]);
        else
          expect(stateOf(out[0])).toMatchObject({
            state: "failed",
            error: { code: "data", message: `Cannot act on ${kind} ${id}: it was never placed on a host` },
          });
      }
      expect(done.lines.filter((l) => l.startsWith('{"kind":"switch"') && l.includes('"up"'))).toEqual([]);
      expect(existsSync(`/sys/class/net/${bridgeName("mttr", "s")}`), command).toBe(false);
      expect(done.lines.at(-1)).toBe(END);
    },
  );
});

describe("-- before arguments", () => {
  test("mt topo import -- FILE, also where it begins with a dash", () => {
    writeFileSync(join(work, "-x.plan"), text([EXPERIMENT, END]));
    for (const words of [
      ["import", "--", "-x.plan"],
      ["import", "--seed", "3", "--", "-x.plan"],
    ]) {
      const done = run(["topo", ...words], "");
      expect([done.code, done.lines.length], done.stderr).toEqual([0, 2]);
    }
    expect(run(["topo", "place", "--", HERE], text([EXPERIMENT, END])).code).toBe(0);
    expect(run(["topo", "import", "--", "a", "b"], "").code).toBe(64);
    expect(run(["vnet", "ls", "--"], "").code).toBe(0);
  });
});

describe.skipIf(!isRoot)("map, on a tree of one host", () => {
  const mapped = (lines: string[], command: string[] = ["cat"]) =>
    run(["tree", "map", "--", ...command], text(lines));
  beforeAll(() => {
    const up = run(["tree", "up", HERE, "--via", "local"], "");
    expect(up.code, up.stderr).toBe(0);
  });
  afterAll(() => {
    expect(run(["tree", "down"], "").code).toBe(0);
  });
  const x = ',"x":[9007199254740993,1e400,-0],"y":1,"y":2.0';

  test("what is for a host that is not there fails as it is, however deep", () => {
    const deep = `,"z":${nested(100_000, "[", "]")}`;
    const lines = [
      EXPERIMENT,
      guest("g0", "gone", x),
      guest("g1", "gone", deep),
      guest("g2", HERE, x + deep),
      END,
    ];
    const done = mapped(lines);
    expect(done.code).toBe(1);
    const by = (id: string) => done.lines.find((line) => stateOf(line).id === id)!;
    expect(by("g0")).toMatch(/^.*,"state":"failed","error":\{[^{}]*\}\}$/);
    expect(by("g0").replace(/,"state":"failed","error":\{[^{}]*\}/, "")).toBe(lines[1]);
    expect(stateOf(by("g1"))).toMatchObject({ state: "failed", error: { code: "lost" } });
    expect(by("g1").includes(deep)).toBe(true);
    expect(by("g2")).toBe(lines[3]);
    expect([done.lines.length, done.lines.at(-1)]).toEqual([5, END]);
  });

  test("what did not come back of a range fails with what nobody knows of it", () => {
    const line = guest("g[0-9]", HERE, x);
    const back = line.replace("g[0-9]", "g[3-4]").replace('"index":0', '"index":3');
    const done = mapped(
      [EXPERIMENT, line, END],
      ["sh", "-c", `cat >/dev/null; printf '%s\\n' '${back}'; exit 3`],
    );
    expect(done.code).toBe(1);
    expect(done.lines.slice(1, -1).map((l) => [stateOf(l).id, l.includes(x)])).toEqual([
      ["g[3-4]", true],
      ["g[0-2]", true],
      ["g[5-9]", true],
    ]);
  });

  test("blank lines, an empty id and a byte order mark are as they are to filters", () => {
    const done = run(
      ["tree", "map", "--", "cat"],
      `\ufeff${text([EXPERIMENT, "", " \r", "\u00a0", "\f", '{"kind":"sonnet","id":""}', END])}`,
    );
    expect(done.code).toBe(65);
    expect(done.lines[0]).toBe(EXPERIMENT);
    const errors = done.lines.slice(1, -1).map((l) => stateOf(l).error!.message);
    expect(errors).toEqual([
      "Cannot read line 4: it is no JSON",
      "Cannot read line 5: it is no JSON",
      "Cannot read line 6: id: expected a string",
    ]);
  });

  test("a plan that was never placed is refused before a host sees it", () => {
    const done = mapped([
      EXPERIMENT,
      router("r0", undefined),
      guest("g0", undefined),
      guest("g1", HERE),
      END,
    ]);
    expect(done.code).toBe(65);
    expect(done.stderr).toContain("mt-topo place");
    expect(done.lines.map((l) => [stateOf(l).id, stateOf(l).state])).toEqual(
      expect.arrayContaining([
        ["r0", "failed"],
        ["g0", "failed"],
        ["g1", undefined],
      ]),
    );
    expect(done.lines.at(-1)).toBe(END);
  });
});
