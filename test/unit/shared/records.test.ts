import { describe, expect, test } from "vitest";
import type { Guest } from "../../../shared/records/index.ts";
import { KINDS, type Kind, travelOf } from "../../../shared/records/index.ts";
import type { Line } from "../../../shared/records/line.ts";
import { foldOutcomes, guestMembers, type Outcome, sliceGuest } from "../../../shared/records/members.ts";
import { validate } from "../../../shared/records/validate.ts";

const kinds = Object.keys(KINDS) as Kind[];
const example = <K extends Kind>(kind: K) =>
  structuredClone(KINDS[kind].examples[0]!) as unknown as Record<string, unknown>;

describe("schemas", () => {
  test.each(kinds)("%s: its examples are valid, also with a field that nobody knows", (kind) => {
    expect(KINDS[kind].examples.length).toBeGreaterThan(0);
    for (const record of KINDS[kind].examples) {
      expect(validate(kind, record)._unsafeUnwrap()).toBe(record);
      expect(validate(kind, { ...record, x_future: { a: [1] } }).isOk()).toBe(true);
    }
  });

  test.each(kinds)("%s: each field that must be there is missed by name", (kind) => {
    const required = (KINDS[kind].schema as unknown as { required?: string[] }).required ?? [];
    expect(required).toContain("id");
    for (const field of required) {
      const { [field]: _, ...rest } = example(kind);
      expect(validate(kind, rest)._unsafeUnwrapErr(), field).toMatchObject({
        code: "data",
        message: expect.stringMatching(new RegExp(`^${kind} ${field}: expected .*, got nothing$`)),
      });
    }
  });

  test.each(kinds)("%s: a field of the wrong type is named", (kind) => {
    const properties = (KINDS[kind].schema as unknown as { properties: Record<string, { type?: string }> })
      .properties;
    for (const [field, schema] of Object.entries(properties)) {
      const wrong = schema.type === "string" ? 5 : "?\u0000";
      const refused = validate(kind, { ...example(kind), [field]: wrong })._unsafeUnwrapErr();
      expect(refused.message, field).toMatch(new RegExp(`^${kind} ${field}: expected .*, got `));
    }
  });

  const hostile = ["../x", "a/b", "a;b", "a\n", "a b", "-x", ".", "..", "", "ä", "a\u0000"];
  /** Clouds give hosts long names; all other ids are ours. */
  const tooLong = (isHost: boolean) => "x".repeat(isHost ? 256 : 41);
  test.each(kinds)("%s: hostile ids are refused", (kind) => {
    for (const id of [...hostile, tooLong(kind === "host" || kind === "exit")])
      expect(validate(kind, { ...example(kind), id }).isErr(), JSON.stringify(id)).toBe(true);
  });

  test("so are hostile hosts, images, segments and peers", () => {
    for (const bad of [...hostile, tooLong(true)]) {
      expect(validate("guest", { ...example("guest"), host: bad }).isErr()).toBe(true);
      expect(validate("segment", { ...example("segment"), hosts: [bad] }).isErr()).toBe(true);
      expect(validate("segment", { ...example("segment"), members: [{ host: bad }] }).isErr()).toBe(true);
    }
    for (const bad of [...hostile, tooLong(false)]) {
      expect(validate("guest", { ...example("guest"), image: bad }).isErr()).toBe(true);
      expect(validate("guest", { ...example("guest"), interfaces: [{ segment: bad }] }).isErr()).toBe(true);
      expect(
        validate("router", {
          ...example("router"),
          interfaces: [{ segment: "a", ip: "10.0.0.1/8", peer: bad }],
        }).isErr(),
      ).toBe(true);
      expect(validate("image", { ...example("image"), files: { kernel: bad, initrd: bad } }).isErr()).toBe(
        true,
      );
    }
  });

  test.each<[Kind, object, string]>([
    ["guest", { mem_mib: 0 }, "guest mem_mib: expected"],
    ["guest", { cores: 1.5 }, "guest cores: expected"],
    ["guest", { index: -1 }, "guest index: expected"],
    ["guest", { index: 2 ** 32 }, "guest index: expected"],
    ["guest", { state: "asleep" }, "guest state: expected"],
    ["guest", { id: "g[0-" }, "guest id: expected name, or a range of names"],
    [
      "guest",
      { interfaces: [{ segment: "a" }, { segment: "b", ip: "10.0.0.300/8" }] },
      "guest interfaces.1.ip: expected",
    ],
    ["guest", { interfaces: [{ segment: "a", ip: "10.0.0.1/33" }] }, "guest interfaces.0.ip: expected"],
    ["guest", { interfaces: [{ segment: "a", gateway: "x" }] }, "guest interfaces.0.gateway: expected"],
    ["guest", { interfaces: Array(257).fill({ segment: "a" }) }, "guest interfaces: expected"],
    ["guest", { error: { code: "odd", message: "" } }, "guest error.code: expected"],
    ["segment", { vni: 0 }, "segment vni: expected"],
    ["segment", { vni: 2 ** 24 }, "segment vni: expected"],
    ["segment", { delay_ms: -1 }, "segment delay_ms: expected"],
    ["segment", { loss: 1.01 }, "segment loss: expected"],
    ["segment", { rate_mbit: 0 }, "segment rate_mbit: expected"],
    ["segment", { prefix: "10.0.0.0" }, "segment prefix: expected"],
    ["router", { latitude: 91 }, "router latitude: expected"],
    ["router", { engine: "sh" }, "router engine: expected"],
    ["host", { addr: "::1" }, "host addr: expected"],
    ["end", { counts: { guest: -1 } }, "end counts.guest: expected"],
    ["experiment", { version: "1" }, "experiment version: expected"],
  ])("%s %j: %s", (kind, change, message) => {
    const refused = validate(kind, { ...example(kind), ...change })._unsafeUnwrapErr();
    expect(refused.message.slice(0, message.length)).toBe(message);
  });

  test("a plan of another version is refused with what to do", () => {
    for (const version of [0, 2])
      expect(validate("experiment", { ...example("experiment"), version })._unsafeUnwrapErr()).toEqual({
        code: "data",
        message: `Cannot read plan version ${version}: this tool knows version 1`,
        hint: "use tools of the same release on all hosts",
      });
  });
});

