/**
 * Another user of the machine against every tool: directories of theirs, directories that they may write to, links in ours.
 * On the compiled binary; as root, since only root can act as the other user too.
 */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { choices, commandsOf, type ToolSpec } from "../../shared/cli/spec.ts";
import { ROOT, specFile, tempDir } from "../unit/shared/fixtures.ts";

const MT = join(ROOT, "dist/mt");
const NOBODY = 65534;
const TOOLS = ["boot", "image", "ksm", "push", "route", "status", "topo", "tree", "vnet"].map(
  (t) => `mt-${t}`,
);
const PLAN = [
  { kind: "experiment", id: "x", version: 1, seed: 1 },
  {
    kind: "image",
    id: "tux",
    os: "linux",
    fork: true,
    files: { kernel: `sha256:${"1".repeat(64)}`, initrd: `sha256:${"2".repeat(64)}` },
  },
  { kind: "guest", id: "g0", host: "ow1", index: 0, image: "tux", cores: 1, mem_mib: 64, interfaces: [] },
  { kind: "end", id: "x", counts: {} },
]
  .map((r) => `${JSON.stringify(r)}\n`)
  .join("");

let top: string;
beforeEach(() => {
  top = tempDir();
});
const at = (path: string) => join(top, path);

function run(words: readonly string[], places: { run?: string; state?: string } = {}) {
  const command =
    words[0] === "mt-launch" ? [join(ROOT, "dist/mt-launch"), ...words.slice(1)] : [MT, ...words];
  const done = spawnSync(command[0]!, command.slice(1), {
    input: PLAN,
    encoding: "utf8",
    timeout: 60_000,
    env: {
      PATH: process.env.PATH,
      HOME: top,
      MT_HOST: "ow1",
      MT_RUN: places.run ?? at("run"),
      MT_STATE: places.state ?? at("state"),
      MT_CACHE: at("cache"),
      MT_LEASES: at("leases"),
    },
  });
  return { code: done.status, stdout: done.stdout, stderr: done.stderr };
}

/** Every command that people call, with a word for each argument that it has to have. */
const COMMANDS: string[][] = [];
for (const tool of TOOLS) {
  const { spec } = (await import(specFile(tool))) as { spec: ToolSpec };
  for (const [command, c] of commandsOf(spec)) {
    const words = Object.entries(c.args)
      .filter(([, a]) => a.type === "positional" && a.required !== false && a.default === undefined)
      .map(([, a]) => choices(a)[0] ?? ("value" in a && a.value === "number" ? "1" : "x1"));
    const needed = Object.entries(c.args)
      .filter(([, a]) => a.type !== "positional" && a.required === true)
      .flatMap(([flag]) => [`--${flag}`, "1"]);
    COMMANDS.push([tool, command, ...words, ...needed, ...(c.rest?.required ? ["--", "true"] : [])]);
  }
}
for (const verb of ["up", "check", "down"]) COMMANDS.push(["mt-launch", verb, "x"]);

describe.skipIf(process.getuid?.() !== 0)("a place that is not ours", () => {
  test("every command of every tool refuses it, says why, and writes nothing", { timeout: 240_000 }, () => {
    for (const words of COMMANDS) {
      for (const place of ["run", "state"] as const) {
        const foreign = at("foreign");
        mkdirSync(foreign);
        chownSync(foreign, NOBODY, NOBODY);
        const done = run(words, { [place]: foreign });
        const what = `${words.join(" ")} with ${place}: ${done.stderr}`;
        expect(done.code, what).toBe(77);
        expect(done.stderr, what).toContain(
          `Cannot use ${foreign}: it belongs to user ${NOBODY}, not to 0\n  hint: set MT_${place.toUpperCase()} to`,
        );
        expect(readdirSync(foreign), what).toEqual([]);
        rmSync(foreign, { recursive: true });
      }
      // Nor anywhere else.
      expect(readdirSync(top), words.join(" ")).toEqual([]);
    }
  });

  test.each([
    [["mt-boot", "up"]],
    [["mt-boot", "down"]],
    [["mt-tree", "down"]],
    [["mt-ksm", "protect"]],
    [["mt-launch", "down", "x"]],
  ])("%j refuses one that others may write to, a link, and one below another's", (words) => {
    mkdirSync(at("open"));
    chmodSync(at("open"), 0o777);
    mkdirSync(at("real"));
    symlinkSync(at("real"), at("link"));
    mkdirSync(at("foreign/run"), { recursive: true });
    chownSync(at("foreign"), NOBODY, NOBODY);
    for (const [path, why] of [
      ["open", "others may write to it (mode 0777)"],
      ["link", "it is a symbolic link"],
      ["foreign/run", "who may change all below it"],
    ] as const) {
      const done = run(words, { run: at(path) });
      expect([done.code, done.stderr]).toEqual([77, expect.stringContaining(why)]);
    }
    expect(["open", "real", "foreign/run"].flatMap((d) => readdirSync(at(d)))).toEqual([]);
  });

  test("a filter's own records come out failed, the others as they were", () => {
    mkdirSync(at("foreign"));
    chownSync(at("foreign"), NOBODY, NOBODY);
    const lines = run(["mt-boot", "up"], { run: at("foreign") })
      .stdout.trimEnd()
      .split("\n");
    const before = PLAN.trimEnd().split("\n");
    expect(lines.filter((_, n) => n !== 2)).toEqual(before.filter((_, n) => n !== 2));
    expect(JSON.parse(lines[2]!)).toMatchObject({
      ...JSON.parse(before[2]!),
      state: "failed",
      error: { by: "mt-boot", code: "permission" },
    });
  });
});

