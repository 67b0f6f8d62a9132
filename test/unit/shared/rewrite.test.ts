/** Records as text: what is read from a line, and what a changed record keeps of it, byte for byte. */
import { describe, expect, test } from "vitest";
import type { Guest } from "../../../shared/records/index.ts";
import { sliceGuest } from "../../../shared/records/members.ts";
import { isDeeper, isJson, itemsOf, membersOf } from "../../../shared/stream/json-text.ts";
import { DEPTH_MAX, isBlank, readRecord } from "../../../shared/stream/record-line.ts";
import { rewrite, rewriteFailed } from "../../../shared/stream/rewrite.ts";

const deep = (n: number, open = "[", close = "]", inside = "") => open.repeat(n) + inside + close.repeat(n);
// biome-ignore lint/suspicious/noExplicitAny: records of these tests may have any fields.
const changed = (text: string, change: (record: any) => object) => {
  const read = readRecord({ text });
  if (!read || "why" in read) throw new Error(`no record: ${JSON.stringify(read)}`);
  return rewrite(text, read.line, change(read.line));
};

describe("what is changed is written anew, all else is as it came", () => {
  const NUMBERS =
    '"x":[9007199254740993,1e400,-0,1.0,12345678901234567890,1E5],"y":{"\\u0041":-0.0,"b":1e-400}';
  test.each<[string, string, (r: never) => object, string]>([
    [
      "a field more",
      `{"kind":"k","id":"i",${NUMBERS}}`,
      (r: object) => ({ ...r, state: "failed" }),
      `{"kind":"k","id":"i",${NUMBERS},"state":"failed"}`,
    ],
    [
      "a field changed in its place, spaces and order kept",
      ` { "state" : "planned" , "id":"i","kind":"k" , ${NUMBERS} } \r`,
      (r: object) => ({ ...r, state: "ready" }),
      ` { "state" : "ready" , "id":"i","kind":"k" , ${NUMBERS} } \r`,
    ],
    [
      "a field taken away: first, last, in between",
      `{"a":1,"kind":"k","b":2,${NUMBERS},"id":"i","c":3}`,
      ({ a: _a, b: _b, c: _c, ...r }: Record<string, unknown>) => r,
      `{"kind":"k",${NUMBERS},"id":"i"}`,
    ],
    [
      "a field taken away and another in its place",
      '{"kind":"k","state":"a","id":"i", "x":-0}',
      ({ state: _s, ...r }: Record<string, unknown>) => ({ ...r, state: "b" }),
      '{"kind":"k","state":"b","id":"i", "x":-0}',
    ],
    [
      "a field that stands behind one that it follows in the record",
      '{"kind":"k","id":"i","x":1.0}',
      ({ kind, id, ...r }: Record<string, unknown>) => ({ kind, id, host: "h", ...r }),
      '{"kind":"k","id":"i","host":"h","x":1.0}',
    ],
    [
      "a field before all others",
      '{"kind":"k","id":"i"}',
      (r: object) => ({ first: 1, ...r }),
      '{"first":1,"kind":"k","id":"i"}',
    ],
    [
      "inside of objects and arrays, what is not changed there",
      '{"kind":"k","id":"i","interfaces":[{"ip":"10.0.0.1/8", "x":9007199254740993},{"x":1.0}],"n":1.50}',
      (r: { interfaces: object[] }) => ({
        ...r,
        interfaces: r.interfaces.map((nic, i) => (i === 0 ? { ...nic, ip: "10.0.0.2/8" } : nic)),
      }),
      '{"kind":"k","id":"i","interfaces":[{"ip":"10.0.0.2/8", "x":9007199254740993},{"x":1.0}],"n":1.50}',
    ],
    [
      "items that were moved, added, taken away",
      '{"kind":"k","id":"i","list":[{"x":1.0},{"x":-0},{"x":1e400}]}',
      (r: { list: object[] }) => ({ ...r, list: [r.list[2], r.list[0], { new: 1 }] }),
      '{"kind":"k","id":"i","list":[{"x":1e400},{"x":1.0},{"new":1}]}',
    ],
    [
      "keys that stand twice: as they came where they are not changed, once where they are",
      '{"kind":"k","id":"i","x":1,"x":2.0,"y":{"a":1,"a":1e1},"state":"a","state":"b"}',
      (r: object) => ({ ...r, state: "c" }),
      '{"kind":"k","id":"i","x":1,"x":2.0,"y":{"a":1,"a":1e1},"state":"c"}',
    ],
    [
      "keys with escapes, and those that JavaScript has plans of its own for",
      '{"kind":"k","\\u0069d":"i","__proto__":{"x":1.0},"constructor":1.0,"7":-0}',
      (r: object) => ({ ...r, state: "a" }),
      '{"kind":"k","\\u0069d":"i","__proto__":{"x":1.0},"constructor":1.0,"7":-0,"state":"a"}',
    ],
    [
      "a value that was told in other digits",
      '{"kind":"k","id":"i","n":1.0,"m":1e2}',
      (r: object) => ({ ...r, n: 1, m: 101 }),
      '{"kind":"k","id":"i","n":1.0,"m":101}',
    ],
    [
      "what JSON leaves out",
      '{"kind":"k","id":"i","n":1}',
      (r: object) => ({ ...r, n: undefined }),
      '{"kind":"k","id":"i"}',
    ],
    [
      "nothing",
      `{"kind":"k","id":"i",${NUMBERS}}`,
      (r: object) => ({ ...r }),
      `{"kind":"k","id":"i",${NUMBERS}}`,
    ],
    [
      "a record of another kind",
      '{"kind":"k","id":"i","x":1.0}',
      () => ({ kind: "l", id: "j" }),
      '{"kind":"l","id":"j"}',
    ],
    [
      "fields that are nested too deeply",
      `{"kind":"k","id":"i","x":${deep(1000)},"y":${deep(1000, '{"a":', "}", "-0")},"z":-0}`,
      (r: object) => ({ ...r, state: "failed" }),
      `{"kind":"k","id":"i","x":${deep(1000)},"y":${deep(1000, '{"a":', "}", "-0")},"z":-0,"state":"failed"}`,
    ],
  ])("%s", (_, text, change, expected) => {
    expect(changed(text, change as never)).toBe(expected);
  });

  test("parts of a range: what counts up is new, the rest is in each as it came", () => {
    const text =
      '{"kind":"guest","id":"g[0-9]","index":5,"image":"tux","cores":1.0,"mem_mib":64,"interfaces":[{"segment":"s","x":1e400,"ip":"10.0.0.10/8"}],"x":9007199254740993}';
    expect(changed(text, (r: Guest) => sliceGuest(r, 3, 2)._unsafeUnwrap())).toBe(
      text.replace("g[0-9]", "g[3-4]").replace('"index":5', '"index":8').replace("10.0.0.10", "10.0.0.13"),
    );
  });

  test("of any record and any change the text says what the record says", () => {
    // The same numbers every run.
    let seed = 7;
    const rand = (n: number) => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
    const value = (depth: number): unknown => {
      const n = rand(depth > 3 ? 5 : 7);
      if (n === 5) return Array.from({ length: rand(4) }, () => value(depth + 1));
      if (n === 6)
        return Object.fromEntries(Array.from({ length: rand(4) }, () => [`k${rand(6)}`, value(depth + 1)]));
      return [rand(1000) / 8, `s${rand(9)}"\\\u2028`, true, null, -rand(5)][n];
    };
    const mutated = (v: unknown, depth = 0): unknown => {
      if (typeof v !== "object" || v === null || rand(4) === 0) return rand(3) === 0 ? value(depth) : v;
      if (Array.isArray(v))
        return [
          ...v.map((item) => (rand(2) ? item : mutated(item, depth + 1))),
          ...(rand(3) ? [] : [value(2)]),
        ].slice(rand(2));
      const entries = Object.entries(v).flatMap(([k, item]) =>
        rand(5) === 0 ? [] : [[k, mutated(item, depth + 1)] as const],
      );
      return Object.fromEntries([...entries, ...(rand(3) ? [] : [[`n${rand(3)}`, value(1)] as const])]);
    };
    const spaced = (v: unknown) => JSON.stringify(v, null, rand(2) ? 1 : 0).replaceAll("\n", " ");
    for (let i = 0; i < 5000; i++) {
      const fields = value(0);
      const record = {
        kind: "k",
        id: "i",
        ...(typeof fields === "object" && !Array.isArray(fields) ? fields : { fields }),
      };
      const text = spaced(record);
      const before = JSON.parse(text);
      const after = { ...(mutated(before) as object), kind: "k", id: "i" };
      expect(JSON.parse(rewrite(text, before, after)), text).toEqual(JSON.parse(JSON.stringify(after)));
    }
  });

  test.each<[string, unknown]>([
    ["no object", 5],
    ["null", null],
    ["an array", []],
    ["BigInt", { kind: "k", id: "i", n: 1n }],
    [
      "what throws",
      {
        kind: "k",
        id: "i",
        n: {
          toJSON: () => {
            throw new Error("no");
          },
        },
      },
    ],
    ["what is nothing", { toJSON: () => undefined }],
  ])("%s cannot be written, and says so by throwing", (_, after) => {
    const before = { kind: "k", id: "i" };
    expect(() => rewrite(JSON.stringify(before), before, after as object)).toThrow();
  });

  test("nor can what contains itself", () => {
    const before = { kind: "k", id: "i" };
    const after: Record<string, unknown> = { ...before };
    after.self = after;
    expect(() => rewrite(JSON.stringify(before), before, after)).toThrow();
  });
});

