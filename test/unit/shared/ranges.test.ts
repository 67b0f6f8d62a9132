import { describe, expect, test } from "vitest";
import {
  expandSet,
  fold,
  formatRange,
  memberAt,
  members,
  parseRange,
  parseSet,
  positionIn,
  RANGE_COUNT_MAX,
  rangeCount,
  setHas,
  sliceRange,
} from "../../../shared/nodeset/ranges.ts";

const range = (text: string) => parseRange(text)._unsafeUnwrap();

describe("what is a range", () => {
  test.each([
    ["chi", ["chi"]],
    ["a.b_c-d", ["a.b_c-d"]],
    ["_x", ["_x"]],
    ["7", ["7"]],
    ["g[0-3]", ["g0", "g1", "g2", "g3"]],
    ["g[5]", ["g5"]],
    ["g[0,2,4-5]", ["g0", "g2", "g4", "g5"]],
    ["g[5,1-2]", ["g5", "g1", "g2"]],
    ["kn[08-11]", ["kn08", "kn09", "kn10", "kn11"]],
    ["kn[008-010]", ["kn008", "kn009", "kn010"]],
    ["kn[8-11]", ["kn8", "kn9", "kn10", "kn11"]],
    ["r[1-2]-east", ["r1-east", "r2-east"]],
    ["[1-2].x", ["1.x", "2.x"]],
  ])("%s", (text, expected) => {
    const r = range(text);
    expect([...members(r)]).toEqual(expected);
    expect(rangeCount(r)).toBe(expected.length);
    expect(expected.map((_, k) => memberAt(r, k))).toEqual(expected);
    expect(expected.map((name) => positionIn(r, name))).toEqual(expected.map((_, k) => k));
  });

  test.each([
    ["", /empty/],
    ["../x", /character/],
    ["..", /character/],
    [".", /character/],
    ["a/b", /character/],
    ["/etc/passwd", /character/],
    ["-x", /character/],
    ["a;b", /character/],
    ["a b", /character/],
    ["a\n", /character/],
    ["a\nb", /character/],
    ["a\0", /character/],
    ["$(id)", /character/],
    ["gäst", /character/],
    ["ｇ1", /character/],
    ["g\u200b", /character/],
    ["g٣", /character/],
    ["x".repeat(41), /41 characters/],
    ["x".repeat(300), /300 characters/],
    [`${"x".repeat(39)}[8-10]`, /40 characters/],
    ["g[", /\[ without \]/],
    ["g[]", /no number/],
    ["g[a]", /no number/],
    ["g[1-]", /no number/],
    ["g[-1]", /no number/],
    ["g[1--2]", /no number/],
    ["g[1,]", /no number/],
    ["g[ 1]", /no number/],
    ["g[1e3]", /no number/],
    ["g[٣]", /no number/],
    ["g[3-1]", /counts down/],
    ["g[1-3,2]", /2 stands in it twice/],
    ["g[2,2]", /2 stands in it twice/],
    ["g[1][2]", /character/],
    ["-g[1-2]", /character/],
    [".[1-2]", /character/],
    ["g[1-2]/x", /character/],
    ["g[1-2]\n", /character/],
    ["g]1[", /\[ without \]/],
  ])("%j is none", (text, why) => {
    const refused = parseRange(text)._unsafeUnwrapErr();
    expect(refused.code).toBe("data");
    expect(refused.message).toMatch(why);
    // The message stays one short line, whatever came.
    expect(refused.message).not.toContain("\n");
    expect(refused.message.length).toBeLessThan(150);
  });

  test("40 characters a name are allowed, in the longest member too", () => {
    expect(parseRange("x".repeat(40)).isOk()).toBe(true);
    expect(parseRange(`${"x".repeat(38)}[8-10]`).isOk()).toBe(true);
  });

  test("too many members are refused before any is made", () => {
    const before = performance.now();
    expect(parseRange("g[0-999999999]")._unsafeUnwrapErr().message).toMatch(/1000000000 members/);
    expect(parseRange("g[0-999999999999999]").isErr()).toBe(true);
    expect(parseSet("a[0-9999999],b[0-9999999]").isErr()).toBe(true);
    expect(expandSet("a[0-9999999],b[0-9999999]").isErr()).toBe(true);
    expect(performance.now() - before).toBeLessThan(100);
  });

  test("the largest range costs as much as a small one", () => {
    const before = performance.now();
    const r = range(`g[0-${RANGE_COUNT_MAX - 1}]`);
    expect(rangeCount(r)).toBe(RANGE_COUNT_MAX);
    expect(memberAt(r, 8_765_432)).toBe("g8765432");
    expect(positionIn(r, "g8765432")).toBe(8_765_432);
    expect(formatRange(sliceRange(r, 1_000_000, 2))).toBe("g[1000000-1000001]");
    expect(performance.now() - before).toBeLessThan(100);
  });
});

