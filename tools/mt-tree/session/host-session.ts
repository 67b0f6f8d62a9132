/**
 * A host's side of one command: runs it, feeds it with stdin, and keeps its output until the client has it. Where the
 * client falls behind, the command's output pipes are not read any more, so that it waits.
 */
import { collectAfter, collectWhenQuiet } from "../link/garbage.ts";
import type { DownMessage, UpMessage } from "../link/messages.ts";
import type { CommandEnd, Launch, Running } from "../node/command.ts";
import { Spool } from "./spool.ts";
import { type Fd, StreamReceiver, StreamSender } from "./stream.ts";

/** stdin that the command has taken is acknowledged a quarter of the window at a time, or after this time. */
const STDIN_ACK_MS = 20;
/** A little output waits this long for more, or for the command's end: most commands print little and end at once. */
const OUTPUT_MS = 3;
const SMALL_BYTES = 4 * 1024;

/** Sends a message to the client, along the links that there are now. */
export type SendUp = (message: UpMessage, payload?: Buffer) => void;

export class HostSession {
  readonly #from: { session: string; host: string };
  readonly #send: SendUp;
  readonly #stdin: StreamReceiver;
  readonly #output: StreamSender;
  /** Its stdout, where that is kept on the host to be reduced. */
  readonly spool: Spool | undefined;
  readonly #running: Running | undefined;
  #exit: CommandEnd | undefined;
  /** Whether the command's output is not read, because the client is behind. */
  #outputPaused = false;
  #stdinEnded = false;
  #acknowledging: NodeJS.Timeout | undefined;
  #sending: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(host: string, message: Extract<DownMessage, { type: "run" }>, launch: Launch, send: SendUp) {
    const from = { session: message.session, host };
    this.#from = from;
    this.#send = send;
    this.#stdin = new StreamReceiver(message.window / 4);
    this.#output = new StreamSender(message.window, {
      piece: ({ offset, fd, bytes }) => send({ type: "output", ...from, offset, fd: outputFd(fd) }, bytes),
      end: (offset) => send({ type: "exit", ...from, offset, ...this.#exit }),
    });
    this.spool = message.keep_output ? new Spool() : undefined;
    this.#running = launch(message, {
      output: (fd, bytes) => this.#put(fd, bytes),
      outputPaused: () => this.#outputPaused,
      end: (how) => this.#ended(how),
    });
  }

  /** Whether its command has ended. */
  get ended(): boolean {
    return this.#exit !== undefined;
  }

  #put(fd: 1 | 2, bytes: Buffer): void {
    // Once the session is closed nobody takes output: it is dropped, so that the command need not wait.
    if (this.#exit || this.#closed) return;
    collectAfter(bytes.length);
    if (fd === 1 && this.spool) return this.spool.append(bytes);
    this.#output.write(fd, bytes);
    if (this.#output.waiting >= SMALL_BYTES) this.#flushOutput();
    else this.#sending ??= setTimeout(() => this.#flushOutput(), OUTPUT_MS);
    if (this.#outputPaused || !this.#output.full) return;
    this.#outputPaused = true;
    this.#running?.pause();
  }

  #flushOutput(): void {
    clearTimeout(this.#sending);
    this.#sending = undefined;
    this.#output.flush();
  }

  #ended(how: CommandEnd): void {
    if (this.#exit) return;
    this.#exit = how;
    this.#output.close();
    if (!this.#closed) this.#flushOutput();
  }

  input(offset: number, payload: Buffer): void {
    const bytes = this.#stdin.receive(offset, payload);
    if (!bytes) return;
    const upTo = this.#stdin.received;
    const taken = () => {
      if (this.#stdin.consume(upTo)) this.#acknowledgeStdin();
      else this.#acknowledging ??= setTimeout(() => this.#acknowledgeStdin(), STDIN_ACK_MS);
    };
    if (this.#running) this.#running.write(bytes, taken);
    else taken();
    this.#endInputOnce();
  }

  endInput(offset: number): void {
    this.#stdin.end(offset);
    this.#endInputOnce();
  }

  #endInputOnce(): void {
    if (!this.#stdin.complete || this.#stdinEnded) return;
    this.#stdinEnded = true;
    this.#running?.endInput();
  }

  #acknowledgeStdin(): void {
    clearTimeout(this.#acknowledging);
    this.#acknowledging = undefined;
    const offset = this.#closed ? undefined : this.#stdin.acknowledge();
    if (offset !== undefined) this.#send({ type: "stdin_ack", ...this.#from, offset });
  }

  outputAcknowledged(offset: number): void {
    if (this.#output.acknowledge(offset)) this.#output.flush();
    this.#readOnWhereRoom();
  }

  #readOnWhereRoom(): void {
    if (!this.#outputPaused || this.#output.full) return;
    this.#outputPaused = false;
    this.#running?.resume();
  }

  /** The client reaches this host over another link: it has told how much output it has, and gets the rest again. */
  sync(offset: number): void {
    this.#send({ type: "synced", ...this.#from, known: true, offset: this.#stdin.sync() });
    this.#output.resend(offset);
    this.#readOnWhereRoom();
  }

  kill(signal: NodeJS.Signals): void {
    if (!this.#exit) this.#running?.kill(signal);
  }

  /** Nobody wants anything of it any more: what still runs is ended. */
  close(): void {
    this.#closed = true;
    this.spool?.close();
    this.#output.discard();
    clearTimeout(this.#acknowledging);
    clearTimeout(this.#sending);
    collectWhenQuiet();
    if (this.#exit) return;
    this.#running?.kill("SIGTERM");
    this.#outputPaused = false;
    this.#running?.resume();
  }
}

const outputFd = (fd: Fd) => (fd === 2 ? 2 : 1);
