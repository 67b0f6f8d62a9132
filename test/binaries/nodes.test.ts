/** mt-tree nodes, compiled; and hosts with long names, as clouds give them, from the tree to a router on one. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { expectRecords } from "../support/records.ts";
import { ROOT } from "../unit/shared/fixtures.ts";

let work: string;
beforeAll(() => (work = mkdtempSync(join(tmpdir(), "mtn-"))));
afterAll(() => rmSync(work, { recursive: true, force: true }));

function tool(words: readonly string[], input = "", run = "run") {
  const done = spawnSync(join(ROOT, "dist", words[0]!), words.slice(1), {
    input,
    encoding: "utf8",
    timeout: 90_000,
    env: {
      PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
      HOME: work,
      MT_RUN: join(work, run),
      MT_STATE: join(work, "state"),
      MT_LEASES: join(work, "leases"),
    },
  });
  return { code: done.status, stdout: done.stdout, stderr: done.stderr };
}
const nodes = (set: string, input = "", ...flags: string[]) =>
  tool(["mt-tree", "nodes", set, ...flags], input, "made");

describe("mt-tree nodes", () => {
  test.each([
    ["n[ 1 , 5 ]", "n[1,5]\n"],
    ["n[ 1 - 9 / 2 ]", "n[1,3,5,7,9]\n"],
    ["n1[9-12]", "n[19,110-112]\n"],
    ["n[001-44]!n[003-043]", "n[001-002,044]\n"],
    ["ip-10-0-12-34.eu-central-1.compute.internal", "ip-10-0-12-34.eu-central-1.compute.internal\n"],
    ["x".repeat(255), `${"x".repeat(255)}\n`],
    ["", ""],
    [" ", ""],
  ])("%j", (set, out) => {
    expect(nodes(set)).toEqual({ code: 0, stdout: out, stderr: "" });
    expect(nodes("-", set)).toEqual({ code: 0, stdout: out, stderr: "" });
    if (set !== "x".repeat(255)) expect(nodes("-", `${set}\n`).stdout).toBe(out);
  });

  test("the empty set is 0 hosts; what needs a host says that there is none", () => {
    expect(nodes("", "", "--count")).toMatchObject({ code: 0, stdout: "0\n" });
    expect(nodes("-", "", "--count")).toMatchObject({ code: 0, stdout: "0\n" });
    expect(nodes("-", "\n", "--expand")).toEqual({ code: 0, stdout: "", stderr: "" });
    const exec = tool(["mt-tree", "exec", "", "--", "true"], "", "made");
    expect([exec.code, exec.stdout]).toEqual([64, ""]);
    expect(exec.stderr).toContain("no host is in it");
    expect(nodes("x".repeat(256))).toMatchObject({ code: 64 });
  });

  test("wildcards mean hosts of the tree", () => {
    const without = nodes("kn*");
    expect([without.code, without.stdout]).toEqual([69, ""]);
    expect(without.stderr).toContain('Cannot match "kn*": no tree is up here');
    mkdirSync(join(work, "made/tree"), { recursive: true, mode: 0o700 });
    const hosts = ["kn1", "kn2", "gw.a-b", "foo1"].map((id) => ({ id }));
    writeFileSync(join(work, "made/tree/tree.json"), JSON.stringify({ hosts }), { mode: 0o600 });
    const means = (set: string) => nodes(set).stdout.trim();
    expect(["kn*", "f?o[1]", "*", "*!kn?", "zz*", "*.*"].map(means)).toEqual([
      ...["kn[1-2]", "foo1", "kn[1-2],gw.a-b,foo1", "gw.a-b,foo1", "", "gw.a-b"],
    ]);
  });
});

describe.skipIf(process.getuid?.() !== 0)("hosts with the names of a cloud (needs root)", () => {
  const cloud = "mtnip-10-0-12-34.eu-central-1.compute.internal";
  // Longer than a certificate's name may be, and than a file's name with a prefix.
  const longest = `mtn-${"x".repeat(251)}`;
  const end = (counts: object) => `${JSON.stringify({ kind: "end", id: "mtn", counts })}\n`;
  afterAll(() => void tool(["mt-tree", "down"]));

  test("a tree of them runs commands, is placed on, and holds a router", { timeout: 120_000 }, () => {
    const up = tool(["mt-tree", "up", `${cloud},${longest}`, "--via", "local", "--port", "7493"]);
    expect([up.code, up.stderr]).toEqual([0, ""]);
    expect(expectRecords(up.stdout).map((h) => [h.id, h.state])).toEqual([
      [cloud, "up"],
      [longest, "up"],
    ]);
    const exec = expectRecords(tool(["mt-tree", "exec", "mtn*", "--", "sh", "-c", "echo $MT_HOST"]).stdout);
    expect(exec.map((e) => [e.id, e.stdout]).sort()).toEqual(
      [
        [longest, `${longest}\n`],
        [cloud, `${cloud}\n`],
      ].sort(),
    );
    const ring = tool(["mt-topo", "gen", "ring", "--routers", "4", "--id", "mtn"]).stdout;
    const placed = tool(["mt-topo", "place", "@all"], ring);
    expect([placed.code, placed.stderr]).toEqual([0, ""]);
    const built = tool(["mt-tree", "map", "--", "mt-vnet", "up"], placed.stdout);
    expect([built.code, built.stderr]).toEqual([0, ""]);
    const routers = expectRecords(built.stdout).filter((r) => r.kind === "router");
    expect(new Set(routers.map((r) => r.host))).toEqual(new Set([cloud, longest]));
    expect(routers.some((r) => r.error)).toBe(false);
    const gone = tool(["mt-tree", "map", "--", "mt-vnet", "down"], placed.stdout);
    expect([gone.code, gone.stderr]).toEqual([0, ""]);
    // mt-tree status exits 1 where a host is missing: the others are known all the same, and it gets nothing.
    const [pid] = expectRecords(
      tool(["mt-tree", "exec", cloud, "--", "sh", "-c", 'cat "$MT_RUN/tree/agent.pid"']).stdout,
    );
    process.kill(Number(pid!.stdout), "SIGKILL");
    for (let n = 0; n < 100 && tool(["mt-tree", "status", "--records"]).code === 0; n++);
    const rest = tool(["mt-topo", "place", `${cloud},${longest}`], ring);
    expect([rest.code, rest.stderr]).toEqual([0, expect.stringContaining(`nothing is placed on ${cloud}`)]);
    const hosts = expectRecords(rest.stdout).filter((r) => r.kind === "host");
    expect(hosts.map((h) => [h.id, h.addr])).toEqual([[longest, expectRecords(up.stdout)[1]!.addr]]);
    const down = tool(["mt-tree", "down"]);
    expect([down.code, down.stderr]).toEqual([0, ""]);
    const left = spawnSync("ip", ["netns", "list"], { encoding: "utf8" }).stdout;
    expect(left).not.toContain("mtn");
    expect(existsSync(join(work, "run/tree/tree.json"))).toBe(false);
  });

  test("a record for them travels, and one for a longer name is refused", () => {
    const router = (host: string) =>
      `${JSON.stringify({ kind: "router", id: "r0", host, index: 0, engine: "bird", protocol: "ospf", interfaces: [] })}\n`;
    const one = tool(["mt-topo", "import", "-"], router(longest) + end({ router: 1 }));
    expect([one.code, one.stderr]).toEqual([0, ""]);
    const other = tool(["mt-topo", "import", "-"], router(`${longest}x`) + end({ router: 1 }));
    expect(other.code).toBe(65);
    expect(other.stderr).toContain("router host: expected string length less or equal to 255");
  });
});
