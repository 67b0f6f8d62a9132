/**
 * Bad input and bad machines, on the compiled binaries: each is refused with its exit code, the error says what is
 * wrong, and the rest goes on. Records of another host are tested in filter-law.test.ts.
 * Needs `make build`; what hides programs, fills disks or changes the user needs root.
 */
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ToolSpec } from "../../shared/cli/spec.ts";
import { type Rec as AnyRec, expectNew, expectRecords } from "../support/records.ts";
import { ROOT, specFile } from "../unit/shared/fixtures.ts";

const DIST = join(ROOT, "dist");
const TOOLS = [...readdirSync(join(ROOT, "tools")).filter((t) => existsSync(specFile(t))), "mt-launch"];
const HERE = "mtt-here";
const NOBODY = 65534;
const isRoot = process.getuid?.() === 0;

const line = (record: object) => JSON.stringify(record);
const EXPERIMENT = { kind: "experiment", id: "mttbad", version: 1, seed: 7 };
const IMAGE = { kind: "image", id: "tux", hosts: [HERE], os: "linux", fork: false };
const SEGMENT = {
  kind: "segment",
  id: "lan",
  hosts: [HERE],
  vni: 3,
  prefix: "10.1.0.0/16",
  members: [{ host: HERE, index: 0, count: 2 }],
};
const ROUTER = {
  kind: "router",
  id: "r",
  host: HERE,
  index: 1,
  engine: "bird",
  protocol: "ospf",
  interfaces: [],
};
const GUEST = {
  kind: "guest",
  id: "g[0-1]",
  host: HERE,
  index: 0,
  image: "tux",
  cores: 1,
  mem_mib: 64,
  interfaces: [],
};
const AWAY = { ...GUEST, id: "h0", host: "mtt-there", index: 9 };
const END = { kind: "end", id: "mttbad", counts: { image: 1, segment: 1, router: 1, guest: 3 } };
const PLAN = [EXPERIMENT, IMAGE, SEGMENT, ROUTER, GUEST, AWAY, END].map(line);
/** All of it is for this host. */
const OURS = [EXPERIMENT, IMAGE, SEGMENT, ROUTER, GUEST, END].map(line);
/** Records that a command passes on as they came. Without a tree, map fails those of other hosts. */
const passes = (command: string, ...records: object[]) =>
  records.filter((record) => record !== AWAY || !command.startsWith("mt-tree map"));
const text = (lines: readonly string[]) => `${lines.join("\n")}\n`;

let work: string;
beforeAll(() => {
  const missing = TOOLS.filter((t) => !existsSync(join(DIST, t)));
  if (missing.length > 0) throw new Error(`Cannot test: dist/ lacks ${missing.join(", ")}; run make build`);
  work = mkdtempSync(join(tmpdir(), "mtt-bad-"));
  chmodSync(work, 0o755);
});
afterAll(() => work && rmSync(work, { recursive: true, force: true }));

interface Ran {
  code: number | null;
  stdout: string;
  stderr: string;
  lines: string[];
}
const result = (done: SpawnSyncReturns<Buffer>, input: string | Buffer): Ran => {
  const stdout = done.stdout.toString();
  expectNew(stdout, input);
  return {
    code: done.status,
    stdout,
    stderr: done.stderr.toString(),
    lines: stdout.split("\n").filter(Boolean),
  };
};
const environment = (): NodeJS.ProcessEnv => ({
  PATH: `${DIST}:/usr/sbin:/usr/bin:/sbin:/bin`,
  HOME: work,
  MT_HOST: HERE,
  MT_RUN: join(work, "run"),
  MT_STATE: join(work, "state"),
  MT_LEASES: join(work, "leases"),
  NO_COLOR: "1",
});
function run(words: readonly string[], input: string | Buffer = "", env: NodeJS.ProcessEnv = {}): Ran {
  return result(
    spawnSync(words[0]!, words.slice(1), {
      input,
      env: { ...environment(), ...env },
      cwd: work,
      timeout: 40_000,
      killSignal: "SIGKILL",
      maxBuffer: 1 << 28,
    }),
    input,
  );
}
const call = (command: string) => {
  const [tool = "", ...words] = command.split(" ");
  return [join(DIST, tool), ...words];
};
/** Runs a tool after a shell line in a mount namespace of its own. `$W` is the work directory. */
const inNamespace = (setup: string, command: string, input: string, env: NodeJS.ProcessEnv = {}) =>
  run(["unshare", "-m", "sh", "-ec", `${setup}\nexec "$@"`, "sh", ...call(command)], input, {
    W: work,
    ...env,
  });
