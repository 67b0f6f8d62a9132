/** Guests' records that were sent or stored: numbers that no double can hold come out as they went in. */
import { expect, test } from "vitest";
import type { Guest } from "../../../shared/records/index.ts";
import { guestMembers } from "../../../shared/records/members.ts";
import { fromKept, keptText, textOf, withText } from "../../../tools/mt-boot/client/came-as.ts";
import { foldGuests } from "../../../tools/mt-boot/client/fold.ts";

const line = (id: string, more: string, nic = `[{"segment":"s","ip":"10.1.0.10/16","z":1e400}]`) =>
  `{"id":"${id}", "kind":"guest","host":"h","index":0,"image":"tux","cores":1,"mem_mib":64,"interfaces":${nic}${more}}`;
const ODD = `,"n":9007199254740993,"e":1e400,"m":-0,"d":[${"[".repeat(300)}${"]".repeat(300)}],"s":"\\u00e9"`;
const read = (text: string) => withText(JSON.parse(text) as Guest, text);

test("a range goes through requests, members, rows and fold, and comes out as it came", () => {
  const text = line("g[0-3]", ODD);
  const sent = JSON.parse(JSON.stringify({ guest: read(text), text: keptText(read(text)) }));
  const members = guestMembers(fromKept(sent.guest as Guest, sent.text))._unsafeUnwrap();
  expect(textOf(members[2]!)).toBe(
    line("g2", ODD, `[{"segment":"s","ip":"10.1.0.12/16","z":1e400}]`).replace('"index":0', '"index":2'),
  );
  const rows = members.map((record) => JSON.parse(JSON.stringify({ record, text: keptText(record) })));
  const listed = rows.map(({ record, text }) => ({
    ...fromKept(record as Guest, text),
    state: "ready" as const,
  }));
  expect(foldGuests(listed).map(textOf)).toEqual([line("g[0-3]", `${ODD},"state":"ready"`)]);
});

test("guests fold only where what nobody knows is the same text", () => {
  const next = (n: string) => line("g1", `,"n":${n}`, "[]").replace('"index":0', '"index":1');
  const first = line("g0", `,"n":9007199254740993`, "[]");
  const ids = (n: string) => foldGuests([read(first), read(next(n))]).map(({ id }) => id);
  expect(ids("9007199254740993")).toEqual(["g[0-1]"]);
  expect(ids("9007199254740992")).toEqual(["g0", "g1"]);
});

test("what JSON writes as it came is not kept twice", () => {
  const plain = JSON.stringify({ kind: "guest", id: "g0", x: [1, "a"] });
  expect(keptText(withText(JSON.parse(plain), plain))).toBeUndefined();
  expect(keptText(withText({ kind: "guest", id: "g0" }, "no JSON"))).toBeUndefined();
});
