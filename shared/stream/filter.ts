/**
 * The filter law, in one place: records come in on stdin and go out on stdout; a tool changes what it
 * owns on this host and passes every other line through byte for byte, in order per host; only `end`
 * is a barrier; a failure is a record; a stream that was cut off is 65.
 */
import { EXIT, exitCodeOf, type MtError, toMtError } from "../errors.ts";
import {
  type End,
  isKind,
  type Kind,
  type Line,
  type RecordByKind,
  travelOf,
  validate,
} from "../records/index.ts";
import { LineSplitter, type RawLine } from "./lines.ts";
import { nextUnlessAborted } from "./stdin.ts";
import { LineWriter, StdoutClosed } from "./writer.ts";

const RAW_CHARACTERS_MAX = 4096;

/** What a handler gives back: nothing (the line goes on as it came), or the records that replace it. */
export type Outcome = undefined | object | readonly object[];

export interface FilterContext {
  /** The tool, as it stands in `error.by`. */
  by: string;
  host: string;
  /** Aborted by a signal, or when nobody reads stdout any more. */
  signal: AbortSignal;
  /** Puts a record of the tool's own kinds out now. */
  emit(record: object): void;
  /** Runs when `end` has come; gives the line back unchanged where the stream is cut off. */
  atEnd(run: () => Outcome | Promise<Outcome>): Promise<Outcome>;
  /** The record as failed; a record that came in failed keeps its first error. */
  failed<R extends object>(record: R, error: MtError): R;
  /** What the tool's exit code must say, though no record does. The first error is told on stderr. */
  note(error: MtError): void;
}

type Handler<K extends Kind> = (
  record: RecordByKind[K],
  context: FilterContext,
) => Outcome | Promise<Outcome>;

export interface Filter {
  by: string;
  /** This host's name; a record with another host is passed on. */
  host: string;
  /** Prints its own records and no others. */
  only?: boolean;
  /** Whether it makes anything true: then a closed stdout is 74, else 0. */
  changes: boolean;
  /** Kinds that it changes, where they are for this host (`anyHost`: for whatever host). */
  owns?: { [K in Kind]?: Handler<K> };
  anyHost?: boolean;
  /** Kinds that it reads: the line goes on as it came, after the handler is done. */
  reads?: { [K in Kind]?: Handler<K> };
  /** When `end` has come: before what waits for it, and after all else is done. */
  onEnd?: (context: FilterContext, end: End) => void | Promise<void>;
  /** After everything that waited for `end`, before `end` goes out. */
  afterEnd?: (context: FilterContext, end: End | undefined) => void | Promise<void>;
  /** Where the stream was cut off; nothing that waits for the whole is done. */
  onCutOff?: (context: FilterContext) => void | Promise<void>;
  /** No `end` is expected: a stream that begins or ends as it likes (mt-topo's first stage, samples). */
  open?: boolean;
}

/** How a filter's run ended: its exit code, and the first error that no record carries. */
export interface FilterResult {
  code: number;
  error?: MtError;
}

/** Runs a filter from input to output. `input` is stdin in the tools. */
export async function runFilter(
  filter: Filter,
  options: { input: AsyncIterable<Buffer>; writer?: LineWriter; signal?: AbortSignal },
): Promise<FilterResult> {
  return new FilterRun(filter, options.writer ?? new LineWriter(), options.signal).run(options.input);
}

/** Whether `end` has come: `cut` where it never will. */
type Phase = "reading" | "ended" | "cut";

/** A place in the order of what goes out: filled at once, or when a handler is done. */
interface Slot {
  lines: string[] | undefined;
}

class FilterRun {
  readonly #filter: Filter;
  readonly #writer: LineWriter;
  readonly #context: FilterContext;
  readonly #abort = new AbortController();
  readonly #slots: Slot[] = [];
  readonly #busy = new Set<Promise<unknown>>();
  /** Handlers that wait for `end`, as opposed to those at work. */
  #waiting: ((phase: Phase) => void)[] = [];
  #phase: Phase = "reading";
  #changed: (() => void) | undefined;
  /** What went wrong while writing from a handler's end, for the loop to find. */
  #broken: unknown;
  #line = 0;
  #ended: string | undefined;
  #end: End | undefined;
  #failed = false;
  #worst: MtError | undefined;
  #cutOff = false;

  constructor(filter: Filter, writer: LineWriter, signal: AbortSignal | undefined) {
    this.#filter = filter;
    this.#writer = writer;
    signal?.addEventListener("abort", () => this.#abort.abort(signal.reason), { once: true });
    if (signal?.aborted) this.#abort.abort(signal.reason);
    this.#context = {
      by: filter.by,
      host: filter.host,
      signal: this.#abort.signal,
      emit: (record) => {
        if ((record as Line).state === "failed") this.#failed = true;
        this.#writer.line(JSON.stringify(record));
        this.#writer.flush();
      },
      atEnd: (run) => this.#atEnd(run),
      failed: (record, error) => {
        this.#failed = true;
        const known =
          (record as { state?: string; error?: MtError }).state === "failed"
            ? (record as { error?: MtError }).error
            : undefined;
        return { ...record, state: "failed", error: known ?? { by: filter.by, ...error } };
      },
      note: (error) => {
        this.#worst ??= error;
      },
    };
  }