const hidden = (file: string) => `mount --bind /dev/null ${file}`;

/** A record of the stream by kind and id; its failure, where it has one. */
interface Rec extends AnyRec {
  state?: string;
  line?: number;
  error?: { by: string; code: string; message: string; hint?: string };
}
const rec = (ran: Ran, kind: string, id: string) => {
  const found = ran.lines.map((l) => JSON.parse(l) as Rec).find((r) => r.kind === kind && r.id === id);
  if (!found) throw new Error(`no ${kind} ${id} in: ${ran.stdout}${ran.stderr}`);
  return found;
};
const errorsOf = (ran: Ran) => ran.lines.map((l) => JSON.parse(l) as Rec).filter((r) => r.kind === "error");
/** Records that are not this tool's came out byte for byte, and `end` came last. */
function expectPassedOn(ran: Ran, ...records: object[]) {
  for (const record of [...records, END]) expect(ran.lines).toContain(line(record));
}
function expectUsage(ran: Ran, what: string) {
  expect([ran.code, ran.stdout], `${what}: ${ran.stderr}`).toEqual([64, ""]);
  expect(ran.stderr, what).toMatch(/^mt-[a-z]+: Cannot .*: .*\n {2}hint: \S/);
}

describe.each(TOOLS)("%s, its command line", (tool) => {
  test("a missing value, an extra argument and a near miss are refused with a hint", async () => {
    const { spec } = (await import(specFile(tool))) as { spec: ToolSpec };
    expectUsage(run(call(`${tool} no-such-command`)), "command");
    for (const [command, c] of Object.entries(spec.commands)) {
      const places = Object.values(c.args).filter((a) => a.type === "positional");
      const given = places.map(() => " x").join("");
      const said = `${tool} ${command}`;
      const extra = run(call(`${said}${given} one-too-many${c.rest?.required ? " -- true" : ""}`));
      expectUsage(extra, `${said}: extra`);
      if (!c.words) expect(extra.stderr).toContain('"one-too-many"');
      for (const [flag, a] of Object.entries(c.args)) {
        if (a.type === "positional" || a.type === "boolean") continue;
        const missing = run(call(`${said} --${flag}`));
        expectUsage(missing, `${said} --${flag}`);
        expect(missing.stderr).toContain(`Cannot use --${flag}: its value is missing`);
      }
      const near = run(call(`${said} --progresss`));
      expectUsage(near, `${said}: near miss`);
      expect(near.stderr).toContain("did you mean --progress?");
    }
  });
});

/** Filters that own a kind: a record of it and what is wrong with it. */
const OWNED: [command: string, good: { kind: string; id: string }][] = [
  ["mt-boot up", GUEST],
  ["mt-boot down", GUEST],
  ["mt-boot check", GUEST],
  ["mt-boot resume", GUEST],
  ["mt-boot pause", GUEST],
  ["mt-boot reset", GUEST],
  ["mt-route up", ROUTER],
  ["mt-route down", ROUTER],
  ["mt-route check", ROUTER],
  ["mt-vnet up", ROUTER],
  ["mt-vnet down", GUEST],
  ["mt-ksm report", EXPERIMENT],
  ["mt-status check", GUEST],
];
describe.each(OWNED)("%s", (command, good) => {
  test("a record that breaks its schema is told by its field and what was expected", () => {
    const field = good.kind === "experiment" ? "seed" : "index";
    for (const [value, got] of [
      ["two", '"two"'],
      [undefined, "nothing"],
      [-1.5, "-1.5"],
    ] as const) {
      const ran = run(call(command), text([line({ ...good, [field]: value }), line(AWAY), line(END)]));
      expect(ran.code, ran.stderr).toBe(65);
      const [error] = errorsOf(ran);
      expect(error).toMatchObject({ line: 1, error: { code: "data", by: command.split(" ")[0] } });
      expect(error!.error!.message).toMatch(
        new RegExp(`^Cannot read line 1: ${good.kind} ${field}: expected .*integer.*, got ${got}$`, "i"),
      );
      expect(ran.stderr).toContain(error!.error!.message);
      expectPassedOn(ran, AWAY);
    }
    const ran = run(call(command), text([line({ ...good, id: "../x" }), line(AWAY), line(END)]));
    expect(errorsOf(ran)[0]!.error!.message).toMatch(/ id: expected .*letters, digits.*, got "\.\.\/x"$/);
    const long = run(call(command), text([line({ ...good, id: "x".repeat(300) }), line(AWAY), line(END)]));
    expect(errorsOf(long)[0]!.error!.message).toMatch(/ id: expected /);
    expect(errorsOf(long)[0]!.error!.message.length).toBeLessThan(300);
  });
});

