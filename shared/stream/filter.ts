/**
 * The filter law, in one place: records come in on stdin and go out on stdout; a tool changes the records that it owns
 * on this host and passes every other line on byte for byte, in order per host; only `end` is a barrier; a failure is
 * a record; a stream without its `end` is exit code 65.
 */
import { EXIT, exitCodeOf, type MtError, mtError, toMtError } from "../errors.ts";
import { type End, isKind, KINDS, type Kind, type RecordByKind, travelOf } from "../records/index.ts";
import type { Line } from "../records/line.ts";
import { isUnplaced, notPlaced } from "../records/placed.ts";
import { type Block, BlockSplitter } from "./lines.ts";
import { checkRecord, RecordLines, refusedLine, whyTooDeep } from "./record-line.ts";
import { rewrite } from "./rewrite.ts";
import { nextUnlessAborted } from "./stdin.ts";
import { LineWriter, StdoutClosed } from "./writer.ts";

/** What a handler returns: undefined (the line goes on as it came), or the record or records that replace it. */
export type Outcome = undefined | object | readonly object[];

export interface FilterContext {
  /** The tool, as it stands in `error.by`. */
  by: string;
  host: string;
  /** The line that the handler's record came as. */
  text?: string;
  /** Aborted by a signal, or when the reader of stdout has gone. */
  signal: AbortSignal;
  /** Writes a record of the tool's own kinds at once. */
  emit(record: object): void;
  /** Runs `run` once `end` has come. If the stream is cut off it never runs, and the line goes on as it came. */
  atEnd(run: () => Outcome | Promise<Outcome>): Promise<Outcome>;
  /** The record as failed. If it came in failed it keeps that error. */
  failed<R extends object>(record: R, error: MtError): R;
  /** An error that no record carries: it sets the exit code. The first one is reported on stderr. */
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
  /** Write its own records and no others. */
  only?: boolean;
  /** Whether it changes anything on the host: then a closed stdout is exit code 74, else 0. */
  changes: boolean;
  /** Handlers of the kinds that it changes, for records of this host (`anyHost`: of every host). */
  owns?: { [K in Kind]?: Handler<K> };
  anyHost?: boolean;
  /** Handlers of the kinds that it only reads: the line goes on as it came when the handler is done. */
  reads?: { [K in Kind]?: Handler<K> };
  /** When `end` has come and all earlier records are done, before the `atEnd` work. */
  onEnd?: (context: FilterContext, end: End) => void | Promise<void>;
  /** After the `atEnd` work, before `end` is written. */
  afterEnd?: (context: FilterContext, end: End | undefined) => void | Promise<void>;
  /** If the stream was cut off. No `atEnd` work is done then. */
  onCutOff?: (context: FilterContext) => void | Promise<void>;
  /** The stream needs no `end` (mt-topo's first stage, samples). */
  open?: boolean;
}

/** How a filter's run ended: its exit code, and the first error that no record carries. */
export interface FilterResult {
  code: number;
  error?: MtError;
}

/**
 * Runs a filter from input to output.
 * @param options.input stdin in the tools; the bytes of a chunk may change once the next is asked for
 */
export async function runFilter(
  filter: Filter,
  options: { input: AsyncIterable<Buffer>; writer?: LineWriter; signal?: AbortSignal },
): Promise<FilterResult> {
  return new FilterRun(filter, options.writer ?? new LineWriter(), options.signal).run(options.input);
}

/** Whether `end` has come; `cut`: it never will. */
type Phase = "reading" | "ended" | "cut";

/** A place in the order of output. `lines` is undefined until its handler is done. */
interface Slot {
  lines: string[] | undefined;
}

/** A handler at work on a record. */
interface Work {
  /** Waiting for `end`. */
  parked: boolean;
}

/** The kinds that a filter has to parse. A `host` record has no `host` field (its id names the host), so all are parsed. */
function handledKinds({ anyHost, owns = {}, reads = {} }: Filter): Map<string, "everywhere" | "here"> {
  const kinds = new Map<string, "everywhere" | "here">();
  for (const kind of Object.keys(owns) as Kind[])
    kinds.set(kind, anyHost || KINDS[kind].travel === "self" ? "everywhere" : "here");
  for (const kind of [...Object.keys(reads), "experiment", "end"]) kinds.set(kind, "everywhere");
  return kinds;
}

