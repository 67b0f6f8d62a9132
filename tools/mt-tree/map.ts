/**
 * mt-tree map: lifts a filter over the cluster. Each host gets its records and the context it needs, in
 * order; what comes back goes out at once; context goes out once, as it went in. Every record comes out:
 * changed by its host, or failed with the host named. Where no tree is up the command runs here.
 */
import { numberArg } from "../../shared/cli/parse.ts";
import type { Invocation } from "../../shared/cli/start.ts";
import { inform, warn } from "../../shared/cli/stderr.ts";
import { collectAfter } from "../../shared/collect.ts";
import { EXIT, type MtError, mtError, orThrow } from "../../shared/errors.ts";
import { fold } from "../../shared/ranges.ts";
import { type Line, travelOf } from "../../shared/records/index.ts";
import { isUnplaced, notPlaced } from "../../shared/records/placed.ts";
import {
  type Block,
  BlockSplitter,
  isUtf8,
  LineSplitter,
  linesOf,
  type RawLine,
} from "../../shared/stream/lines.ts";
import { readRecord } from "../../shared/stream/record.ts";
import { rewriteFailed } from "../../shared/stream/rewrite.ts";
import { scanRecord } from "../../shared/stream/scan.ts";
import { nextUnlessAborted, stdinRefilled } from "../../shared/stream/stdin.ts";
import { LineWriter, StdoutClosed, writeAll } from "../../shared/stream/writer.ts";
import { environmentForHosts, type HostExit, type Session, TreeClient } from "./client.ts";
import { endSession } from "./exec.ts";
import { CHUNK_BYTES } from "./frames.ts";
import { type HostStatus, windowFor } from "./messages.ts";
import { TreeReduction } from "./reduce.ts";
import { runHere } from "./run-here.ts";
import { Tally, type Verdict } from "./tally.ts";
import { readTree } from "./tree-file.ts";

/** Lines for a host wait this long for more, so that hosts get few large frames: once input pauses, and at most. */
const PAUSE_MS = 2;
const WAIT_MS = 50;
/** What waits for all hosts together. */
const GATHERED_BYTES_MAX = 16 * 2 ** 20;
/** As many slow hosts as this may have their buffers full while the stream goes on. */
const BUFFERS_MAX = 3;

export async function map(invocation: Invocation): Promise<number> {
  const connected = await TreeClient.connect();
  if (connected.isErr()) {
    // A tree that should be here and is not, or is another's, is no reason to do a cluster's work on this machine.
    if (readTree() || connected.error.code !== "unavailable") orThrow(connected);
    return runHere(invocation);
  }
  const listed = orThrow(await connected.value.list());
  const run = new MapRun(invocation, connected.value, listed);
  try {
    return await run.run();
  } finally {
    connected.value.close();
  }
}

/** One host's side of the run. */
interface HostRun {
  tally: Tally;
  output: BlockSplitter;
  errors: LineSplitter;
  /** Lines for it that are not sent yet, from the beginning of a buffer of its own. */
  gathered: Buffer;
  gatheredBytes: number;
  /** Once its command has ended: what records that come later fail with. */
  ended?: MtError;
}

class MapRun {
  readonly #invocation: Invocation;
  readonly #status: Map<string, HostStatus>;
  readonly #session: Session;
  readonly #writer = new LineWriter();
  readonly #hosts = new Map<string, HostRun>();
  /** Context in order, for hosts that the stream names later; and by key, to drop the copies. */
  readonly #context: { line: Line; text: string }[] = [];
  readonly #contextKeys = new Set<string>();
  readonly #buffer_bytes: number;
  /** What is gathered for a host: less where there are many. */
  readonly #frame_bytes: number;
  readonly #client: TreeClient;
  readonly #gathering = new Set<string>();
  #gatheredBytes = 0;
  #gatheringSince = 0;
  #pause: NodeJS.Timeout | undefined;
  /** Hosts whose command ended well, where their output is reduced; and the reduction. */
  readonly #held: string[] = [];
  #reduction: TreeReduction | undefined;
  #end: string | undefined;
  #lineNumber = 0;
  #failed = false;
  #badInput: MtError | undefined;
  #broken: unknown;
  #room: (() => void) | undefined;
  #allDone: (() => void) | undefined;