describe.skipIf(process.getuid?.() !== 0)("a link in a place of ours", () => {
  test.each([
    ["run/tree/tree.json", ["mt-tree", "down"]],
    ["run/tree/tree.json", ["mt-tree", "up", "ow1", "--via", "local"]],
    ["run/tree", ["mt-tree", "down"]],
    ["run/tree.lock", ["mt-tree", "up", "ow1", "--via", "local"]],
    ["run/tree/head.sock", ["mt-tree", "exec", "ow1", "--", "true"]],
    ["run/experiments", ["mt-boot", "up"]],
    ["run/experiments/x/boot.log", ["mt-boot", "up"]],
    ["run/experiments/x/boot.sock", ["mt-boot", "up"]],
    ["run/experiments/x/boot.start", ["mt-boot", "up"]],
    ["run/experiments/x/boot.sqlite", ["mt-boot", "ls", "--experiment", "x"]],
    ["run/experiments/x/oom.json", ["mt-ksm", "protect"]],
    ["leases/neigh.json", ["mt-vnet", "down"]],
    ["state/plans/x.plan", ["mt-launch", "down", "x"]],
    ["state/plans/x.lock", ["mt-launch", "down", "x"]],
    ["state/status.sqlite", ["mt-status", "history"]],
    ["state/images/tux.json", ["mt-image", "ls"]],
    ["state/images/.lock", ["mt-image", "build", "tux"]],
    [`state/store/sha256/${"3".repeat(64)}`, ["mt-push", "has", "--", `sha256:${"3".repeat(64)}`]],
    ["state/store/incoming", ["mt-push", "receive", `sha256:${"3".repeat(64)}`]],
  ])("%s: %j does not follow it", (link, words) => {
    const victim = at("outside/victim");
    mkdirSync(at("outside"));
    writeFileSync(victim, "as it was");
    mkdirSync(dirname(at(link)), { recursive: true, mode: 0o700 });
    const isDirectory = !/\.|3333/.test(link);
    symlinkSync(isDirectory ? at("outside") : victim, at(link));
    const done = run(words);
    expect([done.code, done.stderr]).toEqual([77, expect.stringContaining("symbolic link")]);
    expect(readdirSync(at("outside"))).toEqual(["victim"]);
    expect(readFileSync(victim, "utf8")).toBe("as it was");
  });

  test.each([
    ["run/tree/head.sock", ["mt-tree", "exec", "ow1", "--", "true"]],
    ["run/experiments/x/boot.sock", ["mt-boot", "up"]],
  ])("nor is another's socket spoken to: %s", async (path, words) => {
    mkdirSync(dirname(at(path)), { recursive: true, mode: 0o700 });
    let heard = 0;
    const server = createServer(() => heard++);
    onTestFinished(() => void server.close());
    await new Promise<void>((resolve) => server.listen(at(path), resolve));
    chownSync(at(path), NOBODY, NOBODY);
    const done = run(words);
    expect([done.code, done.stderr]).toEqual([77, expect.stringContaining(`belongs to user ${NOBODY}`)]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(heard).toBe(0);
    expect(existsSync(at(path))).toBe(true);
  });
});

const NAMESPACES = ["--user", "--map-root-user", "true"];
describe.skipIf(spawnSync("unshare", NAMESPACES).status !== 0 || !existsSync("/dev/net/tun"))(
  "examples/rootless",
  () => {
    const rootless = () => {
      const done = spawnSync(join(ROOT, "examples/rootless"), ["true"], {
        encoding: "utf8",
        timeout: 60_000,
        env: { PATH: process.env.PATH, HOME: top, MT_STATE: at("state"), MT_CACHE: at("cache") },
      });
      return [done.status, done.stderr];
    };

    test("makes its directory 0700, and uses none that others may write to, no link, no lock that is a link", () => {
      expect(rootless()).toEqual([0, ""]);
      expect(["state", "state/plans"].map((d) => statSync(at(d)).mode & 0o777)).toEqual([0o700, 0o700]);
      rmSync(at("state/rootless.lock"));
      symlinkSync(at("outside"), at("state/rootless.lock"));
      expect(rootless()).toEqual([77, expect.stringMatching(/rootless\.lock: it is a symbolic link/)]);
      rmSync(at("state"), { recursive: true });
      mkdirSync(at("state"));
      chmodSync(at("state"), 0o777);
      expect(rootless()).toEqual([77, expect.stringMatching(/others may write to it \(mode 0777\)/)]);
      expect(readdirSync(at("state"))).toEqual([]);
      rmSync(at("state"), { recursive: true });
      mkdirSync(at("real"), { mode: 0o700 });
      symlinkSync(at("real"), at("state"));
      expect(rootless()).toEqual([77, expect.stringMatching(/state: it is a symbolic link/)]);
      expect(["outside", "real/plans"].map((f) => existsSync(at(f)))).toEqual([false, false]);
    });
  },
);