/** Filters whose own records here can be worked on without changing this machine. */
const QUIET = [
  "mt-boot check",
  "mt-boot down",
  "mt-route check",
  "mt-ksm report",
  "mt-tree map -- mt-boot check",
];
describe.each(QUIET)("%s, its lines", (command) => {
  test("CRLF and a missing last newline change nothing", () => {
    const plain = run(call(command), text(PLAN));
    const bare = run(call(command), PLAN.join("\n"));
    const kinds = (ran: Ran) => ran.lines.map((l) => JSON.parse(l)).map((r: Rec) => [r.kind, r.id, r.state]);
    expect([bare.code, kinds(bare)]).toEqual([plain.code, kinds(plain)]);
    expect(bare.stdout.endsWith("}\n")).toBe(true);
    const crlf = run(call(command), PLAN.map((l) => `${l}\r\n`).join(""));
    expect([crlf.code, kinds(crlf)]).toEqual([plain.code, kinds(plain)]);
    // Passed on as they came.
    for (const record of passes(command, EXPERIMENT, IMAGE, AWAY, END))
      expect(crlf.lines).toContain(`${line(record)}\r`);
  });

  test("a line of 1 MiB is passed on", () => {
    const long = line({ kind: "sonnet", id: "x", host: HERE, pad: "ä".repeat(1 << 19) });
    const ran = run(call(command), text([line(EXPERIMENT), long, line(END)]));
    expect([ran.code, ran.stderr]).toEqual([0, ""]);
    expect(ran.lines).toContain(long);
  });

  test("bytes that are no UTF-8 stand in the way of no other line", () => {
    const bad = Buffer.concat([
      Buffer.from('{"kind":"x","id":"'),
      Buffer.from([0xc3, 0x28]),
      Buffer.from('"}\n'),
    ]);
    const ran = run(
      call(command),
      Buffer.concat([Buffer.from(text([line(EXPERIMENT)])), bad, Buffer.from(text([line(AWAY), line(END)]))]),
    );
    expect(ran.code).toBe(65);
    expect(errorsOf(ran)).toMatchObject([
      { line: 2, error: { message: "Cannot read line 2: it is no UTF-8" } },
    ]);
    expectPassedOn(ran, ...passes(command, EXPERIMENT, AWAY));
  });
});

describe("a line of 100 MB", () => {
  const BYTES = 100_000_000;
  beforeAll(() => {
    const pad = Buffer.alloc(BYTES, "x");
    writeFileSync(
      join(work, "big"),
      Buffer.concat([
        Buffer.from(`${line(EXPERIMENT)}\n{"kind":"sonnet","id":"`),
        pad,
        Buffer.from(`"}\n${line(AWAY)}\n${line(END)}\n`),
      ]),
    );
  });
  afterAll(() => rmSync(join(work, "big"), { force: true }));

  test.each([
    "mt-boot up",
    "mt-vnet up",
    "mt-route check",
    "mt-ksm report",
    "mt-push push",
    "mt-status check",
  ])("%s: an error record, the rest goes on, memory is bounded", (command) => {
    const ran = run(["sh", "-c", '"$@" <big', "sh", ...measured(command)]);
    expect(ran.code, ran.stderr).toBe(65);
    const [error, ...more] = errorsOf(ran);
    expect(more).toEqual([]);
    expect(error!.error!.message).toMatch(/^Cannot read line 2: 1000000\d\d bytes, more than \d+$/);
    expect(ran.stdout.length).toBeLessThan(20_000);
    expectPassedOn(ran, EXPERIMENT, AWAY);
    expect(Number(/peak (\d+)/.exec(ran.stderr)?.[1]) / 1024).toBeLessThan(260);
  });
  /** Says the most memory that it had, in KiB, at its end. */
  const measured = (command: string) => [
    "python3",
    "-c",
    "import resource,subprocess,sys\nc=subprocess.call(sys.argv[1:])\nprint('peak',resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,file=sys.stderr)\nsys.exit(c)",
    ...call(command),
  ];
});

