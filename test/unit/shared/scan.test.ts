/** The scanner of records against JSON.parse: what it accepts is JSON and says the same; what it leaves, others decide. */
import { describe, expect, test } from "vitest";
import { scanRecord } from "../../../shared/stream/scan.ts";

const scan = (text: string) => {
  const bytes = Buffer.from(text);
  const found = scanRecord(bytes, 0);
  return found && { kind: found.kind, id: found.id, host: found.host, end: found.end };
};

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
    const bytes = Buffer.from('{"kind":"a","id":"1"}\n{"kind":"b","id":"2","host":"h"}\n{"kind"');
    expect(scanRecord(bytes, 22)).toMatchObject({ kind: "b", id: "2", host: "h", end: 54 });
    expect(scanRecord(bytes, 55)).toBeUndefined();
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
  `{"kind":"k","id":"i","x":${"[".repeat(100)}${"]".repeat(100)}}`,
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