  async run(input: AsyncIterable<Buffer>): Promise<FilterResult> {
    try {
      await this.#readAll(input);
      // What waits for the whole must not start while an earlier record is still being worked on.
      await this.#settle(() => this.#busy.size <= this.#waiting.length);
      let whole = true;
      if (this.#end !== undefined)
        whole = await this.#try(this.#filter.onEnd?.bind(null, this.#context, this.#end));
      else {
        this.#cutOff = !this.#filter.open || this.#abort.signal.aborted;
        await this.#filter.onCutOff?.(this.#context);
      }
      // Where that failed, what waits for it is not done, but goes on as it came: no record is dropped.
      this.#phase = this.#ended === undefined || !whole || this.#abort.signal.aborted ? "cut" : "ended";
      for (const w of this.#waiting.splice(0)) w(this.#phase);
      await this.#settle(() => this.#busy.size === 0);
      if (!this.#cutOff && whole && !this.#abort.signal.aborted)
        await this.#try(this.#filter.afterEnd?.bind(null, this.#context, this.#end));
      // Without its end the stream is cut off for who comes after: so it is when this stage was interrupted.
      if (this.#ended !== undefined && !this.#abort.signal.aborted && !this.#filter.only)
        this.#writer.line(this.#ended!);
      this.#writer.flush();
    } catch (thrown) {
      // Finish the item in hand, start no other.
      this.#phase = "cut";
      this.#abort.abort(thrown);
      for (const w of this.#waiting.splice(0)) w("cut");
      await Promise.allSettled(this.#busy);
      if (thrown instanceof StdoutClosed) return { code: this.#filter.changes ? EXIT.io : EXIT.ok };
      const error = toMtError(thrown);
      return { code: exitCodeOf(error.code), error };
    }
    return this.#verdict();
  }

  /** Does what belongs to no record. That it failed is the exit code's to say. */
  async #try(work: (() => void | Promise<void>) | undefined): Promise<boolean> {
    try {
      await work?.();
      return true;
    } catch (thrown) {
      if (thrown instanceof StdoutClosed || thrown === this.#broken) throw thrown;
      this.#context.note(toMtError(thrown));
      return false;
    }
  }

  #verdict(): FilterResult {
    if (this.#cutOff && !this.#abort.signal.aborted)
      this.#worst = {
        code: "data",
        message: `Cannot finish: the stream ended after ${this.#line} lines without an end record`,
        hint: "a stage before this one was cut off; nothing that waits for the whole was done",
      };
    if (this.#worst) return { code: exitCodeOf(this.#worst.code), error: this.#worst };
    return { code: this.#failed ? EXIT.failed : EXIT.ok };
  }

  async #readAll(input: AsyncIterable<Buffer>): Promise<void> {
    const splitter = new LineSplitter();
    const iterator = input[Symbol.asyncIterator]();
    for (;;) {
      const next = await nextUnlessAborted(iterator, this.#abort.signal);
      if (this.#broken !== undefined) throw this.#broken;
      if (next === undefined || next.done) break;
      await this.#takeAll(splitter.push(next.value));
      this.#flushSlots();
      this.#writer.flush();
    }
    if (!this.#abort.signal.aborted) await this.#takeAll(splitter.end());
    this.#flushSlots();
  }

  async #takeAll(lines: RawLine[]): Promise<void> {
    for (const raw of lines) {
      this.#line++;
      const pending = this.#take(raw);
      if (pending) await pending;
      if (this.#abort.signal.aborted) return;
    }
  }

  /** One line. Gives a promise only where the next line must not be read before it is done. */
  #take(raw: RawLine): Promise<void> | undefined {
    if (raw.text.trim() === "" && !raw.bad) return undefined;
    if (raw.bad) return this.#refuse(raw.text, raw.bad);
    let line: Line;
    try {
      line = JSON.parse(raw.text);
    } catch {
      return this.#refuse(raw.text, "it is no JSON");
    }
    if (typeof line !== "object" || line === null || Array.isArray(line))
      return this.#refuse(raw.text, "it is no JSON object");
    if (typeof line.kind !== "string" || line.kind === "")
      return this.#refuse(raw.text, "kind: expected a string");
    if (typeof line.id !== "string" || line.id === "") return this.#refuse(raw.text, "id: expected a string");
    if (this.#ended !== undefined) return this.#refuse(raw.text, "it stands after the end record");
    const kind = line.kind;
    if (kind === "end") {
      const valid = validate("end", line);
      if (valid.isErr()) return this.#refuse(raw.text, valid.error.message);
      this.#ended = raw.text;
      this.#end = valid.value;
      return undefined;
    }
    if (!isKind(kind)) return this.#pass(line, raw.text);
    const reads = this.#filter.reads?.[kind] as Handler<Kind> | undefined;
    const mine =
      this.#filter.anyHost ||
      line.host === this.#filter.host ||
      (travelOf(line) === "self" && line.id === this.#filter.host);
    const owns = mine ? (this.#filter.owns?.[kind] as Handler<Kind> | undefined) : undefined;
    if (!owns && !reads && kind !== "experiment") return this.#pass(line, raw.text);
    const valid = validate(kind, line);
    if (valid.isErr()) return this.#refuse(raw.text, valid.error.message);
    if (reads) {
      const done = reads(valid.value, this.#context);
      if (done instanceof Promise)
        return done.then(
          () => void this.#pass(line, raw.text),
          (thrown) => this.#crashed(line, raw.text, thrown),
        );
    }
    if (!owns) return this.#pass(line, raw.text);
    this.#own(owns, valid.value, line, raw.text);
    return undefined;
  }

  #own(handler: Handler<Kind>, record: RecordByKind[Kind], line: Line, text: string): void {
    const slot: Slot = { lines: undefined };
    this.#slots.push(slot);
    const finish = (outcome: Outcome) => {
      slot.lines =
        outcome === undefined
          ? [text]
          : (Array.isArray(outcome) ? outcome : [outcome]).map((r) => JSON.stringify(r));
      const out = outcome === undefined ? [line] : Array.isArray(outcome) ? outcome : [outcome];
      if (out.some((r) => (r as Line).state === "failed")) this.#failed = true;
    };
    const crash = (thrown: unknown) => {
      const error = toMtError(thrown);
      if (error.code === "bug" || error.code === "io" || error.code === "permission")
        this.#context.note(error);
      finish(this.#context.failed(line, error));
    };
    let outcome: Outcome | Promise<Outcome>;
    try {
      outcome = handler(record, this.#context);
    } catch (thrown) {
      return crash(thrown);
    }
    if (!(outcome instanceof Promise)) return finish(outcome);
    const work = outcome.then(finish, crash).then(() => {
      this.#busy.delete(work);
      this.#pump();
      this.#changed?.();
    });
    this.#busy.add(work);
  }

  /** Writes what is done, though no further line has come. */
  #pump(): void {
    try {
      this.#flushSlots();
      this.#writer.flush();
    } catch (thrown) {
      this.#broken ??= thrown;
      this.#abort.abort(thrown);
    }
  }

  #crashed(line: Line, text: string, thrown: unknown): void {
    if (thrown instanceof StdoutClosed) throw thrown;
    this.#context.note(toMtError(thrown));
    this.#pass(line, text);
  }

  #pass(line: Line, text: string): undefined {
    if (this.#filter.only) return;
    // Order is kept per host: what is for another host does not wait for this host's work.
    const elsewhere = !this.#filter.anyHost && line.host !== undefined && line.host !== this.#filter.host;
    if (elsewhere || this.#slots.length === 0) this.#writer.line(text);
    else this.#slots.push({ lines: [text] });
  }

  #refuse(text: string, why: string): undefined {
    const error: MtError = {
      by: this.#filter.by,
      code: "data",
      message: `Cannot read line ${this.#line}: ${why}`,
    };
    this.#worst ??= {
      code: "data",
      message: error.message,
      hint: "the line stands in the stream as an error record",
    };
    const record = {
      kind: "error",
      id: `${this.#filter.by}.line-${this.#line}`,
      line: this.#line,
      raw: text.slice(0, RAW_CHARACTERS_MAX),
      error,
    };
    if (this.#slots.length === 0) this.#writer.line(JSON.stringify(record));
    else this.#slots.push({ lines: [JSON.stringify(record)] });
  }

  #atEnd(run: () => Outcome | Promise<Outcome>): Promise<Outcome> {
    if (this.#phase === "ended") return Promise.resolve().then(run);
    if (this.#phase === "cut" || this.#abort.signal.aborted) return Promise.resolve(undefined);
    return new Promise<Outcome>((resolve, reject) => {
      this.#waiting.push((phase) => {
        if (phase === "ended") Promise.resolve().then(run).then(resolve, reject);
        else resolve(undefined);
      });
      this.#changed?.();
    });
  }

  #flushSlots(): void {
    let n = 0;
    for (const slot of this.#slots) {
      if (slot.lines === undefined) break;
      for (const line of slot.lines) this.#writer.line(line);
      n++;
    }
    if (n > 0) this.#slots.splice(0, n);
  }

  /** Waits until `done`, looking again whenever a handler ends or parks. */
  async #settle(done: () => boolean): Promise<void> {
    this.#flushSlots();
    this.#writer.flush();
    while (!done()) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
      this.#changed = undefined;
      if (this.#broken !== undefined) throw this.#broken;
    }
  }
}
