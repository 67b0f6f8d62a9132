import { describe, expect, test } from "vitest";
import { LINE_BYTES_MAX, LineSplitter } from "../../../shared/stream/lines.ts";

function split(...chunks: Buffer[]) {
  const splitter = new LineSplitter();
  return [...chunks.flatMap((c) => splitter.push(c)), ...splitter.end()];
}
const texts = (lines: { text: string }[]) => lines.map((l) => l.text);

describe("chunk borders", () => {
  const text = 'aä€\u{1f680}z\n\n{"x":"ü\\n"}\r\n\u{1f9ea}\n';
  const bytes = Buffer.from(text);
  const expected = text.split("\n").slice(0, -1);

  test("at every byte, one border", () => {
    for (let at = 0; at <= bytes.length; at++)
      expect(texts(split(bytes.subarray(0, at), bytes.subarray(at))), `at ${at}`).toEqual(expected);
  });

  test("at every two bytes", () => {
    for (let a = 0; a <= bytes.length; a++)
      for (let b = a; b <= bytes.length; b++)
        expect(texts(split(bytes.subarray(0, a), bytes.subarray(a, b), bytes.subarray(b)))).toEqual(expected);
  });

  test("one byte a chunk, in a buffer that the stream fills again", () => {
    const splitter = new LineSplitter();
    const shared = Buffer.alloc(1);
    const out = [];
    for (const byte of bytes) {
      shared[0] = byte;
      out.push(...splitter.push(shared));
    }
    expect(texts([...out, ...splitter.end()])).toEqual(expected);
  });
});

describe("ends", () => {
  test.each([
    ["", []],
    ["\n", [""]],
    ["a", ["a"]],
    ["a\n", ["a"]],
    ["a\nb", ["a", "b"]],
    ["a\r\nb\r\n", ["a\r", "b\r"]],
    ["\n\na", ["", "", "a"]],
    ["\ufeffa\n", ["a"]],
    ["a\n\ufeffb\n", ["a", "\ufeffb"]],
    ["a\u2028b\u0085c\vd\n", ["a\u2028b\u0085c\vd"]],
  ])("%j → %j", (text, expected) => {
    expect(texts(split(Buffer.from(text)))).toEqual(expected);
  });
});

describe("bytes that are no UTF-8", () => {
  test.each([
    ["a lone continuation byte", [0x80]],
    ["half a character", [0xe2, 0x82]],
    ["an overlong form", [0xc0, 0xaf]],
    ["a surrogate", [0xed, 0xa0, 0x80]],
    ["beyond Unicode", [0xf4, 0x90, 0x80, 0x80]],
    ["Latin-1", [0xe4]],
  ])("%s: that line is bad, its neighbours are not", (_, bytes) => {
    const lines = split(Buffer.concat([Buffer.from("ä1\n"), Buffer.from(bytes), Buffer.from("\nä2\n")]));
    expect(lines.map((l) => l.bad)).toEqual([undefined, "it is no UTF-8", undefined]);
    expect([lines[0]!.text, lines[2]!.text]).toEqual(["ä1", "ä2"]);
  });

  test("also in the last line, without a newline", () => {
    expect(split(Buffer.from([0x61, 0xff]))).toEqual([{ text: "a\ufffd", bad: "it is no UTF-8" }]);
  });
});

test("a line longer than the limit is cut and told with its length; what follows is read", () => {
  const chunk = Buffer.alloc(1 << 20, "x");
  const splitter = new LineSplitter();
  const pushes = LINE_BYTES_MAX / chunk.length + 3;
  const before = process.memoryUsage().rss;
  for (let i = 0; i < pushes; i++) expect(splitter.push(chunk)).toEqual([]);
  // Bytes beyond the limit are not kept.
  expect(process.memoryUsage().rss - before).toBeLessThan(2 * LINE_BYTES_MAX);
  const lines = [...splitter.push(Buffer.from("yy\nnext\nla")), ...splitter.end()];
  expect(lines.map((l) => [l.text.length, l.bad])).toEqual([
    [4096, `${pushes * chunk.length + 2} bytes, more than ${LINE_BYTES_MAX}`],
    [4, undefined],
    [2, undefined],
  ]);
});