  constructor(invocation: Invocation, client: TreeClient, status: HostStatus[]) {
    this.#invocation = invocation;
    this.#client = client;
    this.#status = new Map(status.map((h) => [h.host, h]));
    this.#buffer_bytes = orThrow(numberArg(invocation.args, "buffer", { min: 1 })) * 2 ** 20;
    this.#frame_bytes = Math.min(CHUNK_BYTES, windowFor(status.length) / 2);
    this.#session = client.session(
      {
        argv: invocation.rest,
        env: environmentForHosts(),
        stdin: true,
        hold: invocation.args.reduce !== undefined,
      },
      {
        output: (host, fd, bytes) => this.#guard(() => this.#output(host, fd, bytes)),
        exit: (host, how) => this.#guard(() => this.#exit(host, how)),
        drain: () => this.#room?.(),
        piece: (message, payload) => this.#reduction?.piece(message, payload),
        moved: (host, gone) => this.#reduction?.moved(host, gone),
      },
      status.length,
    );
  }

  async run(): Promise<number> {
    const { args, signal } = this.#invocation;
    const timeout_s = orThrow(numberArg(args, "timeout", { min: 1 }));
    const stop = (error: MtError) => {
      this.#badInput ??= error;
      endSession(this.#session, error);
      this.#reduction?.stop();
      this.#room?.();
    };
    const late = setTimeout(
      () => stop(mtError("timeout", `Cannot finish: no end after ${timeout_s} s`)),
      timeout_s * 1000,
    );
    const onAbort = () => stop(mtError("failed", "Cannot finish: interrupted"));
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      if (args.all === true) for (const host of this.#status.keys()) this.#host(host);
      await this.#readAll();
      this.#session.end();
      await new Promise<void>((resolve) => {
        this.#allDone = resolve;
        if (this.#session.running.length === 0) resolve();
      });
      if (this.#broken !== undefined) throw this.#broken;
      if (args.reduce !== undefined) await this.#reduce(String(args.reduce));
      // Without its end the stream is cut off for who comes after: so it is when this stage was interrupted.
      if (this.#end !== undefined && !signal.aborted && args.reduce === undefined)
        this.#writer.line(this.#end);
      this.#writer.flush();
    } catch (thrown) {
      this.#session.kill("SIGTERM");
      if (thrown instanceof StdoutClosed) return EXIT.io;
      throw thrown;
    } finally {
      clearTimeout(late);
      signal.removeEventListener("abort", onAbort);
    }
    if (this.#end === undefined && !signal.aborted)
      this.#badInput ??= mtError(
        "data",
        `Cannot finish: the stream ended after ${this.#lineNumber} lines without an end record`,
        "a stage before this one was cut off; nothing that waits for the whole was done",
      );
    if (this.#badInput) warn(this.#badInput);
    if (this.#badInput?.code === "data") return EXIT.data;
    return this.#failed || this.#badInput ? EXIT.failed : EXIT.ok;
  }

  /** Runs what an event calls for; what it throws (stdout is gone) ends the run. */
  #guard(work: () => void): void {
    if (this.#broken === undefined) {
      try {
        work();
        this.#writer.flush();
      } catch (thrown) {
        this.#broken = thrown;
        this.#session.kill("SIGTERM");
        this.#room?.();
      }
    }
    if (this.#session.running.length === 0) this.#allDone?.();
  }

  async #readAll(): Promise<void> {
    const splitter = new BlockSplitter();
    const iterator = stdinRefilled();
    try {
      for (;;) {
        const next = await nextUnlessAborted(iterator, this.#invocation.signal);
        if (next === undefined || this.#badInput?.code === "timeout") return;
        for (const block of next.done ? splitter.end() : splitter.push(next.value))
          if (Buffer.isBuffer(block) && isUtf8(block)) this.#takeBlock(block);
          else for (const raw of linesOf(block)) this.#take(raw);
        this.#writer.flush();
        if (this.#broken !== undefined) throw this.#broken;
        if (next.done) return;
        this.#sendSoon();
        while (this.#isFull() && this.#broken === undefined && !this.#invocation.signal.aborted)
          await new Promise<void>((resolve) => {
            this.#room = resolve;
          });
      }
    } finally {
      this.#sendGathered();
    }
  }

  /** Whether one host is so far behind, or all together, that the stream has to wait. */
  #isFull(): boolean {
    const { most, all } = this.#session.backlog;
    return most > this.#buffer_bytes || all > BUFFERS_MAX * this.#buffer_bytes;
  }

  /** The lines of a block: those that plainly are a host's go there as they are. */
  #takeBlock(block: Buffer): void {
    const bytes = block.at(-1) === NEWLINE ? block : Buffer.concat([block, Buffer.of(NEWLINE)]);
    for (let at = 0; at < bytes.length; ) {
      const scanned = this.#end === undefined ? scanRecord(bytes, at) : undefined;
      const travel = scanned && travelOf(scanned);
      if (travel === "host" || travel === "self") {
        this.#lineNumber++;
        const end = scanned!.end + 1;
        this.#toHost(travel === "self" ? scanned!.id : scanned!.host!, bytes, at, end);
        at = end;
      } else {
        const end = bytes.indexOf(NEWLINE, at);
        this.#take({ text: bytes.toString("utf8", at, end) });
        at = end + 1;
      }
    }
  }

  #take(raw: RawLine): void {
    this.#lineNumber++;
    const read = readRecord(raw);
    if (read === undefined) return;
    if ("why" in read) return this.#refuse(raw.text, read.why);
    if (this.#end !== undefined) return this.#refuse(raw.text, "it stands after the end record");
    const { line } = read;
    // Every host would get it, and none would know whose it is.
    if (line.kind !== "segment" && isUnplaced(line)) {
      this.#badInput ??= notPlaced(line);
      this.#fail(raw.text, notPlaced(line));
      return;
    }
    const travel = travelOf(line);
    switch (travel) {
      case "report":
        this.#put(raw.text);
        return;
      case "end":
        this.#end = raw.text;
        for (const host of this.#hosts.keys()) this.#sendContext(host, [raw.text]);
        return;
      case "context":
        this.#contextKeys.add(keyOf(line));
        this.#context.push({ line, text: raw.text });
        this.#put(raw.text);
        for (const host of this.#hosts.keys()) if (concerns(line, host)) this.#sendContext(host, [raw.text]);
        return;
      case "self":
      case "host":
        return this.#lineToHost(travel === "self" ? line.id : line.host!, raw.text);
    }
  }

  /** What goes on past the hosts; a reducer's output stands alone. */
  #put(text: string): void {
    if (this.#invocation.args.reduce === undefined) this.#writer.line(text);
  }

  #lineToHost(name: string, text: string): void {
    const bytes = Buffer.from(`${text}\n`);
    this.#toHost(name, bytes, 0, bytes.length);
  }

  /** A line for a host: those bytes, the newline the last of them. */
  #toHost(name: string, bytes: Buffer, from: number, to: number): void {
    const host = this.#hosts.get(name) ?? this.#host(name);
    if (host === undefined || host.ended)
      return this.#fail(bytes.toString("utf8", from, to - 1), host?.ended ?? this.#unreachable(name));
    const length = to - from;
    if (host.gatheredBytes + length > host.gathered.length) {
      this.#sendTo(name, host);
      host.gathered = Buffer.allocUnsafeSlow(Math.max(this.#frame_bytes, length));
    }
    if (host.gatheredBytes === 0) this.#gathering.add(name);
    bytes.copy(host.gathered, host.gatheredBytes, from, to);
    host.gatheredBytes += length;
    this.#gatheredBytes += length;
  }

  #sendTo(name: string, host: HostRun): void {
    if (host.gatheredBytes === 0) return;
    const bytes = host.gathered.subarray(0, host.gatheredBytes);
    // The rest of the buffer is for what comes next: the bytes that are sent do not change.
    host.gathered = host.gathered.subarray(host.gatheredBytes);
    this.#gatheredBytes -= host.gatheredBytes;
    host.gatheredBytes = 0;
    this.#gathering.delete(name);
    host.tally.sent(bytes, false);
    this.#session.write(name, bytes);
    collectAfter(bytes.length);
  }

  #sendContext(name: string, texts: readonly string[]): void {
    const host = this.#hosts.get(name)!;
    this.#sendTo(name, host);
    const bytes = Buffer.from(texts.map((text) => `${text}\n`).join(""));
    host.tally.sent(bytes, true);
    this.#session.write(name, bytes);
  }

  #sendGathered(): void {
    clearTimeout(this.#pause);
    for (const name of [...this.#gathering]) this.#sendTo(name, this.#hosts.get(name)!);
    this.#gatheringSince = 0;
  }

  /** At once where enough waits, or long enough; else when input pauses. */
  #sendSoon(): void {
    if (this.#gathering.size === 0) return;
    const now = Date.now();
    if (this.#gatheringSince === 0) this.#gatheringSince = now;
    if (this.#gatheredBytes >= GATHERED_BYTES_MAX || now - this.#gatheringSince >= WAIT_MS)
      return this.#sendGathered();
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => this.#sendGathered(), PAUSE_MS);
  }

  #refuse(text: string, why: string): void {
    const error = mtError("data", `Cannot read line ${this.#lineNumber}: ${why}`);
    this.#badInput ??= { ...error, hint: "the line stands in the stream as an error record" };
    this.#writer.line(
      JSON.stringify({
        kind: "error",
        id: `mt-tree.line-${this.#lineNumber}`,
        line: this.#lineNumber,
        raw: text.slice(0, 4096),
        error: { by: "mt-tree", ...error },
      }),
    );
  }

  /** The run on a host, begun where it is the first record for it; undefined where the host is not there. */
  #host(name: string): HostRun | undefined {
    const known = this.#hosts.get(name);
    if (known) return known;
    if (!this.#status.get(name)?.present) {
      this.#failed = true;
      return undefined;
    }
    const host: HostRun = {
      tally: new Tally(),
      output: new BlockSplitter(),
      errors: new LineSplitter(),
      gathered: EMPTY,
      gatheredBytes: 0,
    };
    this.#hosts.set(name, host);
    this.#session.start([name]);
    const context = this.#context.flatMap((c) => (concerns(c.line, name) ? [c.text] : []));
    if (context.length > 0) this.#sendContext(name, context);
    return host;
  }

  #unreachable(host: string): MtError {
    const known = this.#status.get(host);
    return known
      ? mtError(
          "lost",
          `Cannot reach host ${host}: it is gone since ${known.since}`,
          "mt-tree up brings it back; then run this again",
        )
      : mtError("lost", `Cannot reach host ${host}: it is not in the tree`, "mt-tree status lists the hosts");
  }

  #output(name: string, fd: 1 | 2, bytes: Buffer): void {
    const host = this.#hosts.get(name)!;
    if (fd === 2) {
      for (const { text } of host.errors.push(bytes)) if (text !== "") inform(`${name}: ${text}`);
      return;
    }
    for (const block of host.output.push(bytes)) this.#came(name, host, block);
  }

  #came(name: string, host: HostRun, block: Block): void {
    if (Buffer.isBuffer(block))
      host.tally.came(
        block,
        (run) => this.#writer.lines(run),
        (line) => this.#changed(name, host, line),
      );
    else for (const raw of linesOf(block)) this.#changed(name, host, Buffer.from(raw.text));
  }

  /** A line that a host put out, other than it was sent; it is put out here where it has to be cut or told apart. */
  #changed(name: string, host: HostRun, bytes: Buffer): Verdict {
    const whole = bytes.at(-1) === NEWLINE;
    const scanned = isUtf8(bytes) ? scanRecord(bytes, 0) : undefined;
    const line = scanned ?? recordIn(bytes);
    if (line === "blank") return "drop";
    if (line === undefined) {
      this.#failed = true;
      const error = {
        by: "mt-tree",
        ...mtError(
          "data",
          `Cannot read what ${this.#invocation.rest[0]} put out on ${name}: it is no record`,
        ),
      };
      this.#writer.line(
        JSON.stringify({
          kind: "error",
          id: `mt-tree.${name}`,
          host: name,
          line: 0,
          raw: bytes.toString().trimEnd().slice(0, 4096),
          error,
        }),
      );
      return "drop";
    }
    if (line.kind === "end") return "drop";
    const travel = travelOf(line);
    if (travel === "context" && this.#contextKeys.has(keyOf(line))) return "drop";
    if (travel !== "report") host.tally.settle(line);
    else if (line.kind === "error") this.#refusedThere(host, bytes);
    if (whole) return "emit";
    this.#writer.line(bytes.toString());
    return "drop";
  }

  /** A record that the filter could not read: its error record stands for it. */
  #refusedThere(host: HostRun, bytes: Buffer): void {
    const error = recordIn(bytes);
    if (error === "blank") return;
    const refused = readRecord({ text: String(error?.raw) });
    // Cut or no JSON: then it comes out failed as well.
    if (refused !== undefined && "line" in refused) host.tally.settle(refused.line);
  }

  #exit(name: string, how: HostExit): void {
    const host = this.#hosts.get(name)!;
    for (const block of host.output.end()) {
      if (!Buffer.isBuffer(block)) this.#came(name, host, block);
      // The last line may lack its newline. One that was cut in two with its host is as though it had not come.
      else if (!how.error || recordIn(block) !== undefined)
        this.#came(name, host, Buffer.concat([block, Buffer.of(NEWLINE)]));
    }
    for (const { text } of host.errors.end()) inform(`${name}: ${text}`);
    if (how.error || how.code !== 0) this.#failed = true;
    const error = how.error ?? ended(this.#invocation.rest[0]!, name, how);
    // Lines that were still gathered for it are of those that it did not give back.
    this.#sendTo(name, host);
    host.ended = error;
    if (this.#invocation.args.reduce !== undefined && !how.error && how.code === 0) this.#held.push(name);
    else for (const text of host.tally.missing()) this.#fail(text, error);
    // Once is enough where it is the same for all.
    if (this.#client.headLost !== undefined) {
      // A stream that goes on is read to its end, which may be far.
      if (this.#badInput === undefined && this.#end === undefined)
        inform("the head of the tree is gone: what still comes for its hosts comes out failed");
      this.#badInput ??= mtError(
        "lost",
        `Cannot finish: the head of the tree is gone: ${this.#client.headLost}`,
        "mt-tree up mends it; then run this again",
      );
    } else if (how.error)
      inform(how.error.message.includes(name) ? how.error.message : `${name}: ${how.error.message}`);
  }

  /** Reduces what the hosts hold; the records of those that are lost meanwhile come out failed. */
  async #reduce(command: string): Promise<void> {
    this.#reduction = new TreeReduction(
      this.#client,
      this.#session,
      { argv: ["/bin/sh", "-c", command], env: environmentForHosts() },
      this.#held,
      (bytes) => writeAll(1, bytes),
    );
    this.#writer.flush();
    const reduced = await this.#reduction.run();
    this.#session.close(this.#held);
    const lost = reduced.isErr() ? this.#held : reduced.value;
    for (const name of lost) {
      const error = reduced.isErr()
        ? reduced.error
        : mtError("lost", `Cannot reduce what ${name} put out: it is gone`, "run it again");
      for (const text of this.#hosts.get(name)!.tally.missing()) this.#fail(text, error);
    }
    if (lost.length > 0)
      this.#badInput ??= reduced.isErr()
        ? reduced.error
        : mtError(
            "lost",
            `Cannot reduce what ${fold(lost).join(",")} put out: gone meanwhile`,
            "run it again",
          );
  }

  /** A record comes out failed; one that failed before keeps its first error. */
  #fail(text: string, error: MtError): void {
    this.#failed = true;
    this.#writer.line(rewriteFailed(text, { by: "mt-tree", ...error }));
  }
}

function ended(command: string, host: string, how: HostExit): MtError {
  const way = how.signal ? `was ended by ${how.signal}` : `ended with exit code ${how.code}`;
  return mtError(
    "failed",
    `Cannot tell what became of this on ${host}: ${command} ${way} before it said so`,
    "run it again",
  );
}

const NEWLINE = 10;
const EMPTY = Buffer.alloc(0);

const keyOf = (line: Pick<Line, "kind" | "id">) => `${line.kind}\0${line.id}`;

/** The record that a line is, where it took JSON.parse to tell. */
function recordIn(bytes: Buffer): Line | "blank" | undefined {
  if (!isUtf8(bytes)) return undefined;
  const read = readRecord({
    text: bytes.toString("utf8", 0, bytes.length - (bytes.at(-1) === NEWLINE ? 1 : 0)),
  });
  if (read === undefined) return "blank";
  return "line" in read ? read.line : undefined;
}

/** Whether context goes to a host: its `hosts` name it, or it has none. */
const concerns = (line: Line, host: string) => !Array.isArray(line.hosts) || line.hosts.includes(host);