test.each<[Partial<Line>, string]>([
  [{ kind: "guest", host: "a" }, "host"],
  [{ kind: "guest" }, "context"],
  [{ kind: "host" }, "self"],
  [{ kind: "image", hosts: ["a"] }, "context"],
  [{ kind: "end" }, "end"],
  [{ kind: "sample", host: "a" }, "report"],
  [{ kind: "sonnet", host: "a" }, "host"],
  [{ kind: "sonnet" }, "context"],
  [{ kind: "__proto__" }, "context"],
  [{ kind: "constructor", host: "a" }, "host"],
])("%j travels as %s", (line, travel) => {
  expect(travelOf({ id: "x", ...line } as Line)).toBe(travel);
});

describe("guests of a range", () => {
  const guest: Guest = {
    kind: "guest",
    id: "g[0-226]",
    host: "kn1",
    index: 100,
    image: "tux",
    cores: 1,
    mem_mib: 128,
    interfaces: [{ segment: "lan", ip: "10.1.0.10/16", gateway: "10.1.0.1" }, { segment: "mgmt" }],
  };
  const all = guestMembers(guest)._unsafeUnwrap();

  test("member k has index + k and its addresses counted up by k; all else is the range's", () => {
    expect(all).toHaveLength(227);
    expect(all[226]).toEqual({
      ...guest,
      id: "g226",
      index: 326,
      interfaces: [{ segment: "lan", ip: "10.1.0.236/16", gateway: "10.1.0.1" }, { segment: "mgmt" }],
    });
  });

  test("a slice of it has the same members as the whole has there", () => {
    for (const [from, n] of [
      [0, 227],
      [5, 1],
      [100, 27],
      [226, 1],
    ] as const)
      expect(guestMembers(sliceGuest(guest, from, n)._unsafeUnwrap())._unsafeUnwrap()).toEqual(
        all.slice(from, from + n),
      );
  });

  test("one failure makes three records of it, and they have the same members", () => {
    const error = {
      by: "mt-boot",
      code: "timeout" as const,
      message: "Cannot boot g7: no answer after 60 s",
    };
    const outcomes: Outcome[] = all.map((_, k) =>
      k === 7 ? { state: "failed", error } : { state: "ready" },
    );
    const folded = foldOutcomes(guest, outcomes)._unsafeUnwrap();
    expect(folded.map((r) => [r.id, r.index, r.state, r.error?.code])).toEqual([
      ["g[0-6]", 100, "ready", undefined],
      ["g7", 107, "failed", "timeout"],
      ["g[8-226]", 108, "ready", undefined],
    ]);
    for (const r of folded) expect(validate("guest", r).isOk()).toBe(true);
    const again = folded.flatMap((r) => guestMembers(r)._unsafeUnwrap());
    expect(again).toEqual(all.map((m, k) => ({ ...m, ...outcomes[k] })));
  });

  test("where all went the same way it is one record again; an old failure is gone", () => {
    const failed: Guest = { ...guest, state: "failed", error: { code: "failed", message: "old" } };
    const same = all.map(() => ({ state: "ready" }) as Outcome);
    expect(foldOutcomes(failed, same)._unsafeUnwrap()).toEqual([{ ...guest, state: "ready" }]);
  });

  test("every way to split six guests folds back to the same six", () => {
    const six = { ...guest, id: "g[08-13]" };
    const members = guestMembers(six)._unsafeUnwrap();
    for (let bits = 0; bits < 64; bits++) {
      const outcomes = members.map((_, k) => ({ state: (bits >> k) & 1 ? "ready" : "paused" }) as Outcome);
      const folded = foldOutcomes(six, outcomes)._unsafeUnwrap();
      expect(folded.flatMap((r) => guestMembers(r)._unsafeUnwrap())).toEqual(
        members.map((m, k) => ({ ...m, ...outcomes[k] })),
      );
    }
  });

  test.each<[Partial<Guest>, RegExp]>([
    [{ interfaces: [{ segment: "a", ip: "10.1.0.250/24" }] }, /leaves the network/],
    [{ id: "g[0-999999999]" }, /more than/],
    [{ id: "g[3-1]" }, /counts down/],
    [{ id: "g[1,1]" }, /twice/],
    [{ index: 2 ** 32 - 1 }, /index 4294967521 is more than 4294967295/],
  ])("%j makes no half of a range", (change, why) => {
    expect(guestMembers({ ...guest, ...change })._unsafeUnwrapErr()).toMatchObject({
      code: "data",
      message: why,
    });
  });
});
