/**
 * Commands on a host, on behalf of clients: each in a process group of its own, its stdin and output as
 * numbered streams. Output is kept until the client has it, so that a new way up can take over; a command
 * whose client falls behind is held back by its full pipe.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mtError } from "../../shared/errors.ts";
import { cleanEnv, toolCommand } from "../../shared/process.ts";
import { CHUNK_BYTES } from "./frames.ts";
import { type DownMessage, type UpMessage, WINDOW_BYTES } from "./messages.ts";

/** After a command has ended, how long what it left behind may still hold its output open. */
const OUTPUT_GRACE_MS = 500;
const KILL_GRACE_MS = 5_000;

interface Piece {
  o: number;
  fd: 1 | 2;
  bytes: Buffer;
}

interface Session {
  s: string;
  child: ChildProcess | undefined;
  /** stdin: bytes that have come in order, bytes that the command has taken. */
  received: number;
  eof: boolean;
  /** Output: bytes produced, bytes that the client has; pieces between them. */
  produced: number;
  acked: number;
  pieces: Piece[];
  exit: Extract<UpMessage, { t: "exit" }> | undefined;
}

/** Up to the client, by whatever way there is now. */
export type SendUp = (message: UpMessage, payload?: Uint8Array) => void;

export class Sessions {
  readonly #sessions = new Map<string, Session>();
  readonly #host: string;
  readonly #epoch: string;
  readonly #send: SendUp;

  constructor(host: string, epoch: string, send: SendUp) {
    this.#host = host;
    this.#epoch = epoch;
    this.#send = send;
  }

  get size(): number {
    return this.#sessions.size;
  }

  handle(message: DownMessage, payload: Buffer): void {
    if (message.t === "start") return this.#start(message);
    const session = this.#sessions.get(message.s);
    if (message.t === "sync") return this.#sync(message, session);
    if (!session) return;
    if (message.t === "in") this.#input(session, message.o, payload);
    else if (message.t === "eof") this.#endInput(session, message.o);
    else if (message.t === "ack") this.#ack(session, message.o);
    else if (message.t === "kill") this.#kill(session, message.signal);
    else if (message.t === "close") this.#close(session);
  }