describe("names that are no names", () => {
  const BAD = ["../x", "a;touch mtt-hostile", "a\nb", "x".repeat(300), "$(touch mtt-hostile)", "/etc", "-"];
  test.each([
    [["mt-boot", "down", "--experiment"]],
    [["mt-vnet", "down", "--experiment"]],
    [["mt-route", "down", "--experiment"]],
    [["mt-ksm", "down", "--experiment"]],
    [["mt-image", "build"]],
    [["mt-tree", "up"]],
    [["mt-push", "receive"]],
  ])("%j refuses them, and makes and removes nothing", (words) => {
    for (const bad of BAD) {
      const [tool = "", ...args] = words;
      const before = readdirSync(work);
      // A value is never taken for a flag.
      const last = args.at(-1)!;
      const given = last.startsWith("--") ? [...args.slice(0, -1), `${last}=${bad}`] : [...args, bad];
      const ran = run([join(DIST, tool), ...given]);
      expect([64, 65], `${JSON.stringify(bad)}: ${ran.code} ${ran.stderr}`).toContain(ran.code);
      expect(ran.stdout).toBe("");
      expect(ran.stderr).toMatch(/: Cannot /);
      expect(readdirSync(work).filter((f) => !before.includes(f) && !/^(run|state|leases)$/.test(f))).toEqual(
        [],
      );
    }
  });
});

describe("a range of a billion", () => {
  const BILLION = "g[0-999999999]";
  const quick = <T>(work: () => T): T => {
    const began = performance.now();
    const done = work();
    expect(performance.now() - began).toBeLessThan(5_000);
    return done;
  };
  test.each(["mt-boot up", "mt-boot down", "mt-boot check", "mt-boot resume", "mt-vnet up", "mt-vnet down"])(
    "%s fails the record at once, the rest goes on",
    (command) => {
      const ran = quick(() =>
        run(call(command), text([line(EXPERIMENT), line({ ...GUEST, id: BILLION }), line(AWAY), line(END)])),
      );
      const { state, error } = rec(ran, "guest", BILLION);
      // The first error for users who are not root.
      if (isRoot) expect([state, error!.code, ran.code]).toEqual(["failed", "data", 1]);
      if (isRoot) expect(error!.message).toMatch(/1000000000 members, more than \d+/);
      expectPassedOn(ran, EXPERIMENT, AWAY);
    },
  );
  test.each([
    ["mt-tree up x[1-1000000000]", ""],
    ["mt-tree exec x[1-1000000000] -- true", ""],
    ["mt-boot exec g[0-999999999] -- true", ""],
    ["mt-boot pause g[0-999999999]", ""],
    ["mt-boot copy /etc/hostname g[0-999999999]:/tmp/", ""],
    ["mt-boot log g[0-999999999]", ""],
    ["mt-topo gen ring --routers 1000000000", ""],
    ["mt-topo place mtt-there", text([line(EXPERIMENT), line({ ...GUEST, id: BILLION }), line(END)])],
    ["mt-topo place x[1-1000000000]", text([line(EXPERIMENT), line({ ...END, counts: {} })])],
    ["mt-topo guests 1000000000 --image tux", text([line(EXPERIMENT), line({ ...END, counts: {} })])],
  ])("%s is refused at once", (command, input) => {
    const ran = quick(() => run(call(command), input));
    expect([64, 65], ran.stderr).toContain(ran.code);
    expect(ran.stdout).toBe("");
    expect(ran.stderr).toMatch(/Cannot .*(1000000000|no segment|no LAN|image)/);
  });
});

describe("stdin a terminal", () => {
  test.each(TOOLS)("%s: no command that can do without records hangs on it", async (tool) => {
    const { spec } = (await import(specFile(tool))) as { spec: ToolSpec };
    for (const [command, c] of Object.entries(spec.commands)) {
      if (c.stdin !== "optional") continue;
      const words = [tool, command, ...(c.rest?.required ? ["--", "true"] : [])].join(" ");
      const began = performance.now();
      // `script` gives it a terminal that stays silent: its own stdin stays open.
      const ran = run([
        "bash",
        "-c",
        `timeout -s KILL 6 script -qec "${DIST}/${words}" /dev/null < <(exec sleep 8 2>/dev/null)`,
      ]);
      expect(performance.now() - began, words).toBeLessThan(12_000);
      expect([0, 64], `${words}: ${ran.stdout}`).toContain(ran.code);
      if (ran.code === 64) expect(ran.stdout).toMatch(/Cannot .*\r?\n {2}hint: /);
    }
  });
});

