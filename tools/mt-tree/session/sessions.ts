/**
 * Commands on a host, on behalf of clients: stdin and output as numbered streams. Output is kept until the
 * client has it, so that a new way up can take over; a command whose client falls behind is held back by
 * its full pipe.
 */
import { collectAfter, collectWhenQuiet } from "../../../shared/host/garbage.ts";
import { CHUNK_BYTES } from "../link/frames.ts";
import type { DownMessage, UpMessage } from "../link/messages.ts";
import type { CommandEnd, Launch, Running } from "../node/command.ts";
import { Reductions, type SendDown, type SendUp } from "./reductions.ts";
import { Spool } from "./spool.ts";

/** What the command has taken of its stdin is told in large steps, or after this time. */
const CREDIT_MS = 20;
/** A little output waits this long for more, or for the command's end: most commands say little and end at once. */
const OUTPUT_MS = 3;
const SMALL_BYTES = 4 * 1024;

interface Piece {
  o: number;
  fd: 1 | 2;
  bytes: Buffer;
}

interface Session {
  s: string;
  running: Running | undefined;
  /** stdin: bytes that have come in order, those that the command has, and those of them that the client knows of. */
  received: number;
  taken: number;
  credited: number;
  crediting: NodeJS.Timeout | undefined;
  eof: boolean;
  /** Output: bytes produced, sent, bytes that the client has; pieces between the last and the first. */
  produced: number;
  sent: number;
  sending: NodeJS.Timeout | undefined;
  acked: number;
  pieces: Piece[];
  /** How far the client may be behind. */
  window: number;
  held: boolean;
  exit: Extract<UpMessage, { type: "exit" }> | undefined;
  /** Its stdout, where that is to be reduced. */
  spool: Spool | undefined;
}

export class Sessions {
  readonly #sessions = new Map<string, Session>();
  readonly #host: string;
  readonly #launch: Launch;
  readonly #send: SendUp;
  readonly #reductions: Reductions;

  constructor(host: string, launch: Launch, send: SendUp, sendDown: SendDown) {
    this.#host = host;
    this.#launch = launch;
    this.#send = send;
    this.#reductions = new Reductions(host, launch, send, sendDown);
  }

  handle(message: DownMessage, payload: Buffer): void {
    if (message.type === "alive") return this.#endAllBut(message.sessions);
    if (message.type === "forget") {
      for (const s of message.sessions) {
        const over = this.#sessions.get(s);
        if (over?.exit) this.#close(over);
      }
      return;
    }
    if (message.type === "run") return this.#start(message);
    const session = this.#sessions.get(message.session);
    switch (message.type) {
      case "sync":
        return this.#sync(message, session);
      case "reduce":
        return this.#reductions.begin(message, session?.spool);
      case "pull_reduced":
        return this.#reductions.pull(message);
      case "close":
        this.#reductions.close(message.session);
        if (session) this.#close(session);
        return;
    }
    if (!session) return;
    if (message.type === "stdin") this.#input(session, message.offset, payload);
    else if (message.type === "stdin_end") this.#endInput(session, message.offset);
    else if (message.type === "output_ack") this.#ack(session, message.offset);
    else if (message.type === "kill" && !session.exit) session.running?.kill(message.signal);
  }

  /** A part of what a host below has reduced. */
  piece(message: Extract<UpMessage, { type: "reduced" }>, payload: Buffer): void {
    this.#reductions.piece(message, payload);
  }

  /** Nobody can hear from us any more: nothing goes on running. */
  endAll(): void {
    this.#endAllBut([]);
  }

  #endAllBut(alive: readonly string[]): void {
    const known = new Set(alive);
    this.#reductions.closeAllBut(known);
    for (const session of this.#sessions.values()) if (!known.has(session.s)) this.#close(session);
  }