  /** Nobody can hear from us any more: nothing goes on running. */
  endAll(): void {
    for (const session of this.#sessions.values()) this.#close(session);
  }

  #start(message: Extract<DownMessage, { t: "start" }>): void {
    // A command is never started twice, whatever way the message came again.
    if (this.#sessions.has(message.s)) return;
    const session: Session = {
      s: message.s,
      child: undefined,
      received: 0,
      eof: false,
      produced: 0,
      acked: 0,
      pieces: [],
      exit: undefined,
    };
    this.#sessions.set(message.s, session);
    const [first = "", ...rest] = message.argv;
    // Our own tools are those of this agent's release, wherever PATH points.
    const words = /^mt-[a-z]+$/.test(first) ? [...toolCommand(first), ...rest] : message.argv;
    let child: ChildProcess;
    try {
      child = spawn(words[0]!, words.slice(1), {
        cwd: message.cwd ?? "/",
        env: cleanEnv(message.env),
        stdio: [message.stdin ? "pipe" : "ignore", "pipe", "pipe"],
        detached: true,
      });
    } catch (thrown) {
      this.#ended(session, { error: cannotRun(first, thrown as NodeJS.ErrnoException) });
      return;
    }
    session.child = child;
    child.on("error", (e: NodeJS.ErrnoException) => {
      if (child.pid === undefined) this.#ended(session, { error: cannotRun(first, e) });
    });
    child.stdin?.on("error", () => {
      // It closed its stdin: what still comes for it is taken and thrown away.
    });
    for (const [stream, fd] of [
      [child.stdout, 1],
      [child.stderr, 2],
    ] as const)
      stream?.on("data", (bytes: Buffer) => {
        this.#output(session, fd, bytes);
        if (session.produced - session.acked >= WINDOW_BYTES) {
          child.stdout?.pause();
          child.stderr?.pause();
        }
      });
    child.on("exit", (code, signal) => {
      const done = () => this.#ended(session, { code: code ?? undefined, signal: signal ?? undefined });
      const grace = setInterval(() => {
        // Held back is not held open: the client has to take what is there first.
        if (session.produced - session.acked >= WINDOW_BYTES) return;
        clearInterval(grace);
        done();
      }, OUTPUT_GRACE_MS);
      child.on("close", () => {
        clearInterval(grace);
        done();
      });
    });
    this.#send({ t: "started", s: session.s, h: this.#host, epoch: this.#epoch });
  }

  #output(session: Session, fd: 1 | 2, bytes: Buffer): void {
    if (session.exit) return;
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
      const piece = { o: session.produced, fd, bytes: bytes.subarray(at, at + CHUNK_BYTES) };
      session.produced += piece.bytes.length;
      session.pieces.push(piece);
      this.#send({ t: "out", s: session.s, h: this.#host, o: piece.o, fd }, piece.bytes);
    }
  }

  #ended(session: Session, how: Pick<Extract<UpMessage, { t: "exit" }>, "code" | "signal" | "error">): void {
    if (session.exit) return;
    session.exit = { t: "exit", s: session.s, h: this.#host, o: session.produced, ...how };
    this.#send(session.exit);
  }

  #input(session: Session, o: number, payload: Buffer): void {
    // What came before a break may come again after it.
    const skip = session.received - o;
    if (skip < 0 || skip >= payload.length || session.eof) return;
    const bytes = payload.subarray(skip);
    session.received += bytes.length;
    const upTo = session.received;
    const credit = () => this.#send({ t: "credit", s: session.s, h: this.#host, o: upTo });
    const stdin = session.child?.stdin;
    if (!stdin || stdin.destroyed || !stdin.writable) credit();
    else stdin.write(bytes, () => credit());
  }

  #endInput(session: Session, o: number): void {
    if (o !== session.received || session.eof) return;
    session.eof = true;
    session.child?.stdin?.end();
  }

  #ack(session: Session, o: number): void {
    session.acked = Math.max(session.acked, o);
    while (
      session.pieces.length > 0 &&
      session.pieces[0]!.o + session.pieces[0]!.bytes.length <= session.acked
    )
      session.pieces.shift();
    if (session.produced - session.acked < WINDOW_BYTES) {
      session.child?.stdout?.resume();
      session.child?.stderr?.resume();
    }
  }

  /** A new way up: the client says how far it has heard, and hears the rest again. */
  #sync(message: Extract<DownMessage, { t: "sync" }>, session: Session | undefined): void {
    this.#send({
      t: "synced",
      s: message.s,
      h: this.#host,
      known: session !== undefined,
      o: session?.received ?? 0,
    });
    if (!session) return;
    this.#ack(session, message.o);
    for (const piece of session.pieces)
      this.#send({ t: "out", s: session.s, h: this.#host, o: piece.o, fd: piece.fd }, piece.bytes);
    if (session.exit) this.#send(session.exit);
  }

  #kill(session: Session, signal: NodeJS.Signals): void {
    const pid = session.child?.pid;
    if (pid === undefined || session.exit) return;
    try {
      // Its whole process group: a command is more than its first process.
      process.kill(-pid, signal);
    } catch {}
  }

  #close(session: Session): void {
    this.#sessions.delete(session.s);
    if (session.exit) return;
    this.#kill(session, "SIGTERM");
    const late = setTimeout(() => this.#kill(session, "SIGKILL"), KILL_GRACE_MS);
    session.child?.once("exit", () => clearTimeout(late));
    // Nobody takes its output any more; it must not wait for somebody who does.
    session.child?.stdout?.removeAllListeners("data").resume();
    session.child?.stderr?.removeAllListeners("data").resume();
  }
}

function cannotRun(file: string, e: NodeJS.ErrnoException) {
  if (e.code === "ENOENT")
    return mtError(
      "unavailable",
      `Cannot run ${file}: it is not on this host`,
      "install it there, or give its whole path",
    );
  if (e.code === "EACCES") return mtError("permission", `Cannot run ${file}: it may not be executed`);
  return mtError("failed", `Cannot run ${file}: ${e.message}`);
}