describe.skipIf(!isRoot)("a program is missing (needs root)", () => {
  test.each([
    ["mt-boot up", "/usr/bin/qemu-system-x86_64", "apt-get install qemu-system-x86", ["guest g[0-1]"]],
    ["mt-route up", "/usr/sbin/bird", "apt-get install bird2", ["router r"]],
    ["mt-route up", "/usr/sbin/birdc", "apt-get install bird2", ["router r"]],
    ["mt-route up", "/usr/bin/nsenter", "apt-get install util-linux", ["router r"]],
    ["mt-vnet up", "/usr/bin/ip", "apt-get install iproute2", ["router r", "guest g[0-1]", "switch lan"]],
    ["mt-vnet down", "/usr/bin/ip", "apt-get install iproute2", ["router r", "guest g[0-1]"]],
  ])("%s without %s: 69, the package, its records failed, the rest passed on", (command, file, hint, own) => {
    const ran = inNamespace(hidden(file), command, text(PLAN));
    expect(ran.code, ran.stderr).toBe(69);
    expect(ran.stderr).toContain(`hint: ${hint}`);
    for (const record of own) {
      const [kind = "", id = ""] = record.split(" ");
      expect(rec(ran, kind, id)).toMatchObject({ state: "failed", error: { code: "unavailable", hint } });
    }
    expectPassedOn(ran, EXPERIMENT, IMAGE, AWAY);
  });

  test.each(["/usr/bin/ip", "/usr/bin/nsenter"])("mt-tree up without %s is 69 and leaves no tree", (file) => {
    const ran = inNamespace(hidden(file), "mt-tree up mttb1", "");
    expect([ran.code, ran.stdout]).toEqual([69, ""]);
    expect(ran.stderr).toMatch(/hint: apt-get install (iproute2|util-linux)/);
    // Commands that need no tree work.
    expect(run(call("mt-tree map -- cat"), text(OURS))).toMatchObject({ code: 0, stdout: text(OURS) });
  });

  test.each([
    ["--no-port", /Cannot use --no-port with --via local: it is for --via ssh/],
    ["--upgrade", /Cannot use --upgrade with --via local/],
    ["--via ssh --head here", /Cannot use --head "here": expected an IPv4 address/],
  ])("mt-tree up %s is 64 and makes no tree", (flags, why) => {
    const ran = run(call(`mt-tree up mttb1 ${flags}`));
    expect([ran.code, ran.stdout, ran.stderr]).toEqual([64, "", expect.stringMatching(why)]);
    expect(existsSync(join(work, "run/tree"))).toBe(false);
  });

  describe("without a tree nobody does what is for another host", () => {
    const failed = <R extends { host: string }>(record: R) => ({
      ...record,
      state: "failed",
      error: {
        by: "mt-tree",
        code: "lost",
        message: `Cannot reach host ${record.host}: no tree is up here`,
        hint: "mt-tree up, with all hosts of the plan, makes one; then run this again",
      },
    });
    const parsed = (ran: Ran) => ran.lines.map((l) => JSON.parse(l) as object);

    test("its records come out failed, in their place; ours and the context are the command's", () => {
      const plan = [EXPERIMENT, AWAY, IMAGE, ROUTER, { ...AWAY, id: "h1", host: "mtt-far" }, GUEST, END];
      const ran = run(call("mt-tree map -- cat"), text(plan.map(line)));
      expect(ran.code).toBe(1);
      expect(ran.stderr).toMatch(
        /^mt-tree: Cannot reach hosts mtt-(far,mtt-there|there,mtt-far): no tree is up here;/,
      );
      const expected = plan.map((r) => ("host" in r && r.host !== HERE ? failed(r as typeof AWAY) : r));
      expect(parsed(ran)).toEqual(expected);
      // Byte for byte where it is ours, a bad line counted among all.
      for (const record of [EXPERIMENT, IMAGE, ROUTER, GUEST, END]) expect(ran.lines).toContain(line(record));
      const bad = run(call("mt-tree map -- cat"), text([line(AWAY), "no record", line(GUEST), line(END)]));
      expect([bad.code, errorsOf(bad)[0]?.line]).toEqual([65, 2]);
      // A record that failed before keeps its first error.
      const first = {
        ...AWAY,
        state: "failed",
        error: { by: "mt-vnet", code: "failed", message: "no room" },
      };
      const kept = run(call("mt-tree map -- cat"), text([first, END].map(line)));
      expect([kept.code, parsed(kept)]).toEqual([1, [first, END]]);
    });

    test("whichever host the command acts for is this one: MT_HOST, --host of our tools, of no other's", () => {
      /** What became of the other host's record, and of ours. */
      const codes = (command: string, env: NodeJS.ProcessEnv = {}) => {
        const ran = run(call(command), text([EXPERIMENT, AWAY, GUEST, END].map(line)), env);
        return [AWAY, GUEST].map(({ kind, id }) => rec(ran, kind, id)?.error?.message ?? "");
      };
      const away = "Cannot reach host mtt-there: no tree is up here";
      const ours = `Cannot reach host ${HERE}: no tree is up here`;
      expect(codes("mt-tree map -- cat", { MT_HOST: "mtt-there" })).toEqual(["", ours]);
      expect(codes("mt-tree map -- mt-boot down --host mtt-there")).toEqual(["", ours]);
      expect(codes("mt-tree map -- mt-boot down --host=mtt-there")).toEqual(["", ours]);
      expect(codes("mt-tree map -- sh -c cat sh --host mtt-there")).toEqual([away, ""]);
    });

    test("cut off it is 65; reduced, failed ones stand beside the result; a command that dies costs no record", () => {
      const cut = run(call("mt-tree map -- cat"), text([EXPERIMENT, AWAY, GUEST].map(line)));
      expect([cut.code, cut.lines.length]).toEqual([65, 3]);
      const reduced = run([...call("mt-tree map --reduce"), "wc -l", "--", "cat"], text(PLAN));
      expect([reduced.code, reduced.lines]).toEqual([1, [line(failed(AWAY)), String(OURS.length)]]);
      const dead = run([...call("mt-tree map --"), "sh", "-c", "kill -9 $$"], text(PLAN));
      expect(dead.code).toBe(1);
      expectPassedOn(dead, EXPERIMENT, IMAGE, SEGMENT);
      for (const { kind, id } of [ROUTER, GUEST, AWAY])
        expect(rec(dead, kind, id)).toMatchObject({ state: "failed", error: { by: "mt-tree" } });
    });

    test("a silent stdin is not waited for longer than --timeout", () => {
      const script = 'exec 3< <(exec sleep 30); "$@" <&3; code=$?; kill $!; exit $code';
      const began = Date.now();
      const late = run(["bash", "-c", script, "bash", ...call("mt-tree map --timeout 1 -- cat")]);
      expect([late.code, late.stderr]).toEqual([1, expect.stringMatching(/no end after 1 s/)]);
      expect(Date.now() - began).toBeLessThan(25_000);
    });

    test("mt-push: copies to other hosts fail", () => {
      const image = { ...IMAGE, hosts: [HERE, "mtt-there"] };
      const ran = run(call("mt-push"), text([EXPERIMENT, image, END].map(line)));
      expect(ran.code).toBe(1);
      const copy = failed({ kind: "copy", id: image.id, host: "mtt-there" });
      expect(parsed(ran)).toContainEqual({ ...copy, error: { ...copy.error, by: "mt-push" } });
    });
  });

  test("mt-tree map without a tree keeps to its time, reduces, and says why a command does not start", () => {
    const reduced = run([...call("mt-tree map --reduce"), "sort -r", "--", "cat"], text(OURS));
    expect(reduced).toMatchObject({ code: 0, lines: [...OURS].sort().reverse() });
    const late = run(call("mt-tree map --timeout 1 -- sleep 60"));
    expect([late.code, late.stderr]).toEqual([1, expect.stringMatching(/Cannot finish: no end after 1 s/)]);
    expect(run(call("mt-tree map -- /etc/passwd")).code).toBe(77);
    expect(run([...call("mt-tree map --"), ""]).code).toBe(64);
  });

  const noKsm = 'mkdir -p "$W/none"; mount --bind "$W/none" /sys/kernel/mm/ksm';
  test("mt-ksm settle and report where the kernel has no KSM: 69, the plan passed on", () => {
    for (const command of ["mt-ksm settle", "mt-ksm report"]) {
      const ran = inNamespace(noKsm, command, text(PLAN));
      expect(ran.code, ran.stderr).toBe(69);
      expect(ran.stderr).toMatch(/this kernel has no KSM\n {2}hint: .*CONFIG_KSM/);
      expect(ran.lines.filter((l) => !l.includes('"sample"'))).toEqual(PLAN);
    }
  });
  test("mt-ksm down where the kernel has no KSM: nothing to give back, 0", () => {
    const plan = inNamespace(noKsm, "mt-ksm down", text(PLAN));
    expect([plan.code, plan.stderr, plan.stdout]).toEqual([0, "", text(PLAN)]);
    const named = inNamespace(noKsm, "mt-ksm down --experiment mttbad", "");
    expect([named.code, named.stderr, named.stdout]).toEqual([0, "", ""]);
  });
});

