/**
 * A Unix socket that somebody else serves, line by line: what QMP and the guest agent have in common.
 * Lines are bytes: an agent puts 0xFF, which is no UTF-8, in front of some.
 */
import { existsSync } from "node:fs";
import type { Socket } from "node:net";
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../shared/errors.ts";
import { connectOwn } from "../../shared/own-place.ts";

/** A longer line is no answer that we asked for: the connection is given up. An agent sends 21 MiB at most. */
const LINE_BYTES_MAX = 64 * 1024 * 1024;
const RETRY_MS_MAX = 100;

export interface LineSocket {
  send(bytes: string | Uint8Array): void;
  close(): void;
}

export interface LineHandlers {
  onLine(line: Buffer): void;
  /** The other side has gone, or we closed; called once. */
  onClose(): void;
}

/**
 * Connects, trying again until the other side listens.
 * @param timeout_s how long to try
 * @param given_up asked before each try: the other side will never come
 */
export async function openLines(
  path: string,
  handlers: LineHandlers,
  timeout_s: number,
  given_up: () => boolean = () => false,
): Promise<Result<LineSocket, MtError>> {
  return (await openSocket(path, timeout_s, given_up)).map((socket) => holdSocket(socket, handlers));
}

/** Connects to a Unix socket, trying again until the other side listens. */
export async function openSocket(
  path: string,
  timeout_s: number,
  given_up: () => boolean,
): Promise<Result<Socket, MtError>> {
  const end = Date.now() + timeout_s * 1000;
  let why = "nobody listens there";
  for (let pause_ms = 3; ; pause_ms = Math.min(pause_ms * 1.25, RETRY_MS_MAX)) {
    if (existsSync(path)) {
      const socket = await tryConnect(path);
      if (typeof socket !== "string") return ok(socket);
      why = socket;
    }
    // Soon after its start it is not asked for: looking into /proc costs more than another try.
    if (pause_ms > 10 && given_up())
      return fail("lost", `Cannot connect to ${path}: who served it has ended`);
    if (Date.now() >= end) return fail("timeout", `Cannot connect to ${path}: ${why} after ${timeout_s} s`);
    await new Promise((resolve) => setTimeout(resolve, pause_ms));
  }
}

function tryConnect(path: string): Promise<Socket | string> {
  return new Promise((resolve) => {
    const socket = connectOwn(path);
    socket.once("connect", () => {
      socket.removeAllListeners("error");
      resolve(socket);
    });
    socket.once("error", (thrown: NodeJS.ErrnoException) => resolve(thrown.code ?? thrown.message));
  });
}

function holdSocket(socket: Socket, { onLine, onClose }: LineHandlers): LineSocket {
  let tail: Buffer[] = [];
  let tail_bytes = 0;
  let closed = false;
  const closeOnce = () => {
    if (closed) return;
    closed = true;
    socket.destroy();
    onClose();
  };
  socket.on("data", (chunk: Buffer) => {
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0 && !closed; at = chunk.indexOf(10, from)) {
      const piece = chunk.subarray(from, at);
      const line = tail_bytes === 0 ? piece : Buffer.concat([...tail, piece]);
      tail = [];
      tail_bytes = 0;
      from = at + 1;
      if (line.length > 0) onLine(line);
    }
    if (from < chunk.length) {
      tail.push(Buffer.from(chunk.subarray(from)));
      tail_bytes += chunk.length - from;
      if (tail_bytes > LINE_BYTES_MAX) closeOnce();
    }
  });
  socket.on("error", closeOnce);
  socket.on("end", closeOnce);
  socket.on("close", closeOnce);
  return {
    send: (bytes) => {
      if (!closed) socket.write(bytes);
    },
    close: closeOnce,
  };
}