  #start(message: Extract<DownMessage, { type: "run" }>): void {
    // A command is never started twice, whatever way the message came again.
    if (this.#sessions.has(message.session)) return;
    const session: Session = {
      s: message.session,
      running: undefined,
      received: 0,
      taken: 0,
      credited: 0,
      crediting: undefined,
      eof: false,
      produced: 0,
      sent: 0,
      sending: undefined,
      acked: 0,
      pieces: [],
      window: message.window,
      held: false,
      exit: undefined,
      spool: message.keep_output ? new Spool() : undefined,
    };
    this.#sessions.set(message.session, session);
    session.running = this.#launch(message, {
      output: (fd, bytes) => this.#output(session, fd, bytes),
      heldBack: () => session.held,
      end: (how) => this.#ended(session, how),
    });
  }

  #output(session: Session, fd: 1 | 2, bytes: Buffer): void {
    // Nobody takes its output any more; it must not wait for somebody who does.
    if (session.exit || !this.#sessions.has(session.s)) return;
    collectAfter(bytes.length);
    if (fd === 1 && session.spool) return session.spool.append(bytes);
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
      const piece = { o: session.produced, fd, bytes: bytes.subarray(at, at + CHUNK_BYTES) };
      session.produced += piece.bytes.length;
      session.pieces.push(piece);
    }
    if (session.produced - session.sent >= SMALL_BYTES) this.#sendOutput(session);
    else session.sending ??= setTimeout(() => this.#sendOutput(session), OUTPUT_MS);
    if (!session.held && session.produced - session.acked >= session.window) {
      session.held = true;
      session.running?.pause();
    }
  }

  /** What has not been sent yet. */
  #sendOutput(session: Session): void {
    clearTimeout(session.sending);
    session.sending = undefined;
    const { sent } = session;
    session.sent = session.produced;
    for (const piece of session.pieces)
      if (piece.o >= sent)
        this.#send(
          { type: "output", session: session.s, host: this.#host, offset: piece.o, fd: piece.fd },
          piece.bytes,
        );
  }

  #ended(session: Session, how: CommandEnd): void {
    if (session.exit) return;
    this.#sendOutput(session);
    session.exit = { type: "exit", session: session.s, host: this.#host, offset: session.produced, ...how };
    if (this.#sessions.has(session.s)) this.#send(session.exit);
  }

  #input(session: Session, o: number, payload: Buffer): void {
    // What came before a break may come again after it.
    const skip = session.received - o;
    if (skip < 0 || skip >= payload.length || session.eof) return;
    const bytes = skip === 0 ? payload : payload.subarray(skip);
    session.received += bytes.length;
    const upTo = session.received;
    const taken = () => {
      session.taken = upTo;
      if (upTo - session.credited >= session.window / 4) this.#credit(session);
      else session.crediting ??= setTimeout(() => this.#credit(session), CREDIT_MS);
    };
    if (session.running) session.running.write(bytes, taken);
    else taken();
  }

  #credit(session: Session): void {
    clearTimeout(session.crediting);
    session.crediting = undefined;
    if (session.credited === session.taken || !this.#sessions.has(session.s)) return;
    session.credited = session.taken;
    this.#send({ type: "stdin_ack", session: session.s, host: this.#host, offset: session.taken });
  }

  #endInput(session: Session, o: number): void {
    if (o !== session.received || session.eof) return;
    session.eof = true;
    session.running?.endInput();
  }

  #ack(session: Session, o: number): void {
    session.acked = Math.max(session.acked, o);
    const { pieces } = session;
    let done = 0;
    while (done < pieces.length && pieces[done]!.o + pieces[done]!.bytes.length <= session.acked) done++;
    if (done > 0) pieces.splice(0, done);
    if (session.held && session.produced - session.acked < session.window) {
      session.held = false;
      session.running?.resume();
    }
  }

  /** A new way up: the client says how far it has heard, and hears the rest again. */
  #sync(message: Extract<DownMessage, { type: "sync" }>, session: Session | undefined): void {
    this.#send({
      type: "synced",
      session: message.session,
      host: this.#host,
      known: session !== undefined,
      offset: session?.received ?? 0,
    });
    if (!session) return;
    this.#ack(session, message.offset);
    session.sent = session.acked;
    this.#sendOutput(session);
    if (session.exit) this.#send(session.exit);
  }

  #close(session: Session): void {
    this.#sessions.delete(session.s);
    session.spool?.close();
    session.pieces = [];
    clearTimeout(session.crediting);
    clearTimeout(session.sending);
    collectWhenQuiet();
    if (session.exit) return;
    session.running?.kill("SIGTERM");
    session.held = false;
    session.running?.resume();
  }
}
