/**
 * System calls made in a guest for the host: /sbin/mt-syscalls there reads a frame from a virtio-serial port, makes
 * the calls in it and sends it back (shared/guest-protocol.ts). No fork, no exec, no shell: nothing is cheaper in a
 * clone that has translated none of its code yet.
 */
import { randomBytes } from "node:crypto";
import { constants } from "node:os";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import { FRAME } from "../../../shared/guest-protocol.ts";
import { openSocket } from "../machine/lines.ts";

const { bytes: FRAME_BYTES, header_bytes: HEADER_BYTES, call_bytes: CALL_BYTES } = FRAME;
/** Bytes wait in the socket until the guest opens its port; a program that was started anew has lost its frame. */
const AGAIN_MS = 5_000;
/** Late answers are few: a guest that sends more than this sends no answers, and is not read on. */
const ASKED_BYTES_MAX = 1024 * 1024;

export interface Call {
  /** For an error: "set the hostname". */
  what: string;
  number: number;
  /** At most three. Bytes are passed by address; afterwards they hold what the guest's kernel wrote into them. */
  args: readonly (number | Buffer)[];
  /** An error that counts as success, as "EEXIST". */
  or?: keyof typeof constants.errno;
  /** Writes at offset `at` of the bytes the address of their own byte `to`: a pointer inside a structure. */
  points?: { at: number; to: number };
}

export interface Calls {
  /**
   * Makes all of the calls in the guest, in order, whatever each returns. They are made twice where the first
   * answer was lost.
   * @returns their results; the first that failed is an error "Cannot <what>: ERRNO"
   */
  make(calls: readonly Call[], timeout_s: number): Promise<Result<number[], MtError>>;
  close(): void;
}

const ERRNO_NAMES = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));

/** The frame of these calls. @throws where they do not fit */
export function encodeFrame(calls: readonly Call[], mark: Buffer): Buffer {
  const frame = Buffer.alloc(FRAME_BYTES);
  frame.write(FRAME.magic);
  mark.copy(frame, 8);
  for (const [i, call] of calls.entries()) {
    const at = HEADER_BYTES + i * CALL_BYTES;
    frame.writeBigInt64LE(BigInt(call.number), at);
    for (const [k, arg] of call.args.entries())
      if (typeof arg === "number") frame.writeBigInt64LE(BigInt(arg), at + 8 * (k + 1));
  }
  frame.writeBigInt64LE(-1n, HEADER_BYTES + calls.length * CALL_BYTES);
  for (const { bytes, at, argument_at, points } of placements(calls)) {
    if (at + bytes.length > FRAME_BYTES) throw new Error("a frame of system calls is too long");
    bytes.copy(frame, at);
    frame.writeBigInt64LE(BigInt(FRAME.address + at), argument_at);
    if (points) frame.writeBigInt64LE(BigInt(FRAME.address + at + points.to), at + points.at);
  }
  return frame;
}

/** The results in a frame that came back; copies what the guest wrote back into the calls' bytes. */
export function decodeFrame(frame: Buffer, calls: readonly Call[]): number[] {
  for (const { bytes, at } of placements(calls)) frame.copy(bytes, 0, at, at + bytes.length);
  return calls.map((_, i) => Number(frame.readBigInt64LE(HEADER_BYTES + i * CALL_BYTES)));
}

/** Where the bytes of each argument stand in the frame: after the calls, aligned to eight bytes. */
function placements(calls: readonly Call[]) {
  let next = HEADER_BYTES + calls.length * CALL_BYTES + 8;
  return calls.flatMap((call, i) =>
    call.args.flatMap((bytes, k) => {
      if (typeof bytes === "number") return [];
      const at = next;
      next += Math.ceil(bytes.length / 8) * 8;
      return [{ bytes, at, argument_at: HEADER_BYTES + i * CALL_BYTES + 8 * (k + 1), points: call.points }];
    }),
  );
}

function firstFailure(calls: readonly Call[], results: readonly number[]): string | undefined {
  for (const [i, { what, or }] of calls.entries()) {
    const result = results[i]!;
    if (result >= 0 || (or !== undefined && result === -constants.errno[or])) continue;
    return `${what}: ${ERRNO_NAMES.get(-result) ?? `error ${-result}`}`;
  }
  return undefined;
}

/** Connects to the host side of the port; `make` tells whether the guest answers. */
export async function openCalls(
  path: string,
  options: { timeout_s: number; given_up?: () => boolean },
): Promise<Result<Calls, MtError>> {
  const opened = await openSocket(path, options.timeout_s, options.given_up ?? (() => false));
  if (opened.isErr()) return err(opened.error);
  const socket = opened.value;
  let open = true;
  let received = Buffer.alloc(0);
  let look: () => void = () => {};
  /** Bytes received since calls were last made. */
  let bytes = 0;
  // Not read while nothing is asked: what the guest sends then stays in its port.
  socket.pause();
  socket.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > ASKED_BYTES_MAX) socket.pause();
    // Bytes before our frame are discarded: replies to an earlier client, or to a frame that was sent twice.
    received = Buffer.concat([received.subarray(-2 * FRAME_BYTES), chunk]);
    look();
  });
  const close = () => {
    open = false;
    socket.destroy();
    look();
  };
  for (const event of ["error", "end", "close"]) socket.on(event, () => open && close());

  const makeNow = (calls: readonly Call[], timeout_s: number) =>
    new Promise<Result<number[], MtError>>((resolve) => {
      const mark = randomBytes(8);
      const frame = encodeFrame(calls, mark);
      const finish = (result: Result<number[], MtError>) => {
        clearTimeout(timer);
        clearInterval(again);
        look = () => {};
        if (open) socket.pause();
        resolve(result);
      };
      const timer = setTimeout(
        () => finish(fail("timeout", `Cannot make system calls in the guest: no answer in ${timeout_s} s`)),
        timeout_s * 1000,
      );
      const again = setInterval(() => socket.write(frame), AGAIN_MS);
      const header = frame.subarray(0, HEADER_BYTES);
      look = () => {
        if (!open) return finish(fail("lost", "Cannot make system calls in the guest: it has gone"));
        const at = received.indexOf(header);
        if (at < 0 || received.length < at + FRAME_BYTES) return;
        const results = decodeFrame(received.subarray(at, at + FRAME_BYTES), calls);
        received = received.subarray(at + FRAME_BYTES);
        const failed = firstFailure(calls, results);
        finish(failed === undefined ? ok(results) : fail("failed", `Cannot ${failed}`));
      };
      if (!open) return look();
      bytes = 0;
      socket.resume();
      socket.write(frame);
    });

  let last: Promise<unknown> = Promise.resolve();
  return ok({
    make(calls, timeout_s) {
      const mine = last.then(() => makeNow(calls, timeout_s));
      last = mine;
      return mine;
    },
    close,
  });
}