describe.skipIf(!isRoot)("not root (needs root to be nobody)", () => {
  let home: string;
  beforeAll(() => {
    home = join(work, "nobody");
    mkdirSync(home);
    chownSync(home, NOBODY, NOBODY);
    for (const tool of TOOLS) copyFileSync(join(DIST, tool), join(home, tool));
  });
  afterAll(() => home && rmSync(home, { recursive: true, force: true }));
  const asNobody = (command: string, input: string) => {
    const [tool = "", ...words] = command.split(" ");
    return run(
      ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", join(home, tool), ...words],
      input,
      {
        MT_RUN: join(home, "run"),
        MT_STATE: join(home, "state"),
        MT_LEASES: join(home, "leases"),
        HOME: home,
      },
    );
  };
  test.each([
    ["mt-vnet up", ["router r", "guest g[0-1]"]],
    ["mt-vnet down", ["router r", "guest g[0-1]"]],
    ["mt-route up", ["router r"]],
    ["mt-route down", ["router r"]],
    ["mt-ksm settle", ["sample ksm"]],
  ])("%s: 77, its records failed, the rest passed on", (command, own) => {
    const ran = asNobody(command, text(PLAN));
    expect(ran.code, ran.stderr).toBe(77);
    expect(ran.stderr).toMatch(/Cannot .*root.*\n {2}hint: \S/);
    for (const record of own) {
      const [kind = "", id = ""] = record.split(" ");
      expect(rec(ran, kind, id)).toMatchObject({ state: "failed", error: { code: "permission" } });
    }
    expectPassedOn(ran, EXPERIMENT, IMAGE, AWAY);
  });
  test("mt-tree up: 77, and nothing is left in the way", () => {
    const ran = asNobody("mt-tree up mttb1", "");
    expect([ran.code, ran.stdout]).toEqual([77, ""]);
    expect(ran.stderr).toMatch(/need root\n {2}hint: /);
    expect(asNobody("mt-tree map -- cat", text(OURS))).toMatchObject({ code: 0, stdout: text(OURS) });
  });
  test("a run directory of another user: 77 and which it is", () => {
    const ran = run(
      ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", join(home, "mt-boot"), "up"],
      text(PLAN),
      { MT_RUN: join(work, "not-yours"), MT_STATE: join(work, "not-there") },
    );
    expect(ran.code, ran.stderr).toBe(77);
    expect(ran.stderr).toContain("not-yours");
    expectPassedOn(ran, EXPERIMENT, AWAY);
  });
});