test("a line fails as it is; the first error stays", () => {
  const error = { by: "mt-x", code: "lost" as const, message: "gone" };
  const said = `"state":"failed","error":${JSON.stringify(error)}`;
  expect(rewriteFailed('{"kind":"k","id":"i", "x":1.0}', error)).toBe(
    `{"kind":"k","id":"i", "x":1.0,${said}}`,
  );
  const before = '{"kind":"k","id":"i","error":{"x":-0},"state":"failed"}';
  expect(rewriteFailed(before, error)).toBe(before);
  expect(rewriteFailed(`{"kind":"k","id":"i","x":${deep(100_000)}}`, error)).toBe(
    `{"kind":"k","id":"i","x":${deep(100_000)},${said}}`,
  );
});

describe("a line", () => {
  test.each(["", " ", "\t", "\r", " \t \r"])("%j is blank", (text) => {
    expect(isBlank(text)).toBe(true);
    expect(readRecord({ text })).toBeUndefined();
  });

  test.each([
    "\u00a0",
    "\f",
    "\v",
    "\u2028",
    "\u2029",
    "\ufeff",
    "\u3000",
    "\u0085",
    "\0",
    "\u200b",
    " \u00a0 ",
  ])("%j is no record, and not blank", (text) => {
    expect(readRecord({ text })).toEqual({ why: "it is no JSON" });
  });

  test.each([
    ["[]", "it is no JSON object"],
    [deep(100_000), "it is no JSON object"],
    [deep(100_000, "[", ""), "it is no JSON"],
    [`{"kind":"k","id":"i","x":${"[".repeat(100_000)}}`, "it is no JSON"],
    [`{"kind":"k","id":"i","x":${deep(1000, "[", "]", "01")}}`, "it is no JSON"],
    [`{"kind":"k","id":"i","x":${deep(1000)},}`, "it is no JSON"],
    [`{"kind":"k","id":"","x":${deep(1000)}}`, "id: expected a string"],
    [`{"kind":"k","id":${deep(1000)}}`, `id: nested deeper than ${DEPTH_MAX} levels`],
    [`{"kind":"k","id":"i","host":${deep(1000)}}`, `host: nested deeper than ${DEPTH_MAX} levels`],
    ['{"kind":"k","id":""}', "id: expected a string"],
    ['{"kind":"","id":"i"}', "kind: expected a string"],
  ])("%.60s: %s", (text, why) => {
    expect(readRecord({ text })).toEqual({ why });
  });

  test("is read as deep as it may be; a field that is deeper is named and left out", () => {
    const nested = (n: number) => `{"kind":"k","id":"i","x":${deep(n - 1)}}`;
    expect(readRecord({ text: nested(DEPTH_MAX) })).not.toHaveProperty("deep");
    expect(readRecord({ text: nested(DEPTH_MAX + 1) })).toEqual({
      line: { kind: "k", id: "i" },
      deep: ["x"],
    });
    for (const text of [deep(1_000_000), deep(1_000_000, '{"a":', "}", "1")])
      expect(readRecord({ text: `{"kind":"k","x":${text},"id":"i"}` })).toEqual({
        line: { kind: "k", id: "i" },
        deep: ["x"],
      });
  });
});

