/** The compiled mt-topo import on real files: GML of other programs, other encodings, other formats. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { expectRecords, type Rec } from "../support/records.ts";

const MT_TOPO = resolve("dist/mt-topo");
const dir = mkdtempSync(join(tmpdir(), "mtt-import-"));
afterAll(() => rmSync(dir, { recursive: true }));

function importing(name: string, content: string | Buffer, ...flags: string[]) {
  writeFileSync(join(dir, name), content);
  return imported(name, ...flags);
}
function imported(name: string, ...flags: string[]) {
  const done = spawnSync(MT_TOPO, ["import", name, ...flags], {
    cwd: dir,
    encoding: "utf8",
    input: "",
    timeout: 60_000,
    maxBuffer: 2 ** 28,
  });
  const records: Rec[] = done.status === 0 ? expectRecords(done.stdout) : [];
  const of = (kind: string) => records.filter((r) => r.kind === kind);
  return { code: done.status, stdout: done.stdout, stderr: done.stderr, of };
}
const A_B = 'graph [\n node [ id 0 label "a" ]\n node [ id 1 label "b" ]\n edge [ source 0 target 1 ]\n]\n';
const big = (text: string) => Buffer.from(text, "utf16le").swap16();

describe("the same graph", () => {
  test.each<[string, string | Buffer]>([
    ["bom.gml", `\uFEFF${A_B}`],
    ["crlf.gml", A_B.replaceAll("\n", "\r\n")],
    ["cr.gml", `# made by hand\r${A_B.replaceAll("\n", "\r")}`],
    ["utf16le.gml", Buffer.from(`\uFEFF${A_B}`, "utf16le")],
    ["utf16be.gml", big(`\uFEFF${A_B}`)],
    ["utf16le-unmarked.gml", Buffer.from(A_B, "utf16le")],
    ["utf16be-unmarked.gml", big(A_B)],
    ["packed.gml.gz", gzipSync(A_B)],
    ["packed", gzipSync(Buffer.from(A_B, "utf16le"))],
    ["tight.gml", 'graph[node[id 0 label"a"]node[id 1 label"b"]edge[source 0 target 1]]'],
    ["creator.gml", `Creator "x"\nVersion 1\n# c [ " ]\n${A_B.replace("[ id 1", "[ # here\n id 1")}# end`],
    ["numbers.gml", A_B.replace("id 0", "id +0.0").replace("target 1", "target 1.0")],
    ["infinite.gml", A_B.replace('"a"', '"a" x NaN y -Inf z +infinity w 1.#QNAN v -nan(ind) u INF inf 3')],
    ["boolean.gml", A_B.replace("graph [", "graph [ directed false weighted True")],
    ["deep.gml", A_B.replace('"a"', `"a" ${"x [ ".repeat(100_000)}${"] ".repeat(100_000)}`)],
    [
      "igraph.gml",
      `Creator "igraph version 0.10.2"\nVersion 1\n${A_B.replace("graph [", "graph\n[\n  directed 0\n")}`,
    ],
    ["utf16.plan", Buffer.from(plan(), "utf16le")],
    ["marked.jsonl", `\uFEFF${plan()}`],
  ])("%s", (name, content) => {
    const { code, of, stderr } = importing(name, content);
    expect([code, stderr]).toEqual([0, ""]);
    expect(of("router").map((r) => r.id)).toEqual(["a", "b"]);
    expect(of("segment").map((r) => r.id)).toEqual(["a-b"]);
  });

  function plan() {
    const router = (id: string) =>
      `{"kind":"router","id":"${id}","engine":"bird","protocol":"ospf","interfaces":[{"segment":"a-b","ip":"10.255.0.${id === "a" ? 0 : 1}/31"}]}\n`;
    return `{"kind":"segment","id":"a-b"}\n${router("a")}${router("b")}`;
  }
});

test("quotes and backslashes in strings, as programs write them", () => {
  const labels = (text: string) => {
    const { of, code } = importing("labels.gml", text);
    return [code, ...of("router").map((r) => r.label)];
  };
  const with_label = (label: string) => A_B.replace('"a"', `"${label}"`);
  expect(labels(with_label('say \\"hi\\" now'))).toEqual([0, 'say "hi" now', "b"]);
  expect(labels(with_label("say &quot;hi&quot; now"))).toEqual([0, 'say "hi" now', "b"]);
  expect(labels(with_label("C:\\"))).toEqual([0, "C:\\", "b"]);
  expect(labels(with_label("C:\\x \\\\ \\n"))).toEqual([0, "C:\\x \\\\ \\n", "b"]);
});

describe("ids", () => {
  test("beyond 2^53 stay what they are", () => {
    const [a, b] = ["9007199254740992", "9007199254740993"];
    const { code, of } = importing(
      "large.gml",
      `graph [ node [ id ${a} label "a" ] node [ id ${b} label "b" ] edge [ source ${a} target +${b}.0 ] ]`,
    );
    expect([code, of("segment").map((s) => s.id)]).toEqual([0, ["a-b"]]);
  });

  test.each([
    ["two sources", "edge [ source 0\n source 1 target 0 ]", "line 2: an edge with two sources, 0 and 1"],
    ["the same target twice", "edge [ source 0 target 1\n\n target 1 ]", "line 3: an edge with two targets"],
    ["two ids", "node [ id 5\n id 6 ]", "line 2: a node with two ids, 5 and 6"],
    [
      "an edge to no node",
      "edge [ source 0\n target 9007199254740993 ]",
      "line 2: target 9007199254740993 is no node",
    ],
    ["a node twice", "\nnode [ id 1.0 ]", "line 2: node 1 is there twice"],
    ["NaN", "\nnode [ id NaN ]", "line 2: id has no value: NaN is no id"],
    ["no id", "node [ label 3 ]", "line 1: a node without id"],
    ["half a number", "node [ id 1x ]", "line 1: id has no value: 1x is no number"],
  ])("%s: refused, with the line", (_, text, why) => {
    const nodes = "graph [ node [ id 0 ] node [ id 1 ] ";
    const { code, stderr, stdout } = importing("ids.gml", `${nodes}${text} ]`);
    expect([code, stdout]).toEqual([65, ""]);
    expect(stderr).toContain(why);
  });
});

describe("what it is instead", () => {
  test.each<[string, string | Buffer, RegExp]>([
    [
      "graphml.gml",
      '<?xml version="1.0"?>\r\n<graphml><graph/></graphml>',
      /it is GraphML\n.*hint: .*networkx/,
    ],
    ["x.gexf", '<?xml version="1.0"?><!-- c --><gexf/>', /it is GEXF/],
    ["login.gml", "<!DOCTYPE html>\n<html><body>Sign in</body></html>", /it is a page of HTML\n.*login/],
    ["other.xml", "<?xml version='1.0'?><network/>", /it is XML \(<network>\)/],
    ["a.svg", "<svg/>", /SVG/],
    ["node-link.json", '{\n "nodes": [{"id": 1}],\n "links": []\n}', /a graph as one JSON document/],
    ["node-link.gml", '{"nodes":[],"links":[]}', /a graph as one JSON document/],
    ["list.json", '[{"kind":"router"}]', /one JSON document, not lines/],
    ["lines.gml", '{"kind":"router","id":"a"}\n', /it is JSON lines\n.*--format native/],
    ["graph.jsonl", A_B, /it is GML\n.*--format gml/],
    ["a.dot", "// c\ndigraph G {\n a -> b\n}", /a graph in DOT/],
    ["b.dot", "strict graph { a -- b }", /a graph in DOT/],
    ["a.net", "*Vertices 3\n1 a\n", /Pajek/],
    ["edges.csv", "a,b\nb,c\n", /list of edges or a table/],
    ["a.yml", "name: x\ntopology:\n  nodes:\n", /YAML/],
    ["b.clab.yml", "# lab\n\nname: clos\nx: 1\n", /YAML/],
    ["README.md", "# Files\n\n| a | b |\n| --- | --- |\n", /it has no graph \[/],
    ["words.gml", "hello world, this is text", /it has no graph \[/],
    ["pointer.gml", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", /Git LFS/],
    ["a.zip", Buffer.from("504b030414000000", "hex"), /a zip archive\n.*unzip -p/],
    ["a.bz2", Buffer.from("425a6839314159", "hex"), /compressed with bzip2/],
    ["a.xz", Buffer.from("fd377a585a0000", "hex"), /compressed with xz/],
    ["a.zst", Buffer.from("28b52ffd0458", "hex"), /compressed with zstd/],
    ["cut.gml.gz", gzipSync(A_B).subarray(0, 30), /gzip, and cut off or damaged/],
    ["zip-in.gz", gzipSync(Buffer.from("504b030414000000", "hex")), /a zip archive/],
    ["a.pdf", "%PDF-1.4\n", /a PDF document/],
    ["a.png", Buffer.from("89504e470d0a1a0a", "hex"), /a PNG picture/],
    ["utf32.gml", Buffer.from("fffe000067000000", "hex"), /UTF-32/],
    ["noise.gml", Buffer.from([1, 2, 0, 0, 7]), /it is no text/],
    ["empty.gml", "", /it is empty/],
    ["blank.jsonl", " \n\n", /it is empty/],
    ["twice.gml", A_B + A_B, /it has 2 graphs, at lines 1, 6/],
    ["none.gml", "Creator 1", /it has no graph/],
  ])("%s", (name, content, why) => {
    const { code, stderr, stdout } = importing(name, content);
    expect([code, stdout]).toEqual([65, ""]);
    expect(stderr).toMatch(why);
    expect(stderr).not.toContain("is no key");
  });

  test("a directory, and a device that never ends", () => {
    mkdirSync(join(dir, "d.gml"));
    expect(imported("d.gml")).toMatchObject({
      code: 65,
      stderr: expect.stringContaining("it is a directory"),
    });
    expect(imported("/dev/zero")).toMatchObject({
      code: 65,
      stderr: expect.stringContaining("it is no text"),
    });
    expect(imported("/dev/null")).toMatchObject({ code: 65, stderr: expect.stringContaining("it is empty") });
  });
});

test("attributes are read where they are plain, and told where not, one line a kind", () => {
  const { code, of, stderr } = importing(
    "attributes.gml",
    `graph [
 node [ id 0 label "a" Latitude "48,85" Longitude 2,35 ]
 node [ id 1 label "b" lat "48.85N" lon "2.35 E" ]
 node [ id 2 label "c" Latitude 100 Longitude 3 ]
 node [ id 3 label "d" Latitude -91 Longitude 3 ]
 node [ id 4 label "e" Longitude 3 label "f" ]
 edge [ source 0 target 1 bandwidth "10 Gbps" delay "5.2 ms" loss "1 %" ]
 edge [ source 0 target 2 LinkSpeed "155" LinkSpeedUnits "M" LinkLabel "155 Mbps" ]
 edge [ source 0 target 3 LinkLabel "OC-3" delay "fast" ]
 edge [ source 0 target 4 LinkLabel "Lit Fibre" delay "slow" ]
 edge [ source 1 target 2 capacity_gbps 10 LATENCY 300us ]
 edge [ source 1 target 3 capacity 10 delay -1 ]
 edge [ source 1 target 4 bandwidth 1e9 LinkSpeedRaw 1e10 delay 7 ]
]`,
  );
  expect(code).toBe(0);
  expect(of("router").map((r) => r.latitude)).toEqual([48.85, 48.85, undefined, undefined, undefined]);
  expect(of("segment").map((s) => [s.rate_mbit, s.delay_ms, s.loss])).toEqual([
    [10_000, 5.2, 0.01],
    [155, undefined, undefined],
    [155.52, undefined, undefined],
    [undefined, undefined, undefined],
    [10_000, 0.3, undefined],
    [undefined, undefined, undefined],
    [1000, 7, undefined],
  ]);
  expect(stderr.trim().split("\n")).toEqual([
    "mt-topo: 2 nodes: Latitude out of range: 100 (first: line 4)",
    "mt-topo: 1 node: label is there twice, the first is taken (first: line 6)",
    "mt-topo: 1 node: Longitude alone, without its other coordinate, is left out (first: line 6)",
    'mt-topo: 2 edges: delay not understood: "fast" (first: line 9)',
    "mt-topo: 1 edge: capacity without a unit: 10 (first: line 12)",
    "mt-topo: 1 edge: delay negative: -1 (first: line 12)",
    "mt-topo: 1 edge: bandwidth and LinkSpeedRaw tell different rates, the first is taken (first: line 13)",
    "mt-topo: 1 edge: delay without a unit, read as ms: 7 (first: line 13)",
  ]);
});

test("what is told has a bound, whatever the keys of a file", () => {
  const letters = [..."bandwidth"];
  const keys = Array.from({ length: 300 }, (_, n) =>
    letters.map((c, i) => ((n >> i) & 1 ? c.toUpperCase() : c)).join(""),
  );
  const edges = keys.map((key) => `edge [ source 0 target 1 ${key} "fast" ]`).join("\n");
  const { code, stderr } = importing("keys.gml", `graph [ node [ id 0 ] node [ id 1 ]\n${edges} ]`);
  expect(code).toBe(0);
  expect(stderr.trim().split("\n")).toHaveLength(21);
  expect(stderr).toMatch(/and 280 kinds of such things more\n$/);
});

test("JSON lines: another program's names for our fields are told", () => {
  const { code, stderr, of } = importing(
    "misnamed.jsonl",
    '{"kind":"segment","id":"a","delay":"5 ms"}\n{"kind":"segment","id":"b","delay":3,"delay_ms":3}\n{"kind":"segment","id":"c","bandwidth":1}\n',
  );
  expect([code, of("segment").length]).toEqual([0, 3]);
  expect(stderr).toBe(
    "mt-topo: 1 segment: delay does nothing: the field is delay_ms (first: line 1)\n" +
      "mt-topo: 1 segment: bandwidth does nothing: the field is rate_mbit (first: line 3)\n",
  );
});

describe("a graph in parts", () => {
  test("is taken, and told with sizes and names, in one line", () => {
    const nodes = Array.from({ length: 60 }, (_, i) => `node [ id ${i} label "r${i}" ]`).join("\n");
    const { code, stderr, of } = importing(
      "parts.gml",
      `graph [ ${nodes} edge [ source 0 target 1 ] edge [ source 1 target 2 ] edge [ source 5 target 6 ] ]`,
    );
    expect([code, of("router").length]).toEqual([0, 60]);
    expect(stderr).toBe(
      "mt-topo: the graph is in 57 parts with no link between them, of 3, 2, 55 × 1 routers; not with the largest: r5, r6, r3, r4, r7, r8, r9, r10 and 49 more\n",
    );
  });

  test("routers reach their own part, and the check asks only pairs that can be", () => {
    writeFileSync(
      join(dir, "apart.gml"),
      'graph [ node [ id 0 label "a" ] node [ id 1 label "b" ] node [ id 2 label "alone" ] edge [ source 0 target 1 ] ]',
    );
    writeFileSync(
      join(dir, "hosts.jsonl"),
      '{"kind":"host","id":"mttparts","addr":"10.254.0.1","cores":2,"mem_mib":2000}\n',
    );
    const env = {
      ...process.env,
      MT_HOST: "mttparts",
      MT_RUN: join(dir, "run"),
      MT_STATE: join(dir, "state"),
    };
    const sh = (line: string, input = "") =>
      spawnSync("bash", ["-c", line], { cwd: dir, env, input, encoding: "utf8", timeout: 60_000 });
    const bin = resolve("dist");
    const plan = sh(
      `${bin}/mt-topo import apart.gml | ${bin}/mt-topo guests 6 --image tux | ${bin}/mt-topo place hosts.jsonl`,
    );
    expect(plan.status).toBe(0);
    const records = expectRecords(plan.stdout);
    const routers = records.filter((r) => r.kind === "router");
    expect(routers.map((r) => (r.reaches as { prefixes: number }).prefixes)).toEqual([3, 3, 1]);
    // As if all were up: no guest answers here, but the verdict says which were asked.
    const states: Record<string, string> = { router: "converged", guest: "ready" };
    const up = records.map((r) => ({ ...r, ...(states[r.kind] ? { state: states[r.kind] } : {}) }));
    const checked = sh(
      `${bin}/mt-status check --timeout 10`,
      up.map((r) => `${JSON.stringify(r)}\n`).join(""),
    );
    const verdict = expectRecords(checked.stdout).find((r) => r.kind === "verdict");
    expect(verdict).toMatchObject({ pairs_tried: 6, pairs_left_out: 8 });
    const part = (guest: string) => (guest === "g4" || guest === "g5" ? "alone" : "joined");
    for (const [from, to] of verdict!.unreached as [string, string][]) expect(part(from)).toBe(part(to));
  });

  test("groups of an editor are no routers, and edges to them no links", () => {
    const { code, stderr, of } = importing(
      "yed.gml",
      `Creator "yFiles"\nVersion "2.17"\ngraph [ hierarchic 1 label "" directed 1
 node [ id 0 label "Site" graphics [ x 1.0 type "roundrectangle" ] isGroup 1 ]
 node [ id 1 label "a" gid 0 ] node [ id 2 label "b" gid 0 ]
 edge [ source 1 target 2 ] edge [ source 0 target 2 ] ]`,
    );
    expect([code, of("router").map((r) => r.id)]).toEqual([0, ["a", "b"]]);
    expect(of("segment")).toHaveLength(1);
    expect(stderr).toBe(
      "mt-topo: 1 group of an editor left out: it is no router\nmt-topo: 1 edge to a group left out\n",
    );
  });
});
