/**
 * One reducer that runs at one node. It is fed with what this host's command put out and with what the reducers of the
 * nodes below put out, whole lines at a time; its own output is kept until somebody asks for it.
 */
import { type MtError, mtError } from "../../../shared/errors.ts";
import { CHUNK_BYTES } from "../link/frames.ts";
import type { Launch, Running } from "../node/command.ts";
import { Spool } from "./spool.ts";

/** The command that reduces, the same at every node. */
export interface ReduceCommand {
  argv: string[];
  env: Record<string, string>;
}

export interface ReducerEvents {
  /** Asks the reducer of a node below for its output from this offset on; `reduced` gets the answer. */
  pull(child: string, offset: number): void;
  /** There is more in `out`, or the reducer has ended. */
  progress(): void;
}

interface Child {
  /** Bytes that have come. */
  received: number;
  /** The beginning of a line that has not ended yet. */
  tail: Buffer;
  /** Whether all of its output has come. */
  whole: boolean;
}

const NEWLINE = Buffer.from("\n");
/** Of what the reducer says on stderr, how many characters go into the error where it fails: the last ones. */
const STDERR_CHARACTERS = 300;
const EMPTY = Buffer.alloc(0);

export class RunningReducer {
  readonly out = new Spool();
  /** Set once the reducer has ended. */
  done: { error?: MtError } | undefined;
  readonly #children = new Map<string, Child>();
  readonly #events: ReducerEvents;
  readonly #running: Running | undefined;
  #ownLeft: boolean;
  #closed = false;
  #stderr = "";

  /**
   * @param own what this host's command put out; undefined where that is no part of the reduction
   * @param children nodes below, whose reducers feed this one
   */
  constructor(
    launch: Launch,
    command: ReduceCommand,
    own: Spool | undefined,
    children: readonly string[],
    events: ReducerEvents,
  ) {
    this.#events = events;
    this.#ownLeft = own !== undefined;
    for (const child of children) this.#children.set(child, { received: 0, tail: EMPTY, whole: false });
    this.#running = launch(
      { ...command, stdin: true },
      {
        output: (fd, bytes) => {
          if (this.#closed) return;
          if (fd === 2) {
            this.#stderr = `${this.#stderr}${bytes}`.slice(-STDERR_CHARACTERS);
            return;
          }
          this.out.append(bytes);
          events.progress();
        },
        outputPaused: () => false,
        end: ({ code, signal, error }) => {
          if (error) return this.#finish(error);
          if (code === 0) return this.#finish(this.#fed ? undefined : closedEarly(command.argv[0]!));
          this.#finish(
            mtError(
              "failed",
              `Cannot reduce: ${command.argv[0]} ${signal ? `was ended by ${signal}` : `ended with exit code ${code}`}`,
              this.#stderr.trim() === "" ? undefined : `it said: ${this.#stderr.trim()}`,
            ),
          );
        },
      },
    );
    if (own) this.#feedOwn(own, 0, true);
    else this.#askChildren();
  }

  /** Whether it has been fed with everything. */
  get #fed(): boolean {
    return !this.#ownLeft && [...this.#children.values()].every((c) => c.whole);
  }

  /** Our own output goes in first, as it is: mixed with that of children, a long line could be cut by theirs. */
  #feedOwn(own: Spool, offset: number, lineEnded: boolean): void {
    const bytes = own.read(offset, CHUNK_BYTES);
    if (bytes.length > 0)
      return this.#write(bytes, () => this.#feedOwn(own, offset + bytes.length, bytes.at(-1) === NEWLINE[0]));
    if (!lineEnded) this.#write(NEWLINE, () => {});
    this.#ownLeft = false;
    this.#askChildren();
  }

  #askChildren(): void {
    for (const child of this.#children.keys()) this.#events.pull(child, 0);
    this.#endIfFed();
  }

  /** What a child's reducer put out, in answer to `pull`. */
  reduced(child: string, offset: number, last: boolean, error: MtError | undefined, bytes: Buffer): void {
    const c = this.#children.get(child);
    if (!c || c.whole || c.received !== offset || this.done) return;
    if (error) return this.#finish(error);
    c.received += bytes.length;
    const at = bytes.lastIndexOf(10);
    const lines = at < 0 ? EMPTY : Buffer.concat([c.tail, bytes.subarray(0, at + 1)]);
    c.tail = at < 0 ? Buffer.concat([c.tail, bytes]) : Buffer.from(bytes.subarray(at + 1));
    const next = () => {
      if (!last) return this.#events.pull(child, c.received);
      c.whole = true;
      if (c.tail.length > 0) this.#write(Buffer.concat([c.tail, NEWLINE]), () => {});
      this.#endIfFed();
    };
    if (lines.length > 0) this.#write(lines, next);
    else next();
  }

  #write(bytes: Buffer, then: () => void): void {
    this.#running?.write(bytes, () => !this.#closed && then());
  }

  #endIfFed(): void {
    if (this.#fed) this.#running?.endInput();
  }

  #finish(error: MtError | undefined): void {
    if (this.done) return;
    this.done = error ? { error } : {};
    this.#events.progress();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.done) this.#running?.kill("SIGKILL");
    this.out.close();
  }
}

const closedEarly = (command: string) =>
  mtError("failed", `Cannot reduce: ${command} ended before it had taken in everything`);