describe("stdout", () => {
  const noReader = 'exec 3> >(:); wait $!; "$@" >&3';
  test.each(["mt-boot down", "mt-route up", "mt-vnet down", "mt-push push", "mt-tree map -- mt-boot down"])(
    "%s: nobody reads it from the start: 74, no stack",
    (command) => {
      const ran = run(["bash", "-c", noReader, "bash", ...call(command)], text(PLAN));
      expect(ran.code, ran.stderr).toBe(74);
      expect(ran.stderr).not.toMatch(/EPIPE|at .*:\d+/);
    },
  );
  test.each(["mt-boot check", "mt-route check", "mt-ksm report", "mt-topo gen ring --routers 3"])(
    "%s only reads: 0",
    (command) => {
      const ran = run(["bash", "-c", noReader, "bash", ...call(command)], text(PLAN));
      expect([ran.code, ran.stderr]).toEqual([0, ""]);
    },
  );
  test.each(["mt-boot check", "mt-vnet ls", "mt-ksm report", "mt-status check", "mt-tree map -- cat"])(
    "%s: closed: 74 and says so where it has something to write, and no file takes its place",
    (command) => {
      const state = join(work, "closed");
      const env = { MT_STATE: state };
      const closed = run(["sh", "-c", '"$@" >&-', "sh", ...call(command)], text(PLAN), env);
      const writes = run(call(command), text(PLAN), env).stdout !== "";
      expect(closed.code, closed.stderr).toBe(writes ? 74 : 0);
      expect(closed.stderr.includes("Cannot write to stdout: it is closed\n")).toBe(writes);
      const history = run(call("mt-status history"), "", env);
      expect([history.code, history.stderr]).toEqual([0, ""]);
      rmSync(state, { recursive: true, force: true });
    },
  );
});

