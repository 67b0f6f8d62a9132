import { openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { mtError } from "../../../shared/errors.ts";
import { type Filter, runFilter } from "../../../shared/stream/filter.ts";
import { readRecord } from "../../../shared/stream/record-line.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import { streamOf, tempDir } from "./fixtures.ts";

const END = '{"kind":"end","id":"a","counts":{}}';
const guest = (id: string, host = "here", more = {}) =>
  JSON.stringify({
    kind: "guest",
    id,
    host,
    index: 0,
    image: "tux",
    cores: 1,
    mem_mib: 64,
    interfaces: [],
    ...more,
  });

/** Runs a filter over lines; gives what came out and how it ended. */
async function filtered(
  filter: Partial<Filter>,
  input: string[] | AsyncIterable<Buffer>,
  signal?: AbortSignal,
) {
  const path = join(tempDir(), "out");
  const stream = Array.isArray(input) ? streamOf(input.map((l) => `${l}\n`).join("")) : input;
  const result = await runFilter(
    { by: "mt-x", host: "here", changes: true, ...filter },
    { input: stream, writer: new LineWriter(openSync(path, "w")), signal },
  );
  const text = readFileSync(path, "utf8");
  return { ...result, text, lines: text === "" ? [] : text.slice(0, -1).split("\n") };
}
const ids = (lines: string[]) => lines.map((l) => (JSON.parse(l) as { id: string }).id);

/** Something that settles when told, and says that it has begun. */
function gate<T = void>() {
  let open!: (value: T) => void;
  const opened = new Promise<T>((done) => {
    open = done;
  });
  return { open, opened };
}

describe("pass-through", () => {
  test("lines of others and of unknown kinds are not touched, byte for byte", async () => {
    const lines = [
      `{"kind":"experiment", "id":"a","version":1,"seed":7}`,
      `  {"id":"x","kind":"sonnet","n":12345678901234567890,"f":1.0,"e":1E+2,"u":"\\u00e4ä\\/\u{1f680}"}  `,
      `{"kind":"guest","id":"../other","host":"there"}`,
      `{"kind":"sonnet","id":"../x","dup":1,"dup":2}\r`,
      `{"kind":"__proto__","id":"x","__proto__":{"a":1}}`,
      guest("g1", "there", { x: 1 }),
      END,
    ];
    const done = await filtered({ owns: { guest: () => undefined } }, lines);
    expect(done).toMatchObject({ code: 0, lines });
  });

  test("a handler that gives nothing back leaves its line as it came", async () => {
    const odd = ` {"interfaces":[],"mem_mib":64,"cores":1,"image":"tux","index":0,"host":"here","id":"g","kind":"guest","z":1.00}`;
    expect((await filtered({ owns: { guest: async () => undefined } }, [odd, END])).lines).toEqual([
      odd,
      END,
    ]);
  });

  test("empty lines are no records", async () => {
    expect((await filtered({}, ["", "  ", END])).lines).toEqual([END]);
  });

  test("the host's own record is its own, one without a host is nobody's", async () => {
    const seen: string[] = [];
    const note = (r: { id: string }) => void seen.push(r.id);
    const host = (id: string) => JSON.stringify({ kind: "host", id, cores: 1, mem_mib: 1 });
    await filtered({ owns: { guest: note, host: note } }, [
      host("here"),
      host("there"),
      guest("g1"),
      guest("g2", "there"),
      `${guest("g3").replace('"host":"here",', "")}`,
      END,
    ]);
    expect(seen).toEqual(["here", "g1"]);
  });

  test("what is read is read wherever it is from, and goes on as it came", async () => {
    const seen: string[] = [];
    const lines = [guest("g1", "there"), guest("g2"), END];
    const done = await filtered({ reads: { guest: (g) => void seen.push(g.id) } }, lines);
    expect([seen, done.lines]).toEqual([["g1", "g2"], lines]);
  });
});

describe("bytes that pass", () => {
  /** Chunks of `size` bytes in one buffer that is filled again and again, as stdin is read. */
  async function* refilled(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
    const buffer = Buffer.alloc(size);
    for (let at = 0; at < bytes.length; at += size) {
      const n = bytes.copy(buffer, 0, at, at + size);
      yield buffer.subarray(0, n);
      await new Promise((done) => setImmediate(done));
      buffer.fill("#");
    }
  }

  test.each([7, 64, 1000, 65_536])("are not those of a later chunk: chunks of %d bytes", async (size) => {
    const other = (i: number) => (i % 3 === 0 ? guest(`x${i}`, "there") : `{"kind":"sonnet","id":"s${i}"}`);
    const lines = Array.from({ length: 400 }, (_, i) => (i % 7 === 0 ? guest(`g${i}`) : other(i)));
    const handler = async () => {
      await new Promise((done) => setTimeout(done, 3));
      return undefined;
    };
    const input = Buffer.from([...lines, END].map((line) => `${line}\n`).join(""));
    const done = await filtered({ owns: { guest: handler } }, refilled(input, size));
    expect(done.code).toBe(0);
    expect([...done.lines].sort()).toEqual([...lines, END].sort());
    const here = (all: string[]) => all.filter((line) => !line.includes('"there"'));
    expect(here(done.lines)).toEqual(here([...lines, END]));
  });

  test("of any lines, records pass as they came and all others are error records", async () => {
    // The same numbers every run.
    let state = 5;
    const random = (n: number) => (state = (state * 1103515245 + 12345) % 2147483648) % n;
    const bases = [guest("g1", "there"), '{"id":"i", "x":[1.0,{"a":"\\u00e4ü"}],"kind":"sonnet"}', " ", "{}"];
    const letters = '{}[]",:\\019.eE+-truefalsn u\t\r\u00a0';
    const lines = Array.from({ length: 3000 }, () => {
      let text = bases[random(bases.length)]!;
      for (let k = random(3); k > 0; k--) {
        const at = random(text.length + 1);
        text =
          text.slice(0, at) + (random(3) ? letters[random(letters.length)] : "") + text.slice(at + random(3));
      }
      return text;
    });
    const done = await filtered({ owns: { guest: () => undefined }, open: true }, lines);
    const reads = lines.map((text) => readRecord({ text }));
    const came = reads.flatMap((read, i) => (read === undefined ? [] : [{ read, text: lines[i]! }]));
    expect(done.lines).toHaveLength(came.length);
    let errors = 0;
    for (const [i, { read, text }] of came.entries()) {
      const line = done.lines[i]!;
      if ("line" in read && (read.line.kind !== "guest" || read.line.host === "there"))
        expect(line).toBe(text);
      else if ("why" in read) {
        errors++;
        expect(JSON.parse(line)).toMatchObject({ kind: "error", raw: text });
        expect(JSON.parse(line).error.message).toContain(read.why);
      }
    }
    expect(errors).toBeGreaterThan(500);
    expect(done.code).toBe(65);
  });
});

describe("order", () => {
  test("is kept for this host though handlers end in any order; other hosts do not wait", async () => {
    const gates = { g1: gate(), g2: gate(), g3: gate() };
    const lines = [
      guest("g1"),
      guest("x1", "there"),
      guest("g2"),
      '{"kind":"sonnet","id":"context"}',
      guest("g3"),
      guest("x2", "there"),
      END,
    ];
    const run = filtered(
      {
        owns: {
          guest: async (g) => {
            await gates[g.id as "g1"].opened;
            return { ...g, state: "ready" as const };
          },
        },
      },
      lines,
    );
    gates.g3.open();
    await new Promise(setImmediate);
    gates.g2.open();
    await new Promise(setImmediate);
    gates.g1.open();
    expect(ids((await run).lines)).toEqual(["x1", "x2", "g1", "g2", "context", "g3", "a"]);
  });

  test("a record that is done comes out while others are still at work and no further line comes", async () => {
    const slow = gate();
    const path = join(tempDir(), "out");
    async function* input() {
      yield Buffer.from(`${guest("g1")}\n${guest("g2")}\n`);
      await slow.opened;
      yield Buffer.from(`${END}\n`);
    }
    const run = runFilter(
      {
        by: "mt-x",
        host: "here",
        changes: true,
        owns: {
          guest: async (g) => {
            if (g.id === "g2") await slow.opened;
            return { ...g, done: 1 };
          },
        },
      },
      { input: input(), writer: new LineWriter(openSync(path, "w")) },
    );
    await vi.waitFor(() => expect(ids(readFileSync(path, "utf8").trim().split("\n"))).toEqual(["g1"]));
    slow.open();
    expect((await run).code).toBe(0);
    expect(ids(readFileSync(path, "utf8").trim().split("\n"))).toEqual(["g1", "g2", "a"]);
  });

  test("one record may become several, in its place", async () => {
    const done = await filtered(
      {
        owns: {
          guest: (g) => [
            { ...g, id: "a1" },
            { ...g, id: "a2" },
          ],
        },
      },
      [guest("g[1-2]"), '{"kind":"x","id":"y"}', END],
    );
    expect(ids(done.lines)).toEqual(["a1", "a2", "y", "a"]);
  });
});

describe("end", () => {
  test("is a barrier: what waits for it begins when all else is done, and goes out before it", async () => {
    const events: string[] = [];
    const slow = gate();
    const run = filtered(
      {
        owns: {
          guest: async (g, context) => {
            if (g.id === "slow") {
              await slow.opened;
              events.push("slow is done");
            }
            return context.atEnd(() => {
              events.push(`${g.id} at end`);
              return { ...g, state: "running" as const };
            });
          },
        },
        onEnd: () => void events.push("onEnd"),
        afterEnd: (context) => {
          events.push("afterEnd");
          context.emit({ kind: "sample", id: "s" });
        },
      },
      [guest("quick"), guest("slow"), END],
    );
    // End has been read long before the handler is done.
    await new Promise((r) => setTimeout(r, 30));
    expect(events).toEqual([]);
    slow.open();
    const done = await run;
    expect(events).toEqual(["slow is done", "onEnd", "quick at end", "slow at end", "afterEnd"]);
    expect(ids(done.lines)).toEqual(["quick", "slow", "s", "a"]);
    expect(done.code).toBe(0);
  });

  test("work that goes on after the barrier is waited for", async () => {
    const done = await filtered(
      {
        owns: {
          guest: async (g, context) => {
            await context.atEnd(() => undefined);
            await new Promise((r) => setTimeout(r, 20));
            return { ...g, state: "ready" as const };
          },
        },
      },
      [guest("g1"), END],
    );
    expect(done.lines[0]).toContain('"state":"ready"');
  });

  test("a stream without it was cut off: nothing that waits is done, every line is still there, 65", async () => {
    const ran: string[] = [];
    const lines = [guest("g1"), '{"kind":"x","id":"y"}', guest("g2", "there")];
    const done = await filtered(
      {
        owns: { guest: (_g, context) => context.atEnd(() => void ran.push("at end")) },
        onEnd: () => void ran.push("onEnd"),
        afterEnd: () => void ran.push("afterEnd"),
        onCutOff: () => void ran.push("cut off"),
      },
      lines,
    );
    expect(ran).toEqual(["cut off"]);
    expect(done.code).toBe(65);
    expect(done.error?.message).toBe("Cannot finish: the stream ended after 3 lines without an end record");
    expect([...done.lines].sort()).toEqual([...lines].sort());
  });

  test("one without any line was cut off too; an open filter expects none", async () => {
    expect((await filtered({}, [])).code).toBe(65);
    expect((await filtered({ open: true }, [])).code).toBe(0);
  });

  test("half an end is none", async () => {
    const done = await filtered({}, streamOf(`${END.slice(0, -1)}`));
    expect([done.code, JSON.parse(done.lines[0]!).error.message]).toEqual([
      65,
      "Cannot read line 1: it is no JSON",
    ]);
  });

  test("no newline behind it is fine", async () => {
    expect(await filtered({}, streamOf(END))).toMatchObject({ code: 0, text: `${END}\n` });
  });

  test("lines after it are refused, and it stays the last line", async () => {
    const done = await filtered({ owns: { guest: (g) => ({ ...g, state: "ready" }) } }, [
      END,
      guest("late"),
      END,
    ]);
    expect(done.code).toBe(65);
    expect(done.lines.map((l) => JSON.parse(l).kind)).toEqual(["error", "error", "end"]);
    expect(done.lines[0]).toContain("it stands after the end record");
  });
});

describe("lines that are no records", () => {
  test.each([
    ["{", "it is no JSON"],
    ["null", "it is no JSON object"],
    ["[]", "it is no JSON object"],
    ['"x"', "it is no JSON object"],
    ["{}", "kind: expected a string"],
    ['{"kind":1,"id":"x"}', "kind: expected a string"],
    ['{"kind":"","id":"x"}', "kind: expected a string"],
    ['{"kind":"guest"}', "id: expected a string"],
    ['{"kind":"guest","id":["x"]}', "id: expected a string"],
    ['{"kind":"end","id":"a"}', "end counts: expected object (records a kind, ranges expanded), got nothing"],
    [
      '{"kind":"experiment","id":"a","version":2,"seed":0}',
      "Cannot read plan version 2: this tool knows version 1",
    ],
    [
      guest("../x"),
      'guest id: expected name, or a range of names (letters, digits, . _ -, 40 at most; one range in brackets), got "../x"',
    ],
    [
      guest("a;b"),
      'guest id: expected name, or a range of names (letters, digits, . _ -, 40 at most; one range in brackets), got "a;b"',
    ],
    [
      guest("a\n"),
      'guest id: expected name, or a range of names (letters, digits, . _ -, 40 at most; one range in brackets), got "a\\n"',
    ],
    [`\ufeff${END}`, "it is no JSON"],
  ])("%j: %s", async (bad, why) => {
    let acted = 0;
    const done = await filtered({ owns: { guest: () => void acted++ } }, [
      '{"kind":"x","id":"1"}',
      bad,
      '{"kind":"x","id":"2"}',
      END,
    ]);
    expect(done.code).toBe(65);
    expect(acted).toBe(0);
    expect(done.lines).toHaveLength(4);
    expect(JSON.parse(done.lines[1]!)).toEqual({
      kind: "error",
      id: "mt-x.line-2",
      line: 2,
      raw: bad,
      error: { by: "mt-x", code: "data", message: `Cannot read line 2: ${why}` },
    });
    expect(done.error?.message).toBe(`Cannot read line 2: ${why}`);
  });

  test("bytes that are no UTF-8 come out as an error record; the raw line is cut after 4,096 characters", async () => {
    const done = await filtered(
      {},
      streamOf(Buffer.concat([Buffer.alloc(5000, "x"), Buffer.from([0xff, 10]), Buffer.from(END)])),
    );
    expect(done.code).toBe(65);
    expect(JSON.parse(done.lines[0]!)).toMatchObject({
      line: 1,
      raw: "x".repeat(4096),
      error: { message: "Cannot read line 1: it is no UTF-8" },
    });
  });
});

describe("failure", () => {
  test("is a record, the rest goes on, and the exit code says so", async () => {
    const done = await filtered(
      {
        owns: {
          guest: (g, context) =>
            g.id === "g1"
              ? context.failed(g, mtError("timeout", "Cannot x: y", "z"))
              : { ...g, state: "ready" },
        },
      },
      [guest("g1"), guest("g2"), END],
    );
    expect(done.code).toBe(1);
    expect(JSON.parse(done.lines[0]!)).toMatchObject({
      state: "failed",
      error: { by: "mt-x", code: "timeout", message: "Cannot x: y", hint: "z" },
    });
    expect(JSON.parse(done.lines[1]!)).toMatchObject({ id: "g2", state: "ready" });
  });

  test("the first error stays", async () => {
    const earlier = { by: "mt-vnet", code: "failed", message: "first" };
    const done = await filtered({ owns: { guest: (g, c) => c.failed(g, mtError("failed", "second")) } }, [
      guest("g1", "here", { state: "failed", error: earlier }),
      END,
    ]);
    expect(JSON.parse(done.lines[0]!).error).toEqual(earlier);
  });

  test.each([
    [
      "throws",
      () => {
        throw new Error("oops");
      },
    ],
    [
      "rejects",
      async () => {
        throw new Error("oops");
      },
    ],
    [
      "rejects at the end",
      (_: unknown, c: { atEnd(f: () => never): Promise<undefined> }) =>
        c.atEnd(() => {
          throw new Error("oops");
        }),
    ],
  ])("a handler that %s is a bug: 70, its record failed, the others done", async (_, handler) => {
    const done = await filtered(
      {
        owns: {
          guest: ((g: { id: string }, c: never) =>
            g.id === "g1"
              ? (handler as (...a: unknown[]) => unknown)(g, c)
              : { ...g, state: "ready" }) as never,
        },
      },
      [guest("g1"), guest("g2"), END],
    );
    expect(done.code).toBe(70);
    expect(JSON.parse(done.lines[0]!)).toMatchObject({
      id: "g1",
      state: "failed",
      error: { by: "mt-x", code: "bug" },
    });
    expect(JSON.parse(done.lines[1]!)).toMatchObject({ id: "g2", state: "ready" });
  });

  test("an emitted failure counts; a failure that only passes by does not", async () => {
    expect(
      (await filtered({ afterEnd: (c) => c.emit({ kind: "sample", id: "s", state: "failed" }) }, [END])).code,
    ).toBe(1);
    expect(
      (await filtered({ owns: { guest: () => undefined } }, [guest("g", "there", { state: "failed" }), END]))
        .code,
    ).toBe(0);
  });

  test("a note makes the exit code, the first one", async () => {
    const done = await filtered(
      {
        afterEnd: (c) => {
          c.note(mtError("unavailable", "first"));
          c.note(mtError("busy", "second"));
        },
      },
      [END],
    );
    expect(done).toMatchObject({ code: 69, error: { message: "first" } });
  });
});

test("--only prints the tool's own records and no others", async () => {
  const done = await filtered(
    {
      only: true,
      owns: { guest: (g) => ({ ...g, state: "ready" }) },
      afterEnd: (c) => c.emit({ kind: "sample", id: "s" }),
    },
    [
      '{"kind":"experiment","id":"a","version":1,"seed":0}',
      guest("g1"),
      guest("g2", "there"),
      '{"kind":"x","id":"y"}',
      END,
    ],
  );
  expect(ids(done.lines)).toEqual(["g1", "s"]);
});

describe("faults", () => {
  type AtEnd = { atEnd(run: () => unknown): unknown };
  const cyclic: Record<string, unknown> = { kind: "guest", id: "g1" };
  cyclic.self = cyclic;
  let nested: object = {};
  for (let i = 0; i < 200_000; i++) nested = [nested];
  const thrower = () => {
    throw new Error("oops");
  };
  const unshowable = Object.assign(Object.create(null), { n: 1n });
  /** What a handler may give that cannot be written. */
  const OUTCOMES: [string, unknown][] = [
    ["what contains itself", cyclic],
    ["BigInt", { kind: "guest", id: "g1", n: 1n }],
    ["what throws when it is written", { kind: "guest", id: "g1", x: { toJSON: thrower } }],
    [
      "what throws when it is read",
      Object.defineProperty({ kind: "guest", id: "g1" }, "x", { get: thrower, enumerable: true }),
    ],
    ["what is nothing when it is written", { kind: "guest", id: "g1", toJSON: () => undefined }],
    ["what is nested deeper than a stack", { kind: "guest", id: "g1", nested }],
    ["a number", 5],
    ["null", null],
    ["a list with a hole", [{ kind: "guest", id: "g1" }, undefined]],
    ["a list of lists", [[]]],
  ];
  const WAYS: [string, (make: () => unknown) => (g: unknown, c: AtEnd) => unknown][] = [
    ["at once", (make) => () => make()],
    ["later", (make) => async () => make()],
    ["at the end", (make) => (_, c) => c.atEnd(make)],
    ["later at the end", (make) => (_, c) => c.atEnd(async () => make())],
    [
      "after the end",
      (make) => async (_, c) => {
        await c.atEnd(() => undefined);
        return make();
      },
    ],
  ];
  const unhandled: unknown[] = [];
  const seen = (thrown: unknown) => void unhandled.push(thrown);
  beforeAll(() => void process.on("unhandledRejection", seen));
  afterAll(() => void process.off("unhandledRejection", seen));

  /** One record out of three is bad for the handler: it fails, the others do not, `end` comes. */
  async function oneFails(handler: (g: unknown, c: never) => unknown) {
    const done = await filtered(
      {
        owns: {
          guest: ((g: { id: string }, c: never) =>
            g.id === "g1" ? handler(g, c) : { ...g, state: "ready" }) as never,
        },
      },
      [guest("g0"), guest("g1", "here", { x: 1 }), guest("g2"), '{"kind":"x","id":"y"}', END],
    );
    await new Promise(setImmediate);
    expect(unhandled).toEqual([]);
    expect(ids(done.lines)).toEqual(["g0", "g1", "g2", "y", "a"]);
    expect(done.lines.map((l) => JSON.parse(l).state)).toEqual([
      "ready",
      "failed",
      "ready",
      undefined,
      undefined,
    ]);
    expect(JSON.parse(done.lines[1]!)).toMatchObject({ x: 1, error: { by: "mt-x", code: "bug" } });
    expect(done.code).toBe(70);
  }

  describe.each(WAYS)("a handler gives %s", (_, way) => {
    test.each(OUTCOMES)("%s: the record fails", (_name, outcome) => oneFails(way(() => outcome)));
    test.each([
      ["an error", new Error("oops")],
      ["what contains itself", cyclic],
      ["what cannot be shown", unshowable],
      ["null", null],
      ["nothing", undefined],
    ])("nothing, it throws %s: the record fails", (_name, thrown) =>
      oneFails(
        way(() => {
          throw thrown;
        }),
      ),
    );
  });

  const STEPS = [
    "reads",
    "onEnd",
    "afterEnd",
    "emit in a handler",
    "emit at the end",
    "another's atEnd",
  ] as const;
  test.each(STEPS.flatMap((step) => [[step, "throws"] as const, [step, "rejects"] as const]))(
    "in %s that %s: every record comes out, end too, 70",
    async (step, how) => {
      const fault = (): Promise<never> => {
        if (how === "throws") throw new Error("oops");
        return Promise.reject(new Error("oops"));
      };
      const lines = [guest("g0"), '{"kind":"image","id":"i","os":"linux","fork":true}', guest("g1"), END];
      const done = await filtered(
        {
          reads: step === "reads" ? { image: fault, guest: fault } : {},
          owns: {
            guest: (g, c) => {
              if (step === "emit in a handler") c.emit(cyclic);
              // Its result is never awaited.
              if (step === "another's atEnd") void c.atEnd(fault);
              return c.atEnd(() => ({ ...g, state: "ready" }));
            },
          },
          onEnd: step === "onEnd" ? fault : undefined,
          afterEnd:
            step === "afterEnd" ? fault : step === "emit at the end" ? (c) => c.emit(cyclic) : undefined,
        },
        lines,
      );
      await new Promise(setImmediate);
      expect(unhandled).toEqual([]);
      expect(ids(done.lines)).toEqual(["g0", "i", "g1", "a"]);
      expect(done.code).toBe(70);
    },
  );

  test.each(["throws", "rejects"])("onCutOff that %s: every record comes out, 70", async (how) => {
    const done = await filtered(
      {
        owns: { guest: (g, c) => c.atEnd(() => g) },
        onCutOff: () => {
          if (how === "throws") throw new Error("oops");
          return Promise.reject(new Error("oops"));
        },
      },
      [guest("g0"), guest("g1")],
    );
    expect([ids(done.lines), done.lines.length]).toEqual([["g0", "g1"], 2]);
    // The first error is that the stream was cut off.
    expect(done.code).toBe(65);
  });

  test("input that cannot be read on: what was read is finished, and comes out", async () => {
    const slow = gate();
    async function* broken() {
      yield Buffer.from(`${guest("g0")}\n${guest("g1")}\n${guest("g2").slice(0, 20)}`);
      throw Object.assign(new Error("EIO: i/o error, read"), { code: "EIO" });
    }
    const run = filtered(
      {
        owns: {
          guest: async (g, c) => {
            if (g.id === "g1") return c.atEnd(() => ({ ...g, state: "ready" }));
            await slow.opened;
            return { ...g, state: "ready" };
          },
        },
      },
      broken(),
    );
    setTimeout(slow.open, 20);
    const done = await run;
    expect(done.lines.map((l) => [JSON.parse(l).id, JSON.parse(l).state])).toEqual([
      ["g0", "ready"],
      ["g1", undefined],
    ]);
    expect(done).toMatchObject({ code: 74, error: { code: "io" } });
  });

  test.each(["at once", "later", "at the end"])(
    "stdout that is full when a handler emits %s: 74, no hang",
    async (when) => {
      const result = await runFilter(
        {
          by: "mt-x",
          host: "here",
          changes: true,
          owns: {
            guest: async (g, c) => {
              if (when === "later") await new Promise(setImmediate);
              const emit = (): undefined => c.emit({ kind: "sample", id: g.id }) as undefined;
              if (when === "at the end") return c.atEnd(emit);
              emit();
            },
          },
        },
        {
          input: streamOf(`${guest("g0")}\n${guest("g1")}\n${END}\n`),
          writer: new LineWriter(openSync("/dev/full", "w")),
        },
      );
      expect(result).toMatchObject({ code: 74, error: { code: "io" } });
      expect(unhandled).toEqual([]);
    },
  );
});

describe("a record that is nested too deeply", () => {
  const x = "[".repeat(40_000) + "]".repeat(40_000);
  const withX = (text: string) => `${text.slice(0, -1)},"x":${x}}`;

  test("fails where it is the tool's own, and passes, read or not, where it is not", async () => {
    const acted: string[] = [];
    const seen: string[] = [];
    const lines = [
      withX('{"kind":"experiment","id":"a","version":1,"seed":0}'),
      withX('{"kind":"image","id":"i","os":"linux","fork":true}'),
      withX(guest("g0")),
      withX(guest("g1", "there")),
      withX('{"kind":"sonnet","id":"s"}'),
      guest("g2"),
      withX(END),
    ];
    const done = await filtered(
      {
        owns: { guest: (g) => void acted.push(g.id) },
        reads: { image: (i) => void seen.push(i.id), experiment: (e) => void seen.push(e.id) },
      },
      lines,
    );
    expect([acted, seen]).toEqual([["g2"], ["a", "i"]]);
    const failed = readRecord({ text: done.lines[2]! });
    expect(failed).toMatchObject({
      line: {
        id: "g0",
        state: "failed",
        error: {
          by: "mt-x",
          code: "data",
          message: "Cannot act on guest g0: x: nested deeper than 256 levels",
        },
      },
      deep: ["x"],
    });
    expect(done.lines[2]).toContain(x);
    expect(done.lines.toSpliced(2, 1)).toEqual(lines.toSpliced(2, 1));
    expect(done.code).toBe(1);
  });

  test("is refused where what is too deep is a field of its kind", async () => {
    const done = await filtered({ reads: { image: () => undefined } }, [
      `{"kind":"image","id":"i","os":"linux","fork":true,"files":${x}}`,
      END,
    ]);
    expect(done.code).toBe(65);
    expect(JSON.parse(done.lines[0]!)).toMatchObject({
      kind: "error",
      error: { message: "Cannot read line 1: image files: nested deeper than 256 levels" },
    });
  });
});

describe("a plan that was never placed", () => {
  const nowhere = guest("g0").replace('"host":"here",', "");
  test("is bad input: what was to have a host fails, and says what places it; context passes", async () => {
    const acted = vi.fn();
    const segment = '{"kind":"segment","id":"s","vni":1}';
    const lines = ['{"kind":"experiment","id":"a","version":1,"seed":0}', segment, nowhere, END];
    const done = await filtered({ owns: { guest: acted } }, lines);
    expect(acted).not.toHaveBeenCalled();
    expect(done.lines.toSpliced(2, 1)).toEqual(lines.toSpliced(2, 1));
    expect(JSON.parse(done.lines[2]!)).toMatchObject({
      id: "g0",
      state: "failed",
      error: { code: "data", message: "Cannot act on guest g0: it was never placed on a host" },
    });
    expect(done).toMatchObject({ code: 65, error: { hint: expect.stringContaining("mt-topo place") } });
  });

  test("passes a tool that has nothing to do with guests, or is for those of any host", async () => {
    for (const filter of [{}, { anyHost: true, owns: { guest: () => undefined } }])
      expect(await filtered(filter, [nowhere, END])).toMatchObject({ code: 0, lines: [nowhere, END] });
  });
});

describe("abort", () => {
  test("ends a wait for the next line; what waits for the end is let go unchanged", async () => {
    const abort = new AbortController();
    async function* endless() {
      yield Buffer.from(`${guest("g1")}\n`);
      abort.abort();
      await new Promise(() => {});
    }
    const ran = vi.fn();
    const done = await filtered({ owns: { guest: (_g, c) => c.atEnd(ran) } }, endless(), abort.signal);
    expect(ran).not.toHaveBeenCalled();
    expect(done.lines).toEqual([guest("g1")]);
  });

  test("reaches handlers by their signal", async () => {
    const abort = new AbortController();
    const done = await filtered(
      {
        owns: {
          guest: (g, c) =>
            new Promise<object>((resolve) => {
              c.signal.addEventListener("abort", () =>
                resolve(c.failed(g, mtError("failed", "interrupted"))),
              );
              setTimeout(() => abort.abort(), 10);
            }),
        },
      },
      [guest("g1"), END],
      abort.signal,
    );
    expect(JSON.parse(done.lines[0]!).state).toBe("failed");
    expect(done.code).toBe(1);
  });

  test("from before the start: nothing is done", async () => {
    const ran = vi.fn();
    await filtered({ owns: { guest: ran } }, [guest("g1"), END], AbortSignal.abort());
    expect(ran).not.toHaveBeenCalled();
  });
});

test("memory does not grow with the stream", async () => {
  const chunk = Buffer.from(`${guest("g1", "there", { pad: "x".repeat(400) })}\n`.repeat(120));
  const rss: number[] = [];
  async function* long() {
    for (let i = 0; i < 6000; i++) {
      await Promise.resolve();
      // A buffer of its own a chunk, as a file stream hands them out.
      yield Buffer.from(chunk);
      if (i === 1000 || i === 5999) rss.push(process.memoryUsage().rss);
    }
    yield Buffer.from(END);
  }
  const writer = new LineWriter(openSync("/dev/null", "w"));
  const result = await runFilter(
    { by: "mt-x", host: "here", changes: false, owns: { guest: () => undefined } },
    { input: long(), writer },
  );
  expect(result.code).toBe(0);
  // 5,000 chunks are 330 MB.
  expect(rss[1]! - rss[0]!).toBeLessThan(120e6);
});
