/**
 * What a hostile guest may send its supervisor, and what becomes of it: lines and strings without an end, answers that
 * nobody asked for, logs that grow. And when silence is death: not while the host itself is slow, or stood still.
 */
import { closeSync, openSync, readFileSync, statSync, symlinkSync, writeFileSync, writeSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openAgent } from "../../../tools/mt-boot/guest/agent.ts";
import { openCalls } from "../../../tools/mt-boot/guest/calls.ts";
import { ConsoleFile } from "../../../tools/mt-boot/guest/console-file.ts";
import { LINE_BYTES_MAX, LineCutter, STRING_BYTES_MAX } from "../../../tools/mt-boot/machine/lines.ts";
import { Silence } from "../../../tools/mt-boot/supervisor/heartbeat.ts";
import { keepEnd, LOG_BYTES_KEPT, LOG_BYTES_MAX } from "../../../tools/mt-boot/supervisor/log-end.ts";
import { tempDir } from "../shared/fixtures.ts";

describe("lines of a guest", () => {
  /** The lines that come out where the bytes come in pieces of `piece` bytes. */
  const cut = (input: Buffer, piece: number) => {
    const lines: string[] = [];
    const cutter = new LineCutter((line) => lines.push(line.toString()));
    for (let at = 0; at < input.length; at += piece) cutter.push(input.subarray(at, at + piece));
    return lines;
  };

  test("whole lines come out as they are, in whatever pieces they come", () => {
    const lines = ['{"a":"b"}', '{"q":"\\"x\\\\"}', "no json at all", '"open', '{"after":"it"}'];
    for (const piece of [1, 2, 7, 1000])
      expect(cut(Buffer.from(`${lines.join("\n\n")}\n`), piece)).toEqual(lines);
  });

  test("of a string that is too long its beginning stays, and the line is what it was but for that", () => {
    const long = "x".repeat(STRING_BYTES_MAX + 100_000);
    for (const piece of [4096, 65_536, 2 ** 22]) {
      const [line, next] = cut(
        Buffer.from(`{"out":"${long}","n":[1,"${long}"],"end":"\\""}\n{"b":2}\n`),
        piece,
      );
      const read = JSON.parse(line!) as { out: string; n: [number, string]; end: string };
      expect([read.out.length, read.n[1].length]).toEqual([STRING_BYTES_MAX, STRING_BYTES_MAX]);
      expect(read).toMatchObject({ n: [1, expect.any(String)], end: '"' });
      expect(next).toBe('{"b":2}');
    }
  });

  test("a line that is too long is none, costs no memory, and the next one is read", () => {
    const lines: string[] = [];
    const cutter = new LineCutter((line) => lines.push(line.toString()));
    const before = process.memoryUsage().rss;
    const junk = Buffer.alloc(1024 * 1024, "7");
    for (let sent = 0; sent < 200; sent++) cutter.push(junk);
    expect(process.memoryUsage().rss - before).toBeLessThan(16 * LINE_BYTES_MAX);
    cutter.push(Buffer.from('\n{"b":2}\n'));
    expect(lines).toEqual(['{"b":2}']);
  });
});