describe.skipIf(!isRoot)("a disk that takes nothing (needs root)", () => {
  const small = 'mkdir -p "$W/fs"; mount -t tmpfs -o size=64k tmpfs "$W/fs"; mkdir "$W/fs/run" "$W/fs/state"';
  const full = `${small}; head -c 1M /dev/zero >"$W/fs/fill" 2>/dev/null || true`;
  const readOnly = `${small}; mount -o remount,ro "$W/fs"`;
  const env = () => ({
    MT_RUN: join(work, "fs/run"),
    MT_STATE: join(work, "fs/state"),
    MT_LEASES: join(work, "fs/leases"),
  });
  describe.each([
    ["full", full, /Cannot write [^\n]*: the disk is full\n {2}hint: free some space/],
    [
      "read-only",
      readOnly,
      /Cannot write \S*\/fs\/[^\n]*: the file system is read-only\n {2}hint: set MT_RUN/,
    ],
  ])("%s", (_, setup, said) => {
    test.each([
      ["mt-boot up", "guest g[0-1]"],
      ["mt-vnet up", "router r"],
      ["mt-ksm settle", undefined],
    ])("%s: 74, what could not be done failed, the rest passed on", (command, own) => {
      const ran = inNamespace(setup, command, text(PLAN), env());
      expect(ran.code, ran.stderr).toBe(74);
      expect(ran.stderr).toMatch(said);
      if (own) {
        const [kind = "", id = ""] = own.split(" ");
        expect(rec(ran, kind, id)).toMatchObject({ state: "failed", error: { code: "io" } });
      }
      expectPassedOn(ran, EXPERIMENT, IMAGE, AWAY);
    });
    test.each(["mt-tree up mttb1", "mt-image build tux"])("%s: 74, nothing on stdout", (command) => {
      const ran = inNamespace(setup, command, "", env());
      expect([ran.code, ran.stdout], ran.stderr).toEqual([74, ""]);
      expect(ran.stderr).toMatch(said);
    });
    test.each(["mt-boot down", "mt-tree map -- cat", "mt-route check"])("%s needs none of it", (command) => {
      const ran = inNamespace(setup, command, text(OURS), env());
      expect([0, 1], ran.stderr).toContain(ran.code);
      expect(ran.stderr).toBe("");
      expectPassedOn(ran, EXPERIMENT, IMAGE);
    });
    test("a verdict is given though it cannot be kept", () => {
      const ran = inNamespace(setup, "mt-status check --only", text(PLAN), env());
      expect(ran.lines.map((l) => (JSON.parse(l) as Rec).kind)).toEqual(["verdict"]);
      expect(ran.stderr).toMatch(/Cannot keep the verdict in .*status\.sqlite: /);
    });
  });
});

describe.skipIf(!isRoot)("hosts (needs root)", () => {
  const tree = (name: string) => ({ MT_RUN: join(work, name), MT_STATE: join(work, `${name}-state`) });
  afterAll(() => {
    for (const name of ["a", "b"]) run(call("mt-tree down"), "", tree(name));
  });

  test("a host that does not exist fails its records only, and is named", () => {
    expect(run(call("mt-tree up mttx1"), "", tree("a")).code).toBe(0);
    const there = { ...ROUTER, host: "mttx1" };
    const nowhere = { ...ROUTER, id: "r2", host: "mtt-nowhere" };
    const guests = { ...GUEST, host: "mtt-nowhere" };
    const plan = [EXPERIMENT, there, nowhere, guests, END].map(line);
    const ran = run(call("mt-tree map -- cat"), text(plan), tree("a"));
    expect(ran.code, ran.stderr).toBe(1);
    expectPassedOn(ran, EXPERIMENT, there);
    for (const { kind, id } of [nowhere, guests])
      expect(rec(ran, kind, id)).toMatchObject({
        state: "failed",
        error: { by: "mt-tree", message: "Cannot reach host mtt-nowhere: it is not in the tree" },
      });
    const exec = run(call("mt-tree exec mtt-nowhere -- true"), "", tree("a"));
    expect([exec.code, rec(exec, "exit", "mtt-nowhere").error!.by]).toEqual([1, "mt-tree"]);
  });

  test("a tree that was refused another's host does not take it away on its way down", () => {
    expect(run(call("mt-tree up mttx1"), "", tree("a")).code).toBe(0);
    const refused = run(call("mt-tree up mttx[1-2]"), "", tree("b"));
    expect([refused.code, refused.stdout]).toEqual([75, ""]);
    expect(refused.stderr).toMatch(/mt-mttx1 is there and is not of this tree\n {2}hint: /);
    expect(run(call("mt-tree down"), "", tree("b")).code).toBe(0);
    const ran = run(call("mt-tree exec mttx1 -- echo here"), "", tree("a"));
    expect([ran.code, expectRecords(ran.stdout)[0]!.stdout]).toEqual([0, "here\n"]);
    expect(run(call("mt-tree down"), "", tree("a")).code).toBe(0);
  });
});
