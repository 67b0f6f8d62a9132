/** The scanner of records against JSON.parse: what it accepts is JSON with the same content; what it does not decide, a full parse does. */
import { describe, expect, test } from "vitest";
import { LineSplitter } from "../../../shared/stream/lines.ts";
import { RecordLines, readRecord } from "../../../shared/stream/record-line.ts";
import { type Scanned, scanRecord } from "../../../shared/stream/scan.ts";

const scanAt = (bytes: Buffer, from: number) => {
  const into: Scanned = { kind: "", host: undefined, idFrom: 0, idTo: 0 };
  const end = scanRecord(bytes, from, into);
  if (end < 0) return undefined;
  return { kind: into.kind, id: bytes.toString("latin1", into.idFrom, into.idTo), host: into.host, end };
};
const scan = (text: string) => scanAt(Buffer.from(`${text}\n`), 0);

describe("what it reads", () => {
  test.each([
    ['{"kind":"guest","id":"g0","host":"kn1"}', { kind: "guest", id: "g0", host: "kn1" }],
    ['{"id":"a","x":[1,{"host":"no","kind":"no"},[]],"kind":"k"}', { kind: "k", id: "a", host: undefined }],
    [' {\t"kind" : "k" , "id":"i" ,"n":-1.5e+3, "t":true,"f":false,"z":null } \r', { kind: "k", id: "i" }],
    ['{"kind":"k","id":"i","s":"ü \\" \\\\ \\u00e4 }","o":{}}', { kind: "k", id: "i" }],
  ])("%s", (text, expected) => {
    expect(scan(text)).toMatchObject({ ...expected, end: Buffer.byteLength(text) });
    expect(JSON.parse(text)).toMatchObject(JSON.parse(JSON.stringify(expected)));
  });

  test("the line that begins where it is told, up to its newline", () => {
    const bytes = Buffer.from('{"kind":"a","id":"1"}\n{"kind":"b","id":"2","host":"h"}\n{"kind"\n');
    expect(scanAt(bytes, 22)).toMatchObject({ kind: "b", id: "2", host: "h", end: 54 });
    expect(scanAt(bytes, 55)).toBeUndefined();
  });
});

test.each([
  "",
  "{}",
  "null",
  '"kind"',
  '{"kind":"k"}',
  '{"kind":"k","id":1}',
  '{"kind":null,"id":"i"}',
  '{"kind":"k","id":"i","id":"j"}',
  '{"kind":"k\\u0061","id":"i"}',
  '{"k\\u0069nd":"k","kind":"x","id":"i"}',
  '{"kind":"ä","id":"i"}',
  '{"kind":"k","id":"i"',
  '{"kind":"k","id":"i"}}',
  '{"kind":"k","id":"i",}',
  '{"kind":"k" "id":"i"}',
  '{"kind":"k","id":"i","x":01}',
  '{"kind":"k","id":"i","x":1.}',
  '{"kind":"k","id":"i","x":tru}',
  '{"kind":"k","id":"i","x":"\\x"}',
  '{"kind":"k","id":"i","x":"\\u12g4"}',
  '{"kind":"k","id":"i","x":"\t"}',
  '{"kind":"k","id":"i","x":[1,]}',
  '{"kind":"k","id":"i","x":{"a"}}',
  '{"kind":"k","id":"i","x":"\n"}',
  `{"kind":"k","id":"i","x":${"[".repeat(256)}${"]".repeat(256)}}`,
])("leaves to JSON.parse: %s", (text) => {
  expect(scan(text)).toBeUndefined();
});

test("of any text, what it accepts JSON.parse accepts, and both say the same", () => {
  // The same numbers every run.
  let state = 42;
  const random = (n: number) => (state = (state * 1103515245 + 12345) % 2147483648) % n;
  const pieces = [
    '"',
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "1",
    "-",
    ".",
    "e",
    " ",
    "true",
    "null",
    '"a"',
    "ä",
  ];
  const base = '{"kind":"guest","id":"g1","host":"kn1","n":[1,2.5,{"a":"b\\n"}],"t":true}';
  let accepted = 0;
  for (let i = 0; i < 30_000; i++) {
    let text = base;
    for (let k = 1 + random(3); k > 0; k--) {
      const at = random(text.length);
      const cut = random(3);
      text = text.slice(0, at) + (random(3) > 0 ? pieces[random(pieces.length)] : "") + text.slice(at + cut);
    }
    const found = scan(text);
    if (!found) continue;
    accepted++;
    const line = JSON.parse(text);
    expect({ kind: line.kind, id: line.id, host: line.host }).toEqual({
      kind: found.kind,
      id: found.id,
      host: found.host,
    });
  }
  expect(accepted).toBeGreaterThan(1000);
});

