/**
 * Other processes share stdin, stdout and stderr. On the compiled binaries: every command of every tool (a new one
 * too: they come from the specs), with each of its three descriptors in every state that others may leave it in. Flags
 * of a descriptor never change, no other process on it loses a byte, nothing is lost of what the command reads and
 * writes, and messages are its own. Needs `make build`; as root it runs where it can change nothing.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type CommandSpec, choices, EXIT_MEANINGS, type ToolSpec } from "../../shared/cli/spec.ts";
import { EXIT } from "../../shared/errors.ts";
import { ROOT, specFile } from "../unit/shared/fixtures.ts";

const DIST = join(ROOT, "dist");
const TOOLS = readdirSync(join(ROOT, "tools")).filter((t) => existsSync(specFile(t)));
const SCRIPT = join(ROOT, "test/fixtures/descriptors.py");
const isRoot = process.getuid?.() === 0;

/** What stdin, stdout and stderr are in each run: over all runs, each is everything once. */
const RUNS = [
  ["pipe", "nonblocking-full", "socket"],
  ["socket", "pipe", "nonblocking-pipe"],
  ["file", "closed", "pipe"],
  ["full", "terminal", "file"],
  ["nonblocking-pipe", "full", "closed"],
  ["nonblocking-socket", "nonblocking-pipe", "full"],
  ["file", "socket", "terminal"],
  ["pipe", "file", "nonblocking-socket"],
  ["nonblocking-pipe", "nonblocking-socket", "nonblocking-full"],
  ["terminal", "pipe", "nonblocking-pipe"],
  ["closed", "file", "pipe"],
] as const;
type Kinds = readonly [string, string, string];
/** A command that has not ended by then is one that runs until it is ended. */
const LASTS_S = 8;
const LASTING_LIMIT_S = 0.6;

/** What an argument is given, by its name; what is not named here gets `x`. */
const VALUES: Record<string, string> = {
  n: "3",
  routers: "3",
  image: "tux",
  addr: "127.0.0.1",
  set: "g0",
  digest: `sha256:${"0".repeat(64)}`,
};
/** Commands that would do too much here, or that need arguments that the spec does not tell. */
const WORDS: Record<string, string[]> = {
  "mt-tree up": ["nowhere", "--via", "ssh"],
  "mt-tree map": ["--", "cat"],
  "mt-boot copy": ["--to", "g0", "/etc/hostname", "/tmp/"],
  "mt-topo import": ["-"],
  "mt-topo place": ["mtt-there"],
  "mt-image build": ["tux", "--missing"],
};

let work: string;
const FOREIGN = 60;
const lines = [
  '{"kind":"experiment","id":"mttfd","version":1,"seed":7}',
  ...Array.from(
    { length: FOREIGN },
    (_, i) => `{"kind":"sonnet","id":"s${i}","host":"mtt-there","pad":"${"x".repeat(100)}"}`,
  ),
  '{"kind":"guest","id":"h[0-3]","host":"mtt-there","index":0,"image":"tux","cores":1,"mem_mib":128,"interfaces":[]}',
  '{"kind":"end","id":"mttfd","counts":{"guest":4}}',
];

interface Call {
  name: string;
  argv: string[];
  spec: CommandSpec;
}
async function calls(): Promise<Call[]> {
  const all: Call[] = [];
  for (const tool of TOOLS) {
    const { spec } = (await import(specFile(tool))) as { spec: ToolSpec };
    for (const [command, c] of Object.entries(spec.commands)) {
      const name = `${tool} ${command}`;
      all.push({ name, spec: c, argv: [join(DIST, tool), command, ...(WORDS[name] ?? wordsOf(c))] });
    }
  }
  return all;
}
/** Only required arguments: a command that may read a stream reads it. */
function wordsOf(spec: CommandSpec): string[] {
  const words: string[] = [];
  for (const [name, a] of Object.entries(spec.args)) {
    const value = VALUES[name] ?? choices(a)[0] ?? "x";
    if (a.type === "positional" && a.required !== false && a.default === undefined) words.push(value);
    else if (a.type !== "positional" && "required" in a && a.required) words.push(`--${name}=${value}`);
  }
  return [...words, ...(spec.words ? ["x", "x"] : []), ...(spec.rest ? ["--", VALUES.digest!] : [])];
}

