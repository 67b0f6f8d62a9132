import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { graphOf } from "../../../tools/mt-topo/formats/gml/graph.ts";
import { firstOf, parseGml } from "../../../tools/mt-topo/formats/gml/parse.ts";
import { decodeText } from "../../../tools/mt-topo/formats/other.ts";
import { delayBetween } from "../../../tools/mt-topo/graph.ts";
import { linkName, slug, UniqueNames } from "../../../tools/mt-topo/plan/names.ts";
import { routedFrom } from "../../../tools/mt-topo/plan/routed.ts";

const fixture = (name: string) => readFileSync(new URL(`../../fixtures/topologies/${name}`, import.meta.url));
const graphIn = (text: string) => parseGml(text).andThen(graphOf);
const errorOf = (text: string) => graphIn(text)._unsafeUnwrapErr().message;

describe("GML", () => {
  it("reads lists, numbers, strings over lines, comments and repeated keys", () => {
    const root = parseGml('# c\r\na [ x 1 x -2.5E+1 x .5 s "1\r\n# 2" ]')._unsafeUnwrap();
    expect(firstOf(root, "A")).toMatchObject({
      pairs: [
        ["x", 1],
        ["x", -25],
        ["x", 0.5],
        ["s", "1\r\n# 2"],
      ],
    });
  });

  it("decodes entities and leaves what is none", () => {
    const root = parseGml('s "&amp;&#38;&#x26;&eacute;&szlig; &nosuch; AT&T &#0;"')._unsafeUnwrap();
    expect(firstOf(root, "s")).toBe("&&&éß &nosuch; AT&T &#0;");
  });

  it("says the line of what is wrong", () => {
    expect(errorOf("graph [\n node [ id 1 ]\n")).toContain(
      "line 3: the file ends inside a list that began at line 1",
    );
    expect(errorOf('graph [\n label "x ]')).toContain("line 2: a string begins here and never ends");
    expect(errorOf("graph [\n node [ id foo ] ]")).toContain("line 2: id has no value");
    expect(errorOf("graph [ ]\n]")).toContain("line 2: ] without a [");
    expect(errorOf("graph [\n\nnode [ id 1x ] ]")).toContain("line 3");
    expect(errorOf("graph [\nnode [ id 1 ]\nedge [ source 1 target 9 ] ]")).toContain(
      "line 3: target 9 is no node",
    );
    expect(errorOf("graph [ node [ id 1 ]\nnode [ id 1 ] ]")).toContain("line 2: node 1 is there twice");
    expect(errorOf("graph [ ]")).toContain("the graph has no node");
    expect(errorOf("")).toContain("it has no graph");
  });

  it("nests deeper than a call stack", () => {
    const depth = 200_000;
    expect(parseGml(`${"a [ ".repeat(depth)}${"] ".repeat(depth)}`).isOk()).toBe(true);
  });

  it("takes a file with everything real ones have", () => {
    const graph = graphIn(decodeText(fixture("awkward.gml")))._unsafeUnwrap();
    expect(graph.label).toBe("São Paulo & Friends");
    expect(graph.notes).toEqual([
      "1 link from a node to itself left out",
      "1 node: Latitude out of range: 200 (first: line 10)",
      '1 edge: bandwidth not understood: "fast" (first: line 18)',
    ]);
    const { routers, segments } = routedFrom(graph)._unsafeUnwrap();
    expect(routers.map((r) => r.id)).toEqual([
      "sao-paulo",
      "a-b-e",
      "sao-paulo-2",
      "n4",
      "n4-2",
      "a-long-label-that-goes-on-and-on-and-on",
      "a-long-label-that-goes-on-and-on-and-o-2",
    ]);
    expect(routers[0]).toMatchObject({ label: "São Paulo", latitude: -23.5505, longitude: -46.63 });
    expect(routers[2]).not.toHaveProperty("latitude");
    expect(segments.map((s) => [s.id, s.vni, s.prefix, s.rate_mbit])).toEqual([
      ["sao-paulo-a-b-e", 1, "10.255.0.0/31", 1000],
      ["sao-paulo-a-b-e-2", 2, "10.255.0.2/31", 2500],
      [expect.stringMatching(/^.{40}$/), 3, "10.255.0.4/31", undefined],
      ["sao-paulo-a-long-label-that-goes-on-and-", 4, "10.255.0.6/31", undefined],
    ]);
    // Both ends have coordinates: 0 ms apart, but known.
    expect(segments[2]!.delay_ms).toBe(0);
    expect(segments[0]).not.toHaveProperty("delay_ms");
    expect(routers[1]!.interfaces).toEqual([
      { segment: "sao-paulo-a-b-e", ip: "10.255.0.1/31", peer: "sao-paulo" },
      { segment: "sao-paulo-a-b-e-2", ip: "10.255.0.3/31", peer: "sao-paulo" },
    ]);
  });
});

