/**
 * The client's side of a Unix socket that carries lines: what QMP and the guest agent have in common.
 * Lines are bytes: an agent puts 0xFF, which is not UTF-8, before some.
 */
import { existsSync } from "node:fs";
import type { Socket } from "node:net";
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import { connectOwn } from "../../../shared/own-place.ts";

const NEWLINE = 10;
const QUOTE = 34;
const BACKSLASH = 92;
/** A longer line cannot be an answer to us: it is dropped. */
export const LINE_BYTES_MAX = 4 * 1024 * 1024;
/** An agent sends up to 16 MiB of a stream; we pass on 256 KiB, which are 342 KiB of base64. The rest of a string is dropped. */
export const STRING_BYTES_MAX = 512 * 1024;
/** The longest answer is twice 16 MiB in base64; a peer that sends more than this has not answered. */
export const ASKED_BYTES_MAX = 48 * 1024 * 1024;
const RETRY_MS_MAX = 100;

export interface LineSocket {
  send(bytes: string | Uint8Array): void;
  /**
   * Whether to read: ASKED_BYTES_MAX at most until called again; or nothing, so that unasked bytes stay in the peer's
   * buffers. Until the first call it reads without a limit.
   */
  read(on: boolean): void;
  close(): void;
}

export interface LineHandlers {
  onLine(line: Buffer): void;
  /** The peer has closed, or we have; called once. */
  onClose(): void;
}

/**
 * Connects, trying again until the peer listens.
 * @param timeout_s how long to try
 * @param given_up asked before each try; true: the peer will never listen
 */
export async function openLines(
  path: string,
  handlers: LineHandlers,
  timeout_s: number,
  given_up: () => boolean = () => false,
): Promise<Result<LineSocket, MtError>> {
  return (await openSocket(path, timeout_s, given_up)).map((socket) => lineSocket(socket, handlers));
}

/** Connects to a Unix socket, trying again until the peer listens. */
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
    // Not asked in the first tries: a look into /proc costs more than another try.
    if (pause_ms > 10 && given_up())
      return fail("lost", `Cannot connect to ${path}: the process that served it has ended`);
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

function lineSocket(socket: Socket, { onLine, onClose }: LineHandlers): LineSocket {
  const lines = new LineCutter(onLine);
  let closed = false;
  /** Bytes that may still come before reading stops. */
  let left = Number.POSITIVE_INFINITY;
  const closeOnce = () => {
    if (closed) return;
    closed = true;
    socket.destroy();
    onClose();
  };
  socket.on("data", (chunk: Buffer) => {
    if (closed) return;
    left -= chunk.length;
    if (left < 0) socket.pause();
    lines.push(chunk);
  });
  socket.on("error", closeOnce);
  socket.on("end", closeOnce);
  socket.on("close", closeOnce);
  return {
    send: (bytes) => {
      if (!closed) socket.write(bytes);
    },
    read: (on) => {
      left = ASKED_BYTES_MAX;
      if (closed) return;
      if (on) socket.resume();
      else socket.pause();
    },
    close: closeOnce,
  };
}

/**
 * Splits bytes into lines. The peer may be hostile: of a JSON string STRING_BYTES_MAX are kept, and lines beyond
 * LINE_BYTES_MAX are dropped, so that they cost no memory; the lines after them are read as usual.
 */
export class LineCutter {
  readonly #onLine: (line: Buffer) => void;
  #parts: Buffer[] = [];
  #bytes = 0;
  #in_string = false;
  #escaped = false;
  #string_bytes = 0;

  constructor(onLine: (line: Buffer) => void) {
    this.#onLine = onLine;
  }

  push(chunk: Buffer): void {
    let from = 0;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at]!;
      if (byte === NEWLINE) {
        this.#keep(chunk, from, at);
        from = at + 1;
        this.#end();
      } else if (!this.#in_string) {
        this.#in_string = byte === QUOTE;
        this.#string_bytes = 0;
      } else if (byte === QUOTE && !this.#escaped) {
        if (this.#dropping()) from = at;
        this.#in_string = false;
      } else {
        this.#escaped = byte === BACKSLASH && !this.#escaped;
        if (this.#string_bytes === STRING_BYTES_MAX) this.#keep(chunk, from, at);
        this.#string_bytes++;
      }
    }
    this.#keep(chunk, from, chunk.length);
  }

  #dropping(): boolean {
    return this.#in_string && this.#string_bytes > STRING_BYTES_MAX;
  }

  #keep(chunk: Buffer, from: number, to: number): void {
    if (to <= from || this.#dropping()) return;
    this.#bytes += to - from;
    if (this.#bytes > LINE_BYTES_MAX) this.#parts = [];
    // A copy: a slice would hold the whole chunk.
    else this.#parts.push(Buffer.from(chunk.subarray(from, to)));
  }

  #end(): void {
    const whole = this.#bytes <= LINE_BYTES_MAX;
    const line = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts);
    this.#parts = [];
    this.#bytes = 0;
    this.#in_string = false;
    this.#escaped = false;
    if (whole && line.length > 0) this.#onLine(line);
  }
}
