/** Node sets: their meaning, that folding keeps every name, which are refused and at which character, groups and their files. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { foldNodes, foldTerms } from "../../../shared/nodeset/fold.ts";
import { groupResolver, namedHosts, nodesNamed, readGroups } from "../../../shared/nodeset/groups.ts";
import { expandNodes, NODES_MAX } from "../../../shared/nodeset/nodeset.ts";
import { tempDir, withEnv } from "./fixtures.ts";

const names = (text: string) => [...expandNodes(text)._unsafeUnwrap()];
const refused = (text: string) => expandNodes(text)._unsafeUnwrapErr();
const times = (n: number, name: (i: number) => string) => Array.from({ length: n }, (_, i) => name(i));

describe("what a set means", () => {
  test.each([
    ["kn1", "kn1"],
    ["kn[1-3],gw", "kn1 kn2 kn3 gw"],
    ["kn[001-003]", "kn001 kn002 kn003"],
    ["kn[8-11]", "kn8 kn9 kn10 kn11"],
    ["kn[98-101/3]", "kn98 kn101"],
    ["kn[0-10/5,3]", "kn0 kn5 kn10 kn3"],
    ["kn[01-07/3]-ib", "kn01-ib kn04-ib kn07-ib"],
    ["r[1-2]n[01-02]", "r1n01 r1n02 r2n01 r2n02"],
    ["[1-2].[3-4]", "1.3 1.4 2.3 2.4"],
    ["n1[1-2]", "n11 n12"],
    ["kn[1,1],kn1", "kn1"],
    // ClusterShell 1.9.1 (nodeset -f) says the same of each of these.
    ["n[1-5]!n2", "n1 n3 n4 n5"],
    ["n[1-5]&n[4-9]", "n4 n5"],
    ["n[1-3]^n[3-4]", "n1 n2 n4"],
    ["n[1-5]!n2,n2^n[4-6]", "n1 n3 n2 n6"],
    ["a,b&c,d", "d"],
    ["a!b,b", "a b"],
    [" a , b ! a ", "b"],
    ["a!a", ""],
    ["a b\t c", "a b c"],
    ["", ""],
    [" \t", ""],
    ["n[ 1 , 5 ]", "n1 n5"],
    ["n[1 - 5 / 2]", "n1 n3 n5"],
    ["ip-10-0-12-34.eu-central-1.compute.internal", "ip-10-0-12-34.eu-central-1.compute.internal"],
    [`${"x".repeat(254)}[8-9]`, `${"x".repeat(254)}8 ${"x".repeat(254)}9`],
  ])("%j", (text, expected) => {
    expect(names(text)).toEqual(expected.split(" ").filter(Boolean));
  });

  test.each([
    ["a,,b", /between , and , at character 3$/],
    ["a!&b", /between ! and & at character 3$/],
    ["!a", /before !$/],
    ["a,", /after , at character 2$/],
    ["kn[1-3", /\[ without \] at character 3$/],
    ["kn1]", /\] without \[ at character 4$/],
    ["kn[1[2]]", /\[ inside \[ \] at character 5$/],
    ["a,kn[1-3,x]", /"x" is no number and no range at character 10$/],
    ["kn[]", /"" is no number and no range at character 4$/],
    ["kn[3-1]", /3-1 counts down/],
    ["kn[1-9/0]", /steps by nothing/],
    ["kn[1-010]", /padded to different lengths/],
    ["a;b", /";" is in no host's name at character 2$/],
    ["../x", /does not begin with \./],
    ["-x", /does not begin with -/],
    ["a,$(id)", /"\$" is in no host's name at character 3$/],
    ["gäst", /"ä" is in no host's name/],
    ["a\nb", /"\\n" is in no host's name at character 2$/],
    ["a\0", /"\\u0000" is in no host's name/],
    ["x".repeat(256), /256 characters, more than 255 at character 1$/],
    [`${"x".repeat(254)}[8-10]`, /256 characters, more than 255 at character 1$/],
    ["n[1 2]", /"1 2" is no number and no range at character 3$/],
    ["n[1-*]", /no number and no range/],
    ["@gpu*", /"\*" is in no group's name/],
    ["@", /without the name of a group/],
    ["@a:b", /no sources here at character 3$/],
    ["@a/b", /"\/" is in no group's name at character 3$/],
    [`${"kn1,".repeat(5000)}kn[9`, /\[ without \] at character 20003$/],
  ])("%j is none", (text, why) => {
    const { code, message, hint } = refused(text);
    expect([code, !!hint]).toEqual(["usage", true]);
    expect(message).toMatch(/^Cannot read node set ".*": /);
    expect(message).toMatch(why);
    expect(message).not.toContain("\n");
    expect(message.length).toBeLessThan(150);
  });

  test("too many names are counted, not made", () => {
    const began = performance.now();
    expect(refused("x[1-1000000000]").message).toMatch(/1000000000 names, more than 10000000$/);
    expect(refused("r[1-9999]n[1-9999]").message).toMatch(/99980001 names/);
    expect(refused(`x[1-${NODES_MAX}],y`).message).toMatch(/10000001 names/);
    expect(refused(Array(12).fill("[0-999]").join("a")).message).toMatch(/more than/);
    expect(performance.now() - began).toBeLessThan(100);
  });
});

describe("wildcards", () => {
  const tree = ["kn1", "kn2", "kn12", "foo1", "fbo1", "fbo2", "a.b-c"];
  const resolver = groupResolver(new Map(), [], () => tree);
  const matched = (text: string) => [...expandNodes(text, { group: resolver })._unsafeUnwrap()].join(" ");
  test.each([
    ["kn*", "kn1 kn2 kn12"],
    ["kn?", "kn1 kn2"],
    ["f?o[1]", "foo1 fbo1"],
    ["f*[1-2]", "foo1 fbo1 fbo2"],
    ["*", tree.join(" ")],
    ["?*n*?2", "kn12"],
    ["*2*", "kn2 kn12 fbo2"],
    ["*!kn*!f*", "a.b-c"],
    ["*-c,gw", "a.b-c gw"],
    ["zz*", ""],
    ["*.*", "a.b-c"],
  ])("%s", (text, expected) => {
    expect(matched(text)).toBe(expected);
  });

  test("without a tree they say so, and hostile ones take no time", () => {
    const none = expandNodes("kn*", { group: groupResolver(new Map(), [], () => undefined) });
    expect(none._unsafeUnwrapErr()).toMatchObject({
      code: "unavailable",
      message: 'Cannot match "kn*": no tree is up here',
    });
    const long = ["a".repeat(255)];
    const began = performance.now();
    const set = `${"*a".repeat(120)}*b`;
    expect(expandNodes(set, { group: groupResolver(new Map(), [], () => long) })._unsafeUnwrap().size).toBe(
      0,
    );
    expect(performance.now() - began).toBeLessThan(1000);
  });
});

describe("folding", () => {
  test.each([
    ["kn1 kn2 kn4 gw", "kn[1-2,4],gw"],
    ["gw kn3 kn1 kn2 kn2", "gw,kn[1-3]"],
    ["kn01 kn02", "kn[01-02]"],
    ["n8 n9 n10 n08 n09", "n[8-9,08-10]"],
    ["n08 n09 n10 n100", "n[08-10,100]"],
    ["a1b1 a1b2 a2b1 a2b2 a3b7", "a[1-2]b[1-2],a3b7"],
    ["n1-1 n1-3 n2-1 n2-2 n2-3", "n1-[1,3],n2-[1-3]"],
    ["n1234567890123456 n1234567890123457", "n1234567890123456,n1234567890123457"],
    ["mail www db", "mail,www,db"],
    ["7", "7"],
    ["", ""],
  ])("%s: %s", (list, expected) => {
    expect(foldNodes(list.split(" ").filter(Boolean))).toBe(expected);
  });

  test.each([
    "rack[1-4]n[1-32]",
    "rack[1-4]n[01-32]",
    "dc[1-2]r[01-12]c[1-4]n[001-036]-ib0",
    "kn[1-520]",
    "n[001-128]",
  ])("a whole grid is one term again, whatever its order: %s", (text) => {
    const all = names(text);
    expect(foldNodes(all)).toBe(text);
    expect(foldNodes(all.map((_, i) => all[(i * 7919 + 5) % all.length]!))).toBe(text);
  });

  test("what is folded expands to the same names: thousands of random sets", () => {
    let seed = 7;
    const below = (n: number) => {
      seed = (seed * 1103515245 + 12345) % 2 ** 31;
      return Math.floor((seed / 2 ** 31) * n);
    };
    const pieces = ["", "a", "n", "-", ".", "_x", "r0a", "12345678901234567x"];
    for (let round = 0; round < 1500; round++) {
      const shape = Array.from(
        { length: 1 + below(3) },
        () => [pieces[below(pieces.length)]!, below(3)] as const,
      );
      const set = new Set<string>();
      for (let i = below(40); i >= 0; i--) {
        const name = `h${shape.map(([text, width]) => `${text}${String(below(12)).padStart(width, "0")}`).join("")}`;
        if (name.length <= 40) set.add(name);
      }
      if (set.size === 0) continue;
      const folded = foldNodes(set);
      const back = names(folded);
      expect([...back].sort(), folded).toEqual([...set].sort());
      // No name is in two of the terms.
      expect(foldTerms(set).reduce((sum, term) => sum + names(term).length, 0)).toBe(set.size);
      expect([...names(foldNodes(back))].sort()).toEqual([...set].sort());
    }
  });

  test("the operators agree with sets of names", () => {
    const [a, b] = [names("r[1-3]n[01-20]"), names("r[2-5]n[11-40/3],x")];
    const [A, B] = [foldNodes(a), foldNodes(b)];
    const sorted = (list: string[]) => list.sort();
    expect(sorted(names(`${A}!${B}`.replaceAll(/,(?![^[]*\])/g, "!")))).toEqual(
      sorted(a.filter((n) => !b.includes(n))),
    );
    expect(sorted(names(`r[1-3]n[01-20]&r[2-5]n[11-40/3]`))).toEqual(sorted(a.filter((n) => b.includes(n))));
    expect(sorted(names(`r[1-3]n[01-20]^r[2-5]n[11-40/3]^x`))).toEqual(
      sorted([...a.filter((n) => !b.includes(n)), ...b.filter((n) => !a.includes(n))]),
    );
  });

  test("20,000 names of any kind cost no more than their number", () => {
    const kinds: Record<string, (i: number) => string> = {
      regular: (i) => `kn${i}`,
      words: (i) => `h${((i * 2654435761) % 2 ** 32).toString(36)}x`,
      "addresses in no order": (i) => `ip-10-${(i * 37) % 251}-${(i * 91) % 241}-${(i * 13) % 239}`,
      "a diagonal": (i) => `r${i}n${i}c${i}`,
    };
    for (const [kind, name] of Object.entries(kinds)) {
      const list = [...new Set(times(20_000, name))];
      const began = performance.now();
      const back = names(foldNodes(list));
      expect(performance.now() - began, kind).toBeLessThan(1500);
      expect(back.length, kind).toBe(list.length);
    }
  });
});

describe("groups", () => {
  const file = (text: string) => {
    const path = join(tempDir(), "groups");
    writeFileSync(path, text);
    return path;
  };
  const withGroups = (text: string, tree?: string[]) => {
    const path = file(text);
    const group = groupResolver(readGroups([path])._unsafeUnwrap(), [path], () => tree);
    return (set: string) => expandNodes(set, { group }).map((found) => foldNodes(found));
  };
  const GROUPS = `# of this cluster
gpu: kn[1-4]   # the new ones
io:kn9,kn10
rack1: kn[1-2]
rack2: kn[3-4]
most: @gpu,@io!kn1
none:
io: kn11
`;

  test.each([
    ["@gpu", "kn[1-4]"],
    ["@io", "kn[9-11]"],
    ["@most", "kn[2-4,9-11]"],
    ["@gpu!@rack1", "kn[3-4]"],
    ["@rack[1-2]&kn[2-3]", "kn[2-3]"],
    ["@none,kn7", "kn7"],
    ["x,@gpu", "x,kn[1-4]"],
    ["@all", "kn[1-3]"],
    ["@*!kn2", "kn[1,3]"],
  ])("%s: %s", (set, expected) => {
    expect(withGroups(GROUPS, ["kn1", "kn2", "kn3"])(set)._unsafeUnwrap()).toBe(expected);
  });

  test("@all is the tree's; where none is up, a group of that name", () => {
    expect(withGroups("all: a,b")("@*")._unsafeUnwrap()).toBe("a,b");
    expect(withGroups("all: a,b", ["c"])("@all")._unsafeUnwrap()).toBe("c");
    expect(withGroups("gpu: a")("@all")._unsafeUnwrapErr()).toMatchObject({
      code: "unavailable",
      message: "Cannot use @all: no tree is up here",
    });
  });

  test("what is wrong with a group is told with its file and line, and a near name is offered", () => {
    const ask = withGroups(`${GROUPS}bad: kn[1-\nring: @loop\nloop: x,@ring\nmiss: @gpux\n`);
    expect(ask("@gpux")._unsafeUnwrapErr()).toMatchObject({
      message: "Cannot use group @gpux: no such group",
      hint: "did you mean @gpu?",
    });
    expect(ask("@zzzzzzzz")._unsafeUnwrapErr().hint).toMatch(/groups has @gpu @io @rack1 /);
    expect(ask("@miss")._unsafeUnwrapErr().message).toBe("Cannot use group @gpux: no such group");
    expect(ask("@bad")._unsafeUnwrapErr()).toMatchObject({
      code: "data",
      message: expect.stringMatching(
        /^Cannot read node set "kn\[1-": \[ without \] at character 3, .* line 9$/,
      ),
    });
    expect(ask("a,@ring")._unsafeUnwrapErr().message).toBe(
      "Cannot use group @ring: it names itself, @ring → @loop → @ring",
    );
  });

  test("groups in groups: each is read once, and too deep is refused", () => {
    const chain = (n: number) => `g0: x\n${times(n, (i) => `g${i + 1}: @g${i},@g${i}`).join("\n")}\n`;
    expect(withGroups(chain(30))("@g30")._unsafeUnwrap()).toBe("x");
    expect(withGroups(chain(100))("@g100")._unsafeUnwrapErr().message).toMatch(
      /groups in groups, more than 32 deep$/,
    );
  });

  test("files: MT_GROUPS alone, else the user's before the machine's; a broken one is told", () => {
    withEnv({ MT_GROUPS: file("gpu: kn[1-2]"), MT_RUN: tempDir() });
    expect(namedHosts("@gpu")._unsafeUnwrap()).toEqual(["kn1", "kn2"]);
    expect(namedHosts("kn1!kn1")._unsafeUnwrapErr().message).toMatch(/no host is in it$/);
    expect(nodesNamed("kn1!kn1")._unsafeUnwrap().size).toBe(0);
    withEnv({ MT_GROUPS: file("gpu = kn[1-2]") });
    expect(namedHosts("@gpu")._unsafeUnwrapErr().message).toMatch(
      /^Cannot read .* line 1: it is no "group: node set"$/,
    );
    // The file is not read where no group is named.
    expect(namedHosts("kn1").isOk()).toBe(true);
    withEnv({ MT_GROUPS: "/nonexistent/groups" });
    expect(namedHosts("@gpu")._unsafeUnwrapErr().message).toMatch(
      /^Cannot read groups \/nonexistent\/groups: /,
    );
    const config = tempDir();
    mkdirSync(join(config, "megatux"));
    writeFileSync(join(config, "megatux/groups"), "gpu: mine");
    withEnv({ MT_GROUPS: undefined, XDG_CONFIG_HOME: config });
    expect(namedHosts("@gpu")._unsafeUnwrap()).toEqual(["mine"]);
  });

  test("@all of a tree file", () => {
    const run = tempDir();
    mkdirSync(join(run, "tree"));
    writeFileSync(join(run, "tree/tree.json"), JSON.stringify({ hosts: [{ id: "kn1" }, { id: "kn2" }] }));
    withEnv({ MT_RUN: run, MT_GROUPS: file("x: y") });
    expect(namedHosts("@all!kn1")._unsafeUnwrap()).toEqual(["kn2"]);
  });
});
