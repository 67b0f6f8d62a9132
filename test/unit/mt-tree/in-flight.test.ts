/** Records that went to a host and came back: unchanged, changed, in another order, in parts, or not at all. */
import { expect, test } from "vitest";
import { InFlight } from "../../../tools/mt-tree/map/in-flight.ts";

const guest = (id: string, more = "") => `{"kind":"guest","id":"${id}","host":"h"${more}}\n`;

/** Sends lines, takes back others, in chunks; gives what comes out, and what is missing. */
function pass(sent: string[], back: string[], context: string[] = []) {
  const inFlight = new InFlight();
  if (context.length > 0) inFlight.sent(Buffer.from(context.join("")), "context");
  for (const line of sent) inFlight.sent(Buffer.from(line), "own");
  let out = "";
  const asked: string[] = [];
  for (const chunk of back)
    inFlight.came(
      Buffer.from(chunk),
      (run) => (out += run),
      (line) => {
        const text = line.toString();
        asked.push(text);
        const { kind, id } = JSON.parse(text);
        if (kind === "segment") return "drop";
        inFlight.settle({ kind, id });
        return "emit";
      },
    );
  return { out, asked, missing: [...inFlight.missing()].map((l) => (JSON.parse(l) as { id: string }).id) };
}

const all = Array.from({ length: 10 }, (_, i) => guest(`g${i}`));

test("a filter that gives back what it gets is never asked about a line", () => {
  const text = all.join("");
  expect(pass([text], [text])).toEqual({ out: text, asked: [], missing: [] });
  expect(pass(all, [all.slice(0, 3).join(""), all.slice(3).join("")])).toEqual({
    out: text,
    asked: [],
    missing: [],
  });
});

test("context comes out where it went in, not here", () => {
  const segment = '{"kind":"segment","id":"lan"}\n';
  expect(pass([all.join("")], [segment + all.join("")], [segment]).out).toBe(all.join(""));
  // Also where the filter leaves it out, or gives it back later.
  expect(pass([all.join("")], [all.join("")], [segment]).out).toBe(all.join(""));
  expect(pass([all.join("")], [all.join("") + segment], [segment]).out).toBe(all.join(""));
});

test("changed lines are told by kind and id, those between stay runs", () => {
  const changed = all.map((l, i) => (i % 3 === 0 ? guest(`g${i}`, ',"state":"ready"') : l));
  const { out, asked, missing } = pass([all.join("")], [changed.join("")]);
  expect(out).toBe(changed.join(""));
  expect(asked).toHaveLength(4);
  expect(missing).toEqual([]);
});

test("any order, and what did not come back", () => {
  const reversed = [...all].reverse();
  expect(pass([all.join("")], [reversed.join("")])).toMatchObject({ out: reversed.join(""), missing: [] });
  expect(pass([all.join("")], [reversed.slice(0, 8).join("")]).missing).toEqual(["g0", "g1"]);
  expect(pass([all.join("")], [all[4]! + all[2]!]).missing).toEqual([
    "g0",
    "g1",
    "g3",
    "g5",
    "g6",
    "g7",
    "g8",
    "g9",
  ]);
});

test("a range in parts, the parts that are missing as ranges", () => {
  const sent = [guest("g[0-9]"), guest("x")];
  const back = [guest("g[0-2]", ',"state":"ready"'), guest("x"), guest("g[5-9]")];
  expect(pass(sent, [back.join("")])).toMatchObject({ out: back.join(""), missing: ["g[3-4]"] });
});

test("lines that nobody sent settle nothing", () => {
  expect(pass([all.join("")], [guest("stranger") + all.join("")])).toMatchObject({ missing: [] });
  expect(pass([all[0]!], [guest("stranger")]).missing).toEqual(["g0"]);
});
