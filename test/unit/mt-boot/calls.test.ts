/**
 * System calls by frame: the program that mt-image puts into guests, run here on a file in a port's place, makes
 * the calls that mt-boot wrote, and answers as mt-boot reads it. Needs Linux on x86-64.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Call, decodeFrame, encodeFrame, openCalls } from "../../../tools/mt-boot/guest/calls.ts";
import { syscallsProgram } from "../../../tools/mt-image/tux/syscalls.ts";

const FRAME_BYTES = 4096;
const EBADF = -9;
const mark = Buffer.from("12345678");
let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "mtt-calls-"));
  writeFileSync(join(dir, "mt-syscalls"), syscallsProgram(), { mode: 0o755 });
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** What the program writes behind what it has read; at the end of the file it waits for more, and is ended. */
function run(name: string, input: Buffer): { status: number | null; said: Buffer } {
  const port = join(dir, name);
  writeFileSync(port, input);
  const { status } = spawnSync(join(dir, "mt-syscalls"), [port], { timeout: 1_000 });
  return { status, said: readFileSync(port).subarray(input.length) };
}

describe.skipIf(process.arch !== "x64" || process.platform !== "linux")("mt-syscalls", () => {
  test("makes the calls in order, with their bytes, and says what each returned", () => {
    const uname = Buffer.alloc(390);
    const path = Buffer.from(`${join(dir, "made")}\0`);
    const text = Buffer.from("made by a frame\n");
    const calls: Call[] = [
      { what: "ask", number: 63, args: [uname] },
      { what: "fail", number: 3, args: [99] },
      { what: "open", number: 2, args: [path, 0o101, 0o600] },
      { what: "write", number: 1, args: [4, text, text.length] },
      { what: "close", number: 3, args: [4] },
    ];
    const { said } = run("port", encodeFrame(calls, mark));
    expect(said.length).toBe(FRAME_BYTES);
    expect(decodeFrame(said, calls)).toEqual([0, EBADF, 4, text.length, 0]);
    expect(uname.toString("latin1", 65, uname.indexOf(0, 65))).toBe(hostname());
    expect(readFileSync(join(dir, "made"), "utf8")).toBe("made by a frame\n");
  });

  test("makes nothing of what is no frame, and ends; of half a frame, and waits", () => {
    const frame = encodeFrame([], mark);
    for (const [name, input, status] of [
      ["other", Buffer.concat([Buffer.from("x"), frame.subarray(1)]), 1],
      ["half", frame.subarray(0, 2000), null],
      ["none", Buffer.alloc(0), null],
    ] as const)
      expect(run(name, input), name).toEqual({ status, said: Buffer.alloc(0) });
  });
});

describe("the host's side", () => {
  /** Answers each frame as `answer` makes it of the frame that came. */
  const serve = async (answer: (frame: Buffer) => Buffer[]) => {
    const path = join(dir, `socket${Math.random()}`);
    const server = createServer((socket) => {
      let come = Buffer.alloc(0);
      socket.on("error", () => {});
      socket.on("data", (chunk) => {
        come = Buffer.concat([come, chunk]);
        for (; come.length >= FRAME_BYTES; come = come.subarray(FRAME_BYTES))
          for (const piece of answer(come.subarray(0, FRAME_BYTES))) socket.write(piece);
      });
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    const calls = (await openCalls(path, { timeout_s: 5 }))._unsafeUnwrap();
    return {
      calls,
      close: () => {
        calls.close();
        server.close();
      },
    };
  };
  const result = (frame: Buffer, value: number) => {
    const made = Buffer.from(frame);
    made.writeBigInt64LE(BigInt(value), 16);
    return made;
  };
  const one = (more: Partial<Call> = {}): Call[] => [{ what: "make it", number: 3, args: [7], ...more }];

  test("finds its answer behind what is of somebody before it", async () => {
    const { calls, close } = await serve((frame) => {
      const stale = Buffer.from(frame);
      stale.write("stranger", 8);
      return [stale.subarray(1000), result(frame, 42)];
    });
    expect((await calls.make(one(), 5))._unsafeUnwrap()).toEqual([42]);
    expect((await calls.make(one(), 5))._unsafeUnwrap()).toEqual([42]);
    close();
  });

  test("a call that fails is an error with its name, unless that is an answer too", async () => {
    const { calls, close } = await serve((frame) => [result(frame, EBADF)]);
    expect((await calls.make(one(), 5))._unsafeUnwrapErr().message).toBe("Cannot make it: EBADF");
    expect((await calls.make(one({ or: "EBADF" }), 5)).isOk()).toBe(true);
    close();
  });

  test("nobody answers: a timeout; the other side goes: lost", async () => {
    const silent = await serve(() => []);
    expect((await silent.calls.make(one(), 0.2))._unsafeUnwrapErr().code).toBe("timeout");
    const waiting = silent.calls.make(one(), 5);
    silent.close();
    expect((await waiting)._unsafeUnwrapErr().code).toBe("lost");
  });
});