describe("slices", () => {
  test.each([
    ["g[0-9]", 0, 10, "g[0-9]"],
    ["g[0-9]", 3, 4, "g[3-6]"],
    ["g[0-9]", 9, 1, "g9"],
    ["g[0-3,7,9-12]", 3, 4, "g[3,7,9-10]"],
    ["g[0-3,7,9-12]", 4, 1, "g7"],
    ["kn[08-11]", 1, 2, "kn[09-10]"],
    ["kn[008-011]-x", 0, 1, "kn008-x"],
  ])("%s from %d, %d members: %s", (text, from, count, expected) => {
    expect(formatRange(sliceRange(range(text), from, count))).toBe(expected);
  });

  test("every slice has the members that its place says", () => {
    const r = range("a[01-03,7,10-12]z");
    const all = [...members(r)];
    for (let from = 0; from < all.length; from++)
      for (let n = 1; from + n <= all.length; n++)
        expect([...members(range(formatRange(sliceRange(r, from, n))))]).toEqual(all.slice(from, from + n));
  });
});

describe("fold", () => {
  test.each([
    [
      ["kn1", "kn2", "kn4", "gw"],
      ["kn[1-2,4]", "gw"],
    ],
    [["g3", "g1", "g2"], ["g[1-3]"]],
    [["g1", "g1"], ["g1"]],
    [["g1"], ["g1"]],
    [
      ["a1x", "a2x", "a1y"],
      ["a[1-2]x", "a1y"],
    ],
    [["kn01", "kn02"], ["kn[01-02]"]],
    [["gw"], ["gw"]],
    [[], []],
  ])("%j → %j", (names, expected) => {
    expect(fold(names)).toEqual(expected);
  });

  test("and back again: the same names, whatever they look like", () => {
    const sets = [
      ["kn1", "kn01", "kn001", "kn10", "kn010"],
      ["a9", "a10", "a09", "a99", "a100"],
      ["x.1", "x.2", "x-1", "x_1", "1", "2", "01"],
      ["g123456789012345678", "g123456789012345679"],
      Array.from({ length: 300 }, (_, i) => `g${(i * 7) % 1000}`),
    ];
    for (const names of sets)
      expect(expandSet(fold(names).join(","))._unsafeUnwrap().sort()).toEqual([...new Set(names)].sort());
  });
});

describe("sets", () => {
  test.each([
    ["kn[1-3],gw", ["kn1", "kn2", "kn3", "gw"]],
    ["kn[1,3],kn[2-3]", ["kn1", "kn3", "kn2"]],
    [" a , b ", ["a", "b"]],
  ])("%s", (text, expected) => {
    expect(expandSet(text)._unsafeUnwrap()).toEqual(expected);
  });

  test.each([["a,"], [",a"], ["a,,b"], ["a,../b"], ["a b"], ["a[1,b"], ["a],b["]])("%j is none", (text) => {
    expect(expandSet(text).isErr()).toBe(true);
  });

  test("membership does without expanding, and takes no other spelling", () => {
    const set = parseSet("kn[1-999999],n[01-16],gw")._unsafeUnwrap();
    for (const name of ["kn1", "kn999999", "n01", "n16", "gw"]) expect(setHas(set, name), name).toBe(true);
    for (const name of ["kn0", "kn01", "n1", "n17", "kn", "kn-1", "kn1e3", "gw1", "", "kn1000000", "xkn1"])
      expect(setHas(set, name), name).toBe(false);
  });
});