describe("JSON as text", () => {
  test.each([
    "",
    "{",
    "{}x",
    '{"a"}',
    '{"a":1,}',
    '{"a":01}',
    '{"a":1.}',
    '{"a":tru}',
    '{"a":"\\x"}',
    '{"a":"\t"}',
    "[1]",
    "{a:1}",
    '{"a":1 "b":2}',
    '{"a":[1,]}',
    '{"a":{"b":}}',
    '{"a":[}}',
    '{"a":+1}',
    '{"a":1e}',
  ])("%j has no members", (text) => {
    expect(membersOf(text)).toBeUndefined();
  });

  test("members and items stand where they stand", () => {
    const text = ' { "a" : [ 1 , {"b":[]} ] , "\\u0062":null}';
    const members = membersOf(text)!;
    expect(members.map(({ name, value, to, depth }) => [name, text.slice(value, to), depth])).toEqual([
      ["a", '[ 1 , {"b":[]} ]', 3],
      ["b", "null", 0],
    ]);
    const list = "[ 1 , [ ] ,\t{}]";
    expect(itemsOf(list)!.map(({ from, to }) => list.slice(from, to))).toEqual(["1", "[ ]", "{}"]);
    expect(itemsOf("[1,]")).toBeUndefined();
  });

  test("brackets in strings are no nesting", () => {
    const text = JSON.stringify({ a: "[".repeat(1000), b: '\\"[['.repeat(300) });
    expect(isDeeper(text, 10)).toBe(false);
    expect(isDeeper(deep(11).padEnd(100), 10)).toBe(true);
  });

  test("is told from what is none as JSON.parse does", () => {
    let seed = 3;
    const rand = (n: number) => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
    const base = '{"a":[1,-0.5e+3,"x\\u00e4\\n",{"b":{},"c":[[]]},true,false,null],"d":"]}"}';
    const letters = '{}[]",:\\0123456789.eE+-truefalsn u\t\u00a0';
    for (let i = 0; i < 30_000; i++) {
      const at = rand(base.length);
      const text =
        base.slice(0, at) + (rand(3) ? letters[rand(letters.length)] : "") + base.slice(at + rand(3));
      let parses = true;
      try {
        JSON.parse(text);
      } catch {
        parses = false;
      }
      expect([isJson(text), text]).toEqual([parses, text]);
    }
  });
});