interface Done {
  case: number;
  code: number;
  stdout: string;
  stderr: string;
  changed: [number, string][];
  lost: number;
  refused: boolean;
  given_back: boolean;
  asked: boolean;
  stuck: boolean;
  seconds: number;
}
let rooms = 0;
function runAll(cases: readonly { call: Call; as: Kinds; limit_s: number }[]): Done[] {
  const input = cases.map(({ call: { argv }, as, limit_s }) => {
    const room = join(work, String(rooms++));
    const env = {
      PATH: `${DIST}:/usr/sbin:/usr/bin:/sbin:/bin`,
      HOME: work,
      TERM: "xterm",
      MT_HOST: "mtt-here",
      MT_RUN: join(room, "run"),
      MT_STATE: join(room, "state"),
      MT_CACHE: join(work, "cache"),
      MT_LEASES: join(room, "leases"),
    };
    return JSON.stringify({ argv, env, input: join(work, "plan"), as, limit_s });
  });
  // In namespaces of its own: no network, no kernel settings, no named network namespace of this machine.
  const alone =
    "mount -t tmpfs t /sys/kernel/mm/ksm; mkdir -p /run/netns; mount -t tmpfs t /run/netns; ip link set lo up";
  const words = ["python3", SCRIPT];
  const inside = isRoot ? ["unshare", "-mn", "sh", "-c", `${alone}; exec "$@"`, "sh", ...words] : words;
  const done = spawnSync(inside[0]!, inside.slice(1), {
    input: input.join("\n"),
    encoding: "utf8",
    maxBuffer: 1 << 30,
    timeout: 400_000,
  });
  const results = done.stdout
    .split("\n")
    .filter(Boolean)
    .map((l) => JSON.parse(l) as Done);
  if (results.length !== cases.length)
    throw new Error(`${results.length} of ${cases.length} ran: ${done.stderr}`);
  return results.sort((a, b) => a.case - b.case);
}

const all = await calls();
let plain: Done[];
beforeAll(() => {
  const missing = TOOLS.filter((t) => !existsSync(join(DIST, t)));
  if (missing.length > 0) throw new Error(`Cannot test: dist/ lacks ${missing.join(", ")}; run make build`);
  work = mkdtempSync(join(tmpdir(), "mtt-fds-"));
  writeFileSync(join(work, "plan"), `${lines.join("\n")}\n`);
  plain = runAll(all.map((call) => ({ call, as: ["file", "pipe", "pipe"], limit_s: LASTS_S })));
}, 120_000);
afterAll(() => work && rmSync(work, { recursive: true, force: true }));

/** Messages of the runtime or the kernel. */
const NOT_OURS =
  /\bE[A-Z]{3,}\b[:,]|(Type|Range|Reference|Syntax)?Error:|^\s+at |Bun v|unbound variable|line \d+: |Bad file|core dumped/m;
const DOCUMENTED = Object.keys(EXIT_MEANINGS).map(Number);
const foreign = (stdout: string) => stdout.split(/\r?\n/).filter((l) => l.startsWith('{"kind":"sonnet"'));

describe("every command of every tool", () => {
  let results: Done[];
  const cases = all.flatMap((call, c) => RUNS.map((as) => ({ call, c, as })));
  beforeAll(() => {
    results = runAll(cases.map((k) => ({ ...k, limit_s: plain[k.c]!.asked ? LASTING_LIMIT_S : 60 })));
  }, 400_000);

  test.each(all.map(({ name }, c) => [name, c] as const))("%s", (_, c) => {
    for (const [i, { as }] of cases.entries()) {
      if (cases[i]!.c !== c) continue;
      const [stdin, stdout] = as;
      const { code, stderr, seconds, ...ran } = results[i]!;
      const reference = plain[c]!;
      const what = `as ${as}: code ${code} in ${seconds} s, ${stderr}`;
      const { changed, lost, refused, given_back, stuck } = ran;
      expect({ changed, lost, refused, given_back, stuck }, what).toEqual({
        changed: [],
        lost: 0,
        refused: false,
        given_back: true,
        stuck: false,
      });
      expect(DOCUMENTED, what).toContain(code);
      expect(code, what).not.toBe(EXIT.bug);
      expect(stderr, what).not.toMatch(NOT_OURS);
      const reads = all[c]!.spec.stdin === "records";
      if (reads && (stdin === "closed" || stdin === "terminal")) {
        expect(stderr, what).toMatch(
          stdin === "closed"
            ? /Cannot read records: stdin is closed/
            : /Cannot read records: stdin is a term/,
        );
        expect(code, what).toBe(EXIT.usage);
        continue;
      }
      if (reference.asked || stdin === "closed" || stdin === "terminal") continue;
      // A command that had output, and nowhere to write it, says so.
      const says = reference.stdout !== "" || all[c]!.name.startsWith("mt-launch");
      if (stdout === "closed" && says) {
        expect(stderr, what).toMatch(/Cannot write to stdout: it is closed/);
        expect(code, what).toBe(EXIT.io);
      } else if (stdout !== "terminal") {
        expect(code, what).toBe(reference.code);
        expect(foreign(ran.stdout), what).toEqual(stdout === "closed" ? [] : foreign(reference.stdout));
      }
    }
  });
});
