/**
 * One reducer at one node: it takes in what this host's command put out and what the reducers of the nodes
 * below put out, whole lines at a time, and keeps what it puts out itself until that is asked for.
 */
import { type MtError, mtError } from "../../../shared/errors.ts";
import { CHUNK_BYTES } from "../link/frames.ts";
import type { Launch, Running } from "../node/command.ts";
import { Spool } from "./spool.ts";

export interface Reducer {
  argv: string[];
  env: Record<string, string>;
}

export interface ReductionEvents {
  /** Asks a node below for what comes after its first `o` bytes; the answer is given to `piece`. */
  pull(kid: string, o: number): void;
  /** There is more in `out`, or it is done. */
  progress(): void;
}

interface Kid {
  /** Bytes that have come. */
  o: number;
  /** A line that has not ended yet. */
  tail: Buffer;
  whole: boolean;
}

const NEWLINE = Buffer.from("\n");
const SAID_MAX = 300;
const EMPTY = Buffer.alloc(0);

export class Reduction {
  readonly out = new Spool();
  /** Set once it has ended. */
  done: { error?: MtError } | undefined;
  readonly #kids = new Map<string, Kid>();
  readonly #events: ReductionEvents;
  readonly #running: Running | undefined;
  #ownLeft: boolean;
  #closed = false;
  /** The end of what the reducer said on stderr. */
  #said = "";

  /** @param own what this host's command put out; undefined where it has no part in it */
  constructor(
    launch: Launch,
    reducer: Reducer,
    own: Spool | undefined,
    kids: readonly string[],
    events: ReductionEvents,
  ) {
    this.#events = events;
    this.#ownLeft = own !== undefined;
    for (const kid of kids) this.#kids.set(kid, { o: 0, tail: EMPTY, whole: false });
    this.#running = launch(
      { ...reducer, stdin: true },
      {
        output: (fd, bytes) => {
          if (this.#closed) return;
          if (fd === 2) {
            this.#said = `${this.#said}${bytes}`.slice(-SAID_MAX);
            return;
          }
          this.out.append(bytes);
          events.progress();
        },
        outputPaused: () => false,
        end: ({ code, signal, error }) => {
          if (error) return this.#finish(error);
          if (code === 0) return this.#finish(this.#fed ? undefined : closedEarly(reducer.argv[0]!));
          this.#finish(
            mtError(
              "failed",
              `Cannot reduce: ${reducer.argv[0]} ${signal ? `was ended by ${signal}` : `ended with exit code ${code}`}`,
              this.#said.trim() === "" ? undefined : `it said: ${this.#said.trim()}`,
            ),
          );
        },
      },
    );
    if (own) this.#feedOwn(own, 0, true);
    else this.#askKids();
  }

  get #fed(): boolean {
    return !this.#ownLeft && [...this.#kids.values()].every((k) => k.whole);
  }

  /** Our own lines go in before those of others, so that a long one is never cut in two by a kid's. */
  #feedOwn(own: Spool, o: number, lineEnded: boolean): void {
    const bytes = own.read(o, CHUNK_BYTES);
    if (bytes.length > 0)
      return this.#write(bytes, () => this.#feedOwn(own, o + bytes.length, bytes.at(-1) === NEWLINE[0]));
    if (!lineEnded) this.#write(NEWLINE, () => {});
    this.#ownLeft = false;
    this.#askKids();
  }

  #askKids(): void {
    for (const kid of this.#kids.keys()) this.#events.pull(kid, 0);
    this.#endIfFed();
  }

  /** What a kid's reducer put out, in answer to `pull`. */
  piece(kid: string, o: number, last: boolean, error: MtError | undefined, bytes: Buffer): void {
    const k = this.#kids.get(kid);
    if (!k || k.whole || k.o !== o || this.done) return;
    if (error) return this.#finish(error);
    k.o += bytes.length;
    const at = bytes.lastIndexOf(10);
    const lines = at < 0 ? EMPTY : Buffer.concat([k.tail, bytes.subarray(0, at + 1)]);
    k.tail = at < 0 ? Buffer.concat([k.tail, bytes]) : Buffer.from(bytes.subarray(at + 1));
    const next = () => {
      if (!last) return this.#events.pull(kid, k.o);
      k.whole = true;
      if (k.tail.length > 0) this.#write(Buffer.concat([k.tail, NEWLINE]), () => {});
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