describe("ports of a guest", () => {
  /** A port whose guest sends junk for as long as it is taken, and answers between it where it is told to. */
  const flooded = async (answer: (request: Buffer, socket: Socket) => void) => {
    const path = join(tempDir(), "port");
    let taken = 0;
    const sockets = new Set<Socket>();
    const junk = Buffer.alloc(65_536, '{"return":1}\n');
    const server = createServer((socket) => {
      sockets.add(socket);
      const more = () => {
        while (!socket.destroyed && socket.write(junk)) taken += junk.length;
      };
      socket.on("drain", more);
      socket.on("error", () => {});
      socket.on("data", (request: Buffer) => answer(request, socket));
      more();
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    const close = () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    };
    return { path, taken: () => taken, close };
  };
  /** How much is taken while nobody asks: what fits into sockets and what is on its way to be paused. */
  const IDLE_BYTES_MAX = 8 * 1024 * 1024;

  test("nothing is read while nothing is asked; junk is no answer; silence shows", async () => {
    const port = await flooded(() => {});
    const agent = (await openAgent(port.path, { timeout_s: 5 }))._unsafeUnwrap();
    try {
      await new Promise((r) => setTimeout(r, 500));
      expect(port.taken()).toBeLessThan(IDLE_BYTES_MAX);
      expect(agent.pulse()).toMatchObject({ idle: true });
      expect(agent.pulse().unanswered_since).toBeUndefined();
      const asked = Date.now();
      expect((await agent.sync(1))._unsafeUnwrapErr().code).toBe("timeout");
      expect(agent.pulse().unanswered_since).toBeGreaterThanOrEqual(asked - 1);
      const taken = port.taken();
      await new Promise((r) => setTimeout(r, 500));
      expect(port.taken() - taken).toBeLessThan(IDLE_BYTES_MAX);
    } finally {
      agent.close();
      port.close();
    }
  });

  test("an answer is found behind what nobody asked for, and is that to the request that it names", async () => {
    const port = await flooded((request, socket) => {
      const {
        execute,
        id,
        arguments: words,
      } = JSON.parse(request.subarray(request.lastIndexOf(0xff) + 1).toString()) as {
        execute: string;
        id?: number;
        arguments?: { id: number };
      };
      if (execute === "guest-sync-delimited")
        socket.write(
          Buffer.concat([Buffer.from("\n\xff", "latin1"), Buffer.from(`{"return":${words!.id}}\n`)]),
        );
      else
        socket.write(
          `\n{"error":{"desc":"of the 0xFF"}}\n{"return":"of another","id":${id! + 1}}\n{"return":"ours","id":${id}}\n`,
        );
    });
    const agent = (await openAgent(port.path, { timeout_s: 5 }))._unsafeUnwrap();
    try {
      expect((await agent.sync(10)).isOk()).toBe(true);
      expect(agent.pulse().unanswered_since).toBeUndefined();
    } finally {
      agent.close();
      port.close();
    }
  });

  test("system calls: nothing is read while none are made", async () => {
    const port = await flooded(() => {});
    const calls = (await openCalls(port.path, { timeout_s: 5 }))._unsafeUnwrap();
    try {
      expect((await calls.make([], 0.5))._unsafeUnwrapErr().code).toBe("timeout");
      const taken = port.taken();
      await new Promise((r) => setTimeout(r, 500));
      expect(port.taken() - taken).toBeLessThan(IDLE_BYTES_MAX);
    } finally {
      calls.close();
      port.close();
    }
  });
});

describe("silence", () => {
  const owes = { idle: false, heard_at: 0, unanswered_since: 5 };
  const none = () => 0;
  /** Looked at every second for so long. */
  const lookFor = (silence: Silence, seconds: number, starved = none, from = 0) => {
    let counted = 0;
    for (let s = 0; s <= seconds; s++) counted = silence.look(owes, (from + s) * 1000, starved);
    return counted;
  };

  test("counts from the first question that is not answered, and begins anew with an answer", () => {
    const silence = new Silence();
    expect(silence.look({ idle: true, heard_at: 0 }, 0, none)).toBe(0);
    expect(lookFor(silence, 60)).toBe(60);
    expect(silence.look({ ...owes, unanswered_since: 60_000 }, 61_000, none)).toBe(0);
    expect(silence.look({ idle: true, heard_at: 0 }, 62_000, none)).toBe(0);
  });

  test("time in which the guest was given no processor counts a tenth: slow is not dead, and still has an end", () => {
    expect(lookFor(new Silence(), 60, () => 1)).toBeLessThan(12);
    expect(lookFor(new Silence(), 60, () => 0.5)).toBeLessThan(40);
    expect(lookFor(new Silence(), 600, () => 1)).toBeGreaterThan(60);
    // What the kernel counts may be more than there was.
    expect(lookFor(new Silence(), 600, () => 9)).toBeGreaterThan(60);
  });

  test("time in which nobody looked is not the guest's: a supervisor that was stopped, a machine that slept", () => {
    const silence = new Silence();
    lookFor(silence, 10);
    expect(silence.look(owes, 3_600_000, none)).toBeLessThan(13);
  });
});

describe("logs", () => {
  const lines = (n: number, from = 0) =>
    Array.from({ length: n }, (_, i) => `line ${String(from + i).padStart(9, "0")}\n`).join("");

  test("one that is too long keeps whole lines of its end, and who appends goes on", () => {
    const path = join(tempDir(), "console");
    const writer = openSync(path, "a");
    const many = Math.ceil(LOG_BYTES_MAX / 15);
    writeSync(writer, lines(many - 100));
    keepEnd(path);
    expect(statSync(path).size).toBe(15 * (many - 100));
    const reader = new ConsoleFile(path);
    let read = "";
    const readAll = () => {
      for (let more = reader.read(); more !== undefined && more.length > 0; more = reader.read())
        read += more;
    };
    readAll();
    writeSync(writer, lines(200, many - 100));
    readAll();
    keepEnd(path);
    expect(statSync(path).size).toBeLessThanOrEqual(LOG_BYTES_KEPT);
    expect(statSync(path).size).toBeGreaterThan(LOG_BYTES_KEPT - 30);
    writeSync(writer, lines(10, many + 100));
    // Who follows it reads on where it was: each line once.
    readAll();
    expect(read).toBe(lines(many + 110));
    const kept = readFileSync(path, "utf8");
    expect(kept.endsWith(lines(10, many + 100))).toBe(true);
    expect(kept.startsWith("line ")).toBe(true);
    closeSync(writer);
    reader.close();
  });

  test("one endless line is cut too; no link is followed; what is not there is no error", () => {
    const dir = tempDir();
    const path = join(dir, "console");
    writeFileSync(path, Buffer.alloc(2 * LOG_BYTES_MAX, "x"));
    keepEnd(path);
    expect(statSync(path).size).toBe(LOG_BYTES_KEPT);
    keepEnd(join(dir, "none"));
    const target = join(dir, "target");
    writeFileSync(target, Buffer.alloc(2 * LOG_BYTES_MAX));
    symlinkSync(target, join(dir, "link"));
    keepEnd(join(dir, "link"));
    expect(statSync(target).size).toBe(2 * LOG_BYTES_MAX);
  });
});