class FilterRun {
  readonly #filter: Filter;
  readonly #writer: LineWriter;
  readonly #context: FilterContext;
  readonly #abort = new AbortController();
  /** Kinds that have to be parsed: those of every host, or of this one only. All others pass. */
  readonly #handled: ReadonlyMap<string, "everywhere" | "here">;
  readonly #slots: Slot[] = [];
  readonly #busy = new Map<Work, Promise<unknown>>();
  /** `atEnd` work. */
  #waiting: ((phase: Phase) => void)[] = [];
  #phase: Phase = "reading";
  #changed: (() => void) | undefined;
  /** Why writing failed: the run is over. */
  #broken: unknown;
  #line = 0;
  #ended: string | undefined;
  #end: End | undefined;
  #failed = false;
  #worst: MtError | undefined;
  #cutOff = false;
  /** Reading stdin failed. */
  #unread = false;

  constructor(filter: Filter, writer: LineWriter, signal: AbortSignal | undefined) {
    this.#filter = filter;
    this.#writer = writer;
    this.#handled = handledKinds(filter);
    signal?.addEventListener("abort", () => this.#abort.abort(signal.reason), { once: true });
    if (signal?.aborted) this.#abort.abort(signal.reason);
    this.#context = {
      by: filter.by,
      host: filter.host,
      signal: this.#abort.signal,
      emit: (record) => {
        const text = JSON.stringify(record);
        if ((record as Line).state === "failed") this.#failed = true;
        this.#write(() => {
          this.#writer.line(text);
          this.#writer.flush();
        });
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
      // If reading fails, finish what was read, as for a stream that was cut off.
      this.#unread = !(await this.#try(() => this.#readAll(input)));
      // `atEnd` work must not start while a handler is still running.
      await this.#settle(() => [...this.#busy.keys()].every(({ parked }) => parked));
      let whole = true;
      if (this.#end !== undefined)
        whole = await this.#try(this.#filter.onEnd?.bind(null, this.#context, this.#end));
      else {
        this.#cutOff = this.#unread || !this.#filter.open || this.#abort.signal.aborted;
        await this.#try(this.#filter.onCutOff?.bind(null, this.#context));
      }
      // If onEnd failed, no `atEnd` work is done: those records go on as they came.
      this.#phase = this.#ended === undefined || !whole || this.#abort.signal.aborted ? "cut" : "ended";
      for (const w of this.#waiting.splice(0)) w(this.#phase);
      await this.#settle(() => this.#busy.size === 0);
      if (!this.#cutOff && whole && !this.#abort.signal.aborted)
        await this.#try(this.#filter.afterEnd?.bind(null, this.#context, this.#end));
      if (this.#broken !== undefined) throw this.#broken;
      // If interrupted, do not write `end`: the next stage must see that the stream was cut off.
      if (this.#ended !== undefined && !this.#abort.signal.aborted && !this.#filter.only)
        this.#writer.line(this.#ended);
      this.#writer.flush();
    } catch (thrown) {
      // Wait for the handlers that are running; start no other.
      this.#phase = "cut";
      this.#abort.abort(thrown);
      for (const w of this.#waiting.splice(0)) w("cut");
      await Promise.allSettled(this.#busy.values());
      if (thrown instanceof StdoutClosed) return { code: this.#filter.changes ? EXIT.io : EXIT.ok };
      const error = toMtError(thrown);
      return { code: exitCodeOf(error.code), error };
    }
    return this.#verdict();
  }

  /** Runs what belongs to no record; a failure is noted for the exit code. Whether it succeeded. */
  async #try(work: (() => void | Promise<void>) | undefined): Promise<boolean> {
    try {
      await work?.();
      return true;
    } catch (thrown) {
      if (this.#broken !== undefined) throw this.#broken;
      this.#context.note(toMtError(thrown));
      return false;
    }
  }

  /** Writes. If that fails the run is over, even if the caller catches the error. */
  #write(work: () => void): void {
    try {
      work();
    } catch (thrown) {
      this.#breaks(thrown);
    }
  }

  #breaks(thrown: unknown): never {
    this.#broken ??= thrown;
    this.#abort.abort(thrown);
    throw thrown;
  }

  #verdict(): FilterResult {
    if (this.#cutOff && !this.#unread && !this.#abort.signal.aborted)
      this.#worst = {
        code: "data",
        message: `Cannot finish: the stream ended after ${this.#line} lines without an end record`,
        hint: "a stage before this one was cut off; nothing that waits for the whole was done",
      };
    if (this.#worst) return { code: exitCodeOf(this.#worst.code), error: this.#worst };
    return { code: this.#failed ? EXIT.failed : EXIT.ok };
  }

  async #readAll(input: AsyncIterable<Buffer>): Promise<void> {
    const splitter = new BlockSplitter();
    const iterator = input[Symbol.asyncIterator]();
    for (;;) {
      const next = await nextUnlessAborted(iterator, this.#abort.signal);
      if (this.#broken !== undefined) throw this.#broken;
      if (next === undefined || next.done) break;
      await this.#takeAll(splitter.push(next.value));
      this.#pump();
    }
    if (!this.#abort.signal.aborted) await this.#takeAll(splitter.end());
    this.#pump();
  }

  async #takeAll(blocks: Block[]): Promise<void> {
    for (const block of blocks) {
      const lines = new RecordLines(block);
      // Neighbouring lines that only pass are written together, as the bytes that came.
      let passing = 0;
      while (lines.next()) {
        this.#line++;
        if (this.#isPassing(lines)) continue;
        this.#passBytes(lines.bytes, passing, lines.from);
        passing = lines.to;
        const pending = this.#take(lines);
        if (pending) await pending;
        if (this.#abort.signal.aborted) return;
      }
      this.#passBytes(lines.bytes, passing, lines.bytes.length);
    }
  }

  /** Whether the line is a record that passes at once. If not, or if the scanner is not sure, it has to be parsed. */
  #isPassing({ sure, kind, host }: RecordLines): boolean {
    if (!sure || this.#ended !== undefined) return false;
    const handled = this.#handled.get(kind);
    if (handled === "everywhere") return false;
    return this.#isElsewhere(host) || (handled === undefined && this.#slots.length === 0);
  }

  /** Whether it is another host's. Order is kept per host, so such a record does not wait for this host's handlers. */
  #isElsewhere(host: unknown): boolean {
    return !this.#filter.anyHost && host !== undefined && host !== this.#filter.host;
  }

  #passBytes(bytes: Buffer, from: number, to: number): void {
    if (from < to && !this.#filter.only) this.#write(() => this.#writer.lines(bytes.subarray(from, to)));
  }

  /** One line. Returns a promise only if the next line must wait for it. */
  #take(lines: RecordLines): Promise<void> | undefined {
    const { text } = lines;
    const read = lines.read();
    if (read === undefined) return undefined;
    if ("why" in read) return this.#refuse(text, read.why);
    const { line, deep } = read;
    if (this.#ended !== undefined) return this.#refuse(text, "it stands after the end record");
    const { kind } = line;
    if (!isKind(kind)) return this.#pass(line, text);
    const reads = this.#filter.reads?.[kind] as Handler<Kind> | undefined;
    const owns = this.#filter.owns?.[kind] as Handler<Kind> | undefined;
    if (owns && line.host === undefined && !this.#filter.anyHost && isUnplaced(line))
      return this.#unplaced(line, text);
    const mine =
      owns &&
      (this.#filter.anyHost ||
        line.host === this.#filter.host ||
        (travelOf(line) === "self" && line.id === this.#filter.host));
    if (!mine && !reads && kind !== "experiment" && kind !== "end") return this.#pass(line, text);
    if (mine && deep)
      return this.#fail(
        line,
        text,
        mtError("data", `Cannot act on ${kind} ${line.id}: ${whyTooDeep(deep[0]!)}`),
      );
    const valid = checkRecord(kind, line, deep);
    if (valid.isErr()) return this.#refuse(text, valid.error.message);
    if (kind === "end") {
      this.#ended = text;
      this.#end = valid.value as End;
      return undefined;
    }
    const goOn = () => (mine ? this.#own(owns, valid.value, line, text) : this.#pass(line, text));
    const reading = reads && this.#read(reads, valid.value);
    return reading ? reading.then(goOn) : goOn();
  }

  /** Calls a `reads` handler. An error in it is noted for the exit code. */
  #read(handler: Handler<Kind>, record: RecordByKind[Kind]): Promise<void> | undefined {
    const crashed = (thrown: unknown) => {
      if (this.#broken !== undefined) throw this.#broken;
      this.#context.note(toMtError(thrown));
    };
    try {
      const done = handler(record, this.#context);
      return done instanceof Promise ? done.then(() => {}, crashed) : undefined;
    } catch (thrown) {
      crashed(thrown);
      return undefined;
    }
  }

  #own(handler: Handler<Kind>, record: RecordByKind[Kind], line: Line, text: string): undefined {
    const slot: Slot = { lines: undefined };
    this.#slots.push(slot);
    // Neither throws, whatever the handler returned: an empty slot would hold up the output.
    const crash = (thrown: unknown) => {
      slot.lines = this.#crashed(line, text, thrown);
    };
    const finish = (outcome: Outcome) => {
      try {
        slot.lines = this.#format(line, text, outcome);
      } catch (thrown) {
        crash(thrown);
      }
    };
    const work: Work = { parked: false };
    let outcome: Outcome | Promise<Outcome>;
    try {
      const atEnd = (run: () => Outcome | Promise<Outcome>) => {
        const outcome = this.#atEnd(run, work);
        // Handled here too, as the handler may ignore the promise.
        outcome.catch((thrown) => this.#noteCrash(toMtError(thrown)));
        return outcome;
      };
      outcome = handler(record, { ...this.#context, text, atEnd });
    } catch (thrown) {
      crash(thrown);
      return;
    }
    if (!(outcome instanceof Promise)) {
      finish(outcome);
      return;
    }
    const done = () => {
      this.#busy.delete(work);
      try {
        this.#pump();
      } catch {
        // The main loop finds it in #broken.
      }
      this.#changed?.();
    };
    this.#busy.set(work, outcome.then(finish, crash).then(done));
  }

  /** The lines that replace a record when its handler is done. */
  #format(line: Line, text: string, outcome: Outcome): string[] {
    const records: readonly object[] =
      outcome === undefined ? [line] : Array.isArray(outcome) ? outcome : [outcome];
    const lines = records.map((record) => rewrite(text, line, record));
    if (records.some((record) => (record as Line).state === "failed")) this.#failed = true;
    // No record is ever dropped.
    return lines.length === 0 ? [text] : lines;
  }

  /** The lines of a record whose handler threw or returned what cannot be written as JSON. */
  #crashed(line: Line, text: string, thrown: unknown): string[] {
    if (this.#broken !== undefined) return [text];
    const error = toMtError(thrown);
    this.#noteCrash(error);
    try {
      return [rewrite(text, line, this.#context.failed(line, error))];
    } catch {
      return [text];
    }
  }

  /** Bugs, I/O errors and missing permissions concern more than one record: they set the exit code. */
  #noteCrash(error: MtError): void {
    if (error.code === "bug" || error.code === "io" || error.code === "permission") this.#context.note(error);
  }

  /** Writes the slots that are done, in order. */
  #pump(): void {
    this.#write(() => {
      this.#flushSlots();
      this.#writer.flush();
    });
  }

  #pass(line: Line, text: string): undefined {
    if (this.#filter.only) return;
    this.#put(text, this.#isElsewhere(line.host));
  }

  /** A record that the tool owns and cannot act on: it comes out failed. */
  #fail(line: Line, text: string, error: MtError): undefined {
    this.#put(rewrite(text, line, this.#context.failed(line, error)));
  }

  /** A record that should have a host and has none: nobody knows whose it is. */
  #unplaced(line: Line, text: string): undefined {
    const error = notPlaced(line);
    this.#context.note(error);
    this.#fail(line, text, error);
  }

  /** Writes a line after those that are waiting for their handlers. */
  #put(text: string, atOnce = false): undefined {
    if (!atOnce && this.#slots.length > 0) {
      this.#slots.push({ lines: [text] });
      return;
    }
    // Not #write: a closure per line would cost.
    try {
      this.#writer.line(text);
    } catch (thrown) {
      this.#breaks(thrown);
    }
  }

  #refuse(text: string, why: string): undefined {
    const { record, error } = refusedLine(this.#filter.by, this.#line, text, why);
    this.#worst ??= error;
    this.#put(record);
  }

  #atEnd(run: () => Outcome | Promise<Outcome>, work?: Work): Promise<Outcome> {
    if (this.#phase === "ended") return Promise.resolve().then(run);
    if (this.#phase === "cut" || this.#abort.signal.aborted) return Promise.resolve(undefined);
    return new Promise<Outcome>((resolve, reject) => {
      if (work) work.parked = true;
      this.#waiting.push((phase) => {
        if (work) work.parked = false;
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

  /** Waits until `done`, asking again whenever a handler ends or starts to wait for `end`. */
  async #settle(done: () => boolean): Promise<void> {
    this.#pump();
    while (!done()) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
      this.#changed = undefined;
      if (this.#broken !== undefined) throw this.#broken;
    }
  }
}