describe("a directed graph", () => {
  const text = decodeText(fixture("directed.gml"));
  const linksOf = (gml: string) =>
    graphIn(gml)
      ._unsafeUnwrap()
      .links.map(({ a, b }) => `${a}-${b}`);

  it("has one link where there are edges both ways, as slow as the slower one", () => {
    const graph = graphIn(text)._unsafeUnwrap();
    expect(linksOf(text)).toEqual(["0-1", "1-2", "2-3", "3-0", "3-0"]);
    expect(graph.links[0]).toMatchObject({ rate_mbit: 1 });
    expect(graph.notes).toEqual(["1 link has another rate each way: the slower one is taken"]);
    const { routers } = routedFrom(graph)._unsafeUnwrap();
    expect(routers.map((r) => r.interfaces.map((i) => i.peer))).toEqual([
      ["b", "d", "d"],
      ["a", "c"],
      ["b", "d"],
      ["c", "a", "a"],
    ]);
  });

  it("keeps every edge where it is a multigraph, or not directed", () => {
    expect(linksOf(text.replace("directed 1", "directed 1 multigraph 1"))).toHaveLength(8);
    expect(linksOf(text.replace("directed 1", "directed 0"))).toHaveLength(8);
  });
});

describe("names", () => {
  it("are readable, valid and unique, also where suffixes meet labels", () => {
    expect(["New York", "Zürich", "Łódź", "Washington, D.C.", "東京"].map(slug)).toEqual([
      "new-york",
      "zurich",
      "lodz",
      "washington-d-c",
      "",
    ]);
    const names = new UniqueNames();
    expect(["a", "a-2", "a", "a"].map((n) => names.take(n))).toEqual(["a", "a-2", "a-3", "a-4"]);
    expect(linkName("a".repeat(40), "b")).toBe(`${"a".repeat(38)}-b`);
    expect(linkName("a".repeat(40), "b".repeat(40))).toHaveLength(40);
  });

  it("stay linear where all labels are equal", () => {
    const names = new UniqueNames();
    const began = performance.now();
    for (let i = 0; i < 100_000; i++) names.take("none");
    expect(names.take("none")).toBe("none-100001");
    expect(performance.now() - began).toBeLessThan(3000);
  });
});

it("delay is the great circle at two thirds of the speed of light", () => {
  // A quarter of the meridian is 10,007.5 km: 50.07 ms.
  const at = (latitude: number) => ({ name: "", latitude, longitude: 0 });
  expect(delayBetween(at(0), at(90))).toBe(50.07);
  expect(delayBetween(at(0), { name: "" })).toBeUndefined();
});

it("link prefixes go on in 100.64.0.0/10 after 32,768", () => {
  const nodes = [{ name: "a" }, { name: "b" }];
  const links = Array.from({ length: 32_769 }, () => ({ a: 0, b: 1 }));
  const { segments } = routedFrom({ nodes, links, notes: [] })._unsafeUnwrap();
  expect(segments[32_767]!.prefix).toBe("10.255.255.254/31");
  expect(segments[32_768]!.prefix).toBe("100.64.0.0/31");
  expect(new Set(segments.map((s) => s.id)).size).toBe(32_769);
});