describe("lines among bytes", () => {
  /** The lines of a block, as RecordLines tells of them and as text and JSON.parse do. */
  const told = (block: Buffer) => {
    const lines = new RecordLines(block);
    const out = [];
    while (lines.next()) {
      const { text, sure } = lines;
      const head = sure ? { kind: lines.kind, id: lines.id, host: lines.host } : undefined;
      out.push({ text, sure, head, read: lines.read() });
    }
    return out;
  };
  const reference = (block: Buffer) => {
    const splitter = new LineSplitter();
    return [...splitter.push(block), ...splitter.end()].map((raw) => ({
      text: raw.text,
      read: readRecord(raw),
    }));
  };

  test("of any bytes both say the same: where lines end, whether each is a record, and which", () => {
    // The same numbers every run.
    let state = 11;
    const random = (n: number) => (state = (state * 1103515245 + 12345) % 2147483648) % n;
    const bases = [
      '{"kind":"guest","id":"g1","host":"kn1","n":[1,2.5e-3,{"a":"b\\n"}],"t":true,"ü":"ä\u{1f680}"}',
      ' {"id":"a" , "x":{"kind":"no","y":[[],{}]},"kind":"k"} \r',
      `{"kind":"k","id":"i","deep":${"[".repeat(255)}${"]".repeat(255)}}`,
      `{"kind":"k","id":"i","deep":${"[".repeat(256)}${"]".repeat(256)}}`,
      '{"kind":"k\\u0061","id":"i","host":5}',
      "",
      " \t",
      "[1]",
      "no JSON",
    ].map((text) => Buffer.from(text));
    const bytes = [...Buffer.from('"\\{}[],:01-.eE+ \t\r\n\0tfnu'), 0x80, 0xc3, 0xe2, 0xf0, 0xff, 0x7f, 0x1f];
    let sure = 0;
    let wrong = 0;
    for (let i = 0; i < 4000; i++) {
      const lines = Array.from({ length: 1 + random(5) }, () => {
        const line = [...bases[random(bases.length)]!];
        for (let k = random(3); k > 0; k--)
          line.splice(
            random(line.length + 1),
            random(3),
            ...(random(3) ? [bytes[random(bytes.length)]!] : []),
          );
        return Buffer.from([...line, 10]);
      });
      const block = Buffer.concat(lines).subarray(0, random(2) ? undefined : -1);
      if (block.length === 0) continue;
      const found = told(block);
      expect(found.map(({ text, read }) => ({ text, read }))).toEqual(reference(block));
      for (const { head, text } of found) {
        if (head === undefined) {
          wrong++;
          continue;
        }
        sure++;
        const { kind, id, host } = JSON.parse(text);
        expect(head).toEqual({ kind, id, host });
      }
    }
    expect(sure).toBeGreaterThan(1000);
    expect(wrong).toBeGreaterThan(1000);
  });

  test("one line that is not UTF-8 leaves its neighbours what they are", () => {
    const record = '{"kind":"k","id":"i"}';
    const block = Buffer.concat([Buffer.from(`${record}\n"`), Buffer.of(0xff), Buffer.from(`"\n${record}`)]);
    expect(told(block).map(({ sure, read }) => [sure, read])).toEqual([
      [true, { line: { kind: "k", id: "i" } }],
      [false, { why: "it is no UTF-8" }],
      [true, { line: { kind: "k", id: "i" } }],
    ]);
  });

  test("a line that was cut is no record, whatever it begins with", () => {
    const lines = new RecordLines({ text: '{"kind":"k","id":"i"}', bad: "it is too long" });
    expect([lines.next(), lines.sure, lines.read(), lines.next()]).toEqual([
      true,
      false,
      { why: "it is too long" },
      false,
    ]);
  });
});
