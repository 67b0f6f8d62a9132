/**
 * mt-tree map: runs a filter on every host of the stream. Each host gets its records and the context that it needs, in
 * order; what comes back is put out at once; context is put out once, as it came in. Every record comes out, changed by
 * its host or failed. Where no tree is up the command runs here, for this host's records, and those of other hosts fail.
 */

import type { Invocation, Run } from "../../../shared/cli/invocation.ts";
import { inform, warn } from "../../../shared/cli/stderr.ts";
import { EXIT, exitCodeOf, type MtError, MtFailure, mtError, orThrow } from "../../../shared/errors.ts";
import { noTree } from "../../../shared/no-tree.ts";
import { foldNodes } from "../../../shared/nodeset/fold.ts";
import { fold } from "../../../shared/nodeset/ranges.ts";
import { travelOf } from "../../../shared/records/index.ts";
import type { Line } from "../../../shared/records/line.ts";
import { isUnplaced, notPlaced } from "../../../shared/records/placed.ts";
import { type Block, BlockSplitter, LineSplitter, linesOf } from "../../../shared/stream/lines.ts";
import {
  type Head,
  lineIn,
  RecordLines,
  readRecord,
  refusedLine,
} from "../../../shared/stream/record-line.ts";
import { rewriteFailed } from "../../../shared/stream/rewrite.ts";
import { nextUnlessAborted, stdinRefilled } from "../../../shared/stream/stdin.ts";
import { LineWriter, StdoutClosed, writeAll } from "../../../shared/stream/writer.ts";
import { endSession } from "../commands/exec.ts";
import { CHUNK_BYTES } from "../link/frames.ts";
import { collectAfter } from "../link/garbage.ts";
import { type HostStatus, windowFor } from "../link/messages.ts";
import type { CommandEnd } from "../node/command.ts";
import { readTree } from "../node/tree-file.ts";
import { environmentForHosts, TreeClient } from "../session/client.ts";
import type { CommandSession, Session, SessionEvents } from "../session/session.ts";
import type { spec } from "../spec.ts";
import { HereSession } from "./here.ts";
import { type Handling, InFlight, type Role } from "./in-flight.ts";
import { ReduceCoordinator } from "./reduce-coordinator.ts";

/** Lines for hosts are gathered, so that hosts get few large frames: until input pauses for this long. */
const PAUSE_MS = 2;
/** But for no longer than this. */
const WAIT_MS = 50;
/** How much is gathered for all hosts together. */
const GATHERED_BYTES_MAX = 16 * 2 ** 20;
/** Input is read while no more than this many buffers (--buffer) are full, over all hosts. */
const BUFFERS_MAX = 3;

/** Without a head every record fails at once; stdin is read on until nothing comes for this long. */
const IDLE_AFTER_HEAD_MS = 10_000;

export const map: Run<typeof spec, "map"> = async (invocation) => {
  const connected = await TreeClient.connect();
  const listed = connected.isOk() ? await connected.value.list() : connected;
  if (listed.isErr()) {
    const { code } = listed.error;
    if (code === "usage" || code === "data") throw new MtFailure(listed.error);
    // Where a tree should be up and cannot be reached, its work is not done on this machine instead.
    const alone = connected.isErr() && code === "unavailable" && !readTree();
    if (alone) return new MapRun(invocation, undefined, []).run();
    return new MapRun(invocation, TreeClient.unreachable(listed.error), [], listed.error).run();
  }
  const client = orThrow(connected);
  try {
    return await new MapRun(invocation, client, listed.value).run();
  } finally {
    client.close();
  }
};

/** One host's side of the run. */
interface HostRun {
  inFlight: InFlight;
  output: BlockSplitter;
  errors: LineSplitter;
  /** Lines for it that are not sent yet, at the beginning of a buffer of its own. */
  gathered: Buffer;
  gatheredBytes: number;
  /** Set once its command has ended: records that come later fail with this. */
  ended?: MtError;
}

class MapRun {
  readonly #invocation: Invocation<typeof spec, "map">;
  /** Hosts of the tree when this began, for --all. */
  readonly #all: string[];
  readonly #session: CommandSession;
  /** Set where a tree is up; else #here is. */
  readonly #tree: { client: TreeClient; session: Session } | undefined;
  readonly #here: HereSession | undefined;
  readonly #writer = new LineWriter();
  readonly #hosts = new Map<string, HostRun>();
  /** Context in order, for hosts that come later in the stream; and its keys, to drop the copies that hosts give back. */
  readonly #context: { line: Line; text: string }[] = [];
  readonly #contextKeys = new Set<string>();
  readonly #buffer_bytes: number;
  /** How much is gathered for one host: less where there are many. */
  readonly #frame_bytes: number;
  readonly #gathering = new Set<string>();
  #gatheredBytes = 0;
  #gatheringSince = 0;
  #pause: NodeJS.Timeout | undefined;
  /** With --reduce: hosts that keep what their command put out, because it ended well. */
  readonly #keeping: string[] = [];
  #coordinator: ReduceCoordinator | undefined;
  #end: string | undefined;
  /** Where no tree is up: other hosts that records were for, and the exit code of the command here. */
  readonly #nobody = new Set<string>();
  #hereCode = 0;
  #lineNumber = 0;
  #failed = false;
  #badInput: MtError | undefined;
  #broken: unknown;
  /** Aborted when no more is to be read: interrupted, out of time, or stdout is closed. */
  readonly #reading = new AbortController();
  #idle: NodeJS.Timeout | undefined;
  #room: (() => void) | undefined;
  #allDone: (() => void) | undefined;

  /**
   * @param client of the tree; without it the command runs here
   * @param unreachable why the head cannot be reached, where that is so from the beginning
   */
  constructor(
    invocation: Invocation<typeof spec, "map">,
    client: TreeClient | undefined,
    status: HostStatus[],
    unreachable?: MtError,
  ) {
    this.#invocation = invocation;
    this.#badInput = unreachable;
    this.#all = status.map((h) => h.host);
    this.#buffer_bytes = invocation.args.buffer * 2 ** 20;
    this.#frame_bytes = Math.min(CHUNK_BYTES, windowFor(status.length) / 2);
    const { reduce } = invocation.args;
    const events: SessionEvents = {
      output: (host, fd, bytes) => this.#guard(() => this.#output(host, fd, bytes)),
      exit: (host, how) => this.#guard(() => this.#exit(host, how)),
      drain: () => this.#room?.(),
      reduced: (message, payload) => this.#coordinator?.reduced(message, payload),
      moved: (host, gone) => this.#coordinator?.moved(host, gone),
      headLost: (why) => this.#headLost(why),
    };
    if (client) {
      const command = {
        argv: invocation.rest,
        env: environmentForHosts(),
        stdin: true,
        keep_output: reduce !== undefined,
      };
      const session = client.session(command, events, status.length);
      this.#tree = { client, session };
      this.#session = session;
    } else {
      this.#here = new HereSession(invocation.rest, reduce, events);
      this.#session = this.#here;
    }
  }

  async run(): Promise<number> {
    const { args, signal } = this.#invocation;
    const { timeout: timeout_s } = args;
    const stop = (error: MtError) => {
      this.#badInput ??= error;
      this.#readNoMore();
      endSession(this.#session, error);
      this.#coordinator?.stop();
    };
    const late = setTimeout(
      () => stop(mtError("timeout", `Cannot finish: no end after ${timeout_s} s`)),
      timeout_s * 1000,
    );
    const onAbort = () => stop(mtError("failed", "Cannot finish: interrupted"));
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      if (this.#badInput) this.#boundIdle();
      if (args.all) for (const host of this.#all) this.#host(host);
      if (this.#here) this.#host(this.#here.host);
      await this.#readAll();
      this.#session.end();
      await new Promise<void>((resolve) => {
        this.#allDone = resolve;
        if (this.#session.running.length === 0) resolve();
      });
      if (this.#broken !== undefined) throw this.#broken;
      if (args.reduce !== undefined && this.#tree) await this.#reduce(args.reduce, this.#tree);
      // Where this stage was interrupted the end is left out, so that later stages take the stream as cut off.
      if (this.#end !== undefined && !signal.aborted && args.reduce === undefined)
        this.#writer.line(this.#end);
      this.#writer.flush();
    } catch (thrown) {
      this.#session.kill("SIGTERM");
      await this.#here?.ended();
      if (thrown instanceof StdoutClosed) return EXIT.io;
      throw thrown;
    } finally {
      clearTimeout(late);
      clearTimeout(this.#idle);
      signal.removeEventListener("abort", onAbort);
    }
    if (this.#end === undefined && !signal.aborted)
      this.#badInput ??= mtError(
        "data",
        `Cannot finish: the stream ended after ${this.#lineNumber} lines without an end record`,
        "a stage before this one was cut off; nothing that waits for the whole was done",
      );
    return this.#exitCode();
  }

  #exitCode(): number {
    if (this.#badInput) warn(this.#badInput);
    if (this.#nobody.size > 0) {
      const hosts = foldNodes([...this.#nobody]);
      const { message, hint } = noTree(this.#nobody.size === 1 ? `host ${hosts}` : `hosts ${hosts}`);
      warn(mtError("lost", `${message}; what was for them came out failed`, hint));
    }
    if (this.#hereCode) return this.#hereCode;
    if (this.#badInput?.code === "data") return EXIT.data;
    if (this.#badInput) return exitCodeOf(this.#badInput.code);
    return this.#failed || this.#nobody.size > 0 ? EXIT.failed : EXIT.ok;
  }

  /** The head is gone: says so at once, because stdin may be silent for long. */
  #headLost(why: string): void {
    this.#badInput ??= mtError("lost", `Cannot finish: ${why}`, "mt-tree up mends it; then run this again");
    if (this.#end === undefined) inform(`${why}; what still comes for its hosts comes out failed`);
    this.#boundIdle();
  }

  /** Records can only fail from now on: reads no more once stdin has been silent for a while. */
  #boundIdle(): void {
    this.#idle = setTimeout(() => this.#readNoMore(), IDLE_AFTER_HEAD_MS);
  }

  #readNoMore(): void {
    this.#reading.abort();
    this.#room?.();
  }

  /** Handles an event; what that throws (as where stdout is closed) ends the run. */
  #guard(work: () => void): void {
    if (this.#broken === undefined) {
      try {
        work();
        this.#writer.flush();
      } catch (thrown) {
        this.#broken = thrown;
        this.#session.kill("SIGTERM");
        this.#readNoMore();
      }
    }
    if (this.#session.running.length === 0) this.#allDone?.();
  }

  async #readAll(): Promise<void> {
    const splitter = new BlockSplitter();
    const iterator = stdinRefilled();
    try {
      for (;;) {
        const next = await nextUnlessAborted(iterator, this.#reading.signal);
        if (this.#broken !== undefined) throw this.#broken;
        if (next === undefined) return;
        this.#idle?.refresh();
        for (const block of next.done ? splitter.end() : splitter.push(next.value))
          if (this.#here) this.#takeHere(block, this.#here.host);
          else this.#takeBlock(block);
        this.#writer.flush();
        if (this.#broken !== undefined) throw this.#broken;
        if (next.done) return;
        this.#sendSoon();
        while (this.#isFull() && this.#broken === undefined && !this.#reading.signal.aborted)
          await new Promise<void>((resolve) => {
            this.#room = resolve;
          });
      }
    } finally {
      this.#sendGathered();
    }
  }

  /** Whether one host, or all together, are so far behind that no more is read for now. */
  #isFull(): boolean {
    const { most, all } = this.#session.backlog;
    return most > this.#buffer_bytes || all > BUFFERS_MAX * this.#buffer_bytes;
  }

  /** The lines of a block where no tree is up: all but records of other hosts go to the command here, in order. */
  #takeHere(block: Block, here: string): void {
    // Copied: the buffer that it came in is used again.
    const lines = new RecordLines(Buffer.isBuffer(block) ? Buffer.from(block) : block);
    const { bytes } = lines;
    let from = 0;
    let run: Role = "own";
    const send = (to: number) => {
      if (to > from) this.#sendHere(here, bytes.subarray(from, to), run);
      from = to;
    };
    while (lines.next()) {
      this.#lineNumber++;
      let head: Head | undefined = lines;
      if (!lines.sure || this.#end !== undefined) {
        // A line that is refused comes out in its place among those that were sent.
        send(lines.from);
        head = this.#read(lines);
        if (head === undefined) {
          from = lines.to;
          continue;
        }
      }
      const isEnd = head.kind === "end";
      const owner = ownerOf(head);
      const as: Role = isEnd ? "context" : owner === here ? "own" : "passing";
      if (isEnd) this.#end = lines.text;
      if (as !== run) send(lines.from);
      run = as;
      if (owner !== undefined && owner !== here) {
        send(lines.from);
        this.#failInPlace(owner, here, lines.text);
        from = lines.to;
      }
    }
    send(bytes.length);
  }

  /** A record of another host: it comes out failed, in its place. */
  #failInPlace(name: string, here: string, text: string): void {
    this.#inPlace(here, this.#failedLine(text, this.#host(name).ended!));
  }

  /** Puts out a line in its place among those that the command here has been sent. */
  #inPlace(here: string, line: string): void {
    const { inFlight, ended } = this.#hosts.get(here)!;
    if (ended || this.#invocation.args.reduce !== undefined) return this.#writer.line(line);
    inFlight.insert(Buffer.from(`${line}\n`), (run) => this.#writer.lines(run));
  }

  #sendHere(here: string, bytes: Buffer, as: Role): void {
    const host = this.#hosts.get(here)!;
    if (!host.ended) {
      host.inFlight.sent(bytes, as);
      this.#session.write(here, bytes);
    } else if (as === "own") for (const { text } of linesOf(bytes)) this.#fail(text, host.ended);
    else if (as === "passing" && this.#invocation.args.reduce === undefined) this.#writer.lines(bytes);
  }

  /** The lines of a block: those of which the scanner knows the host go there as they are. */
  #takeBlock(block: Block): void {
    const lines = new RecordLines(block);
    while (lines.next()) {
      this.#lineNumber++;
      const owner = lines.sure && this.#end === undefined ? ownerOf(lines) : undefined;
      if (owner !== undefined) this.#toHost(owner, lines);
      else this.#take(lines);
    }
  }

  /** The record in a line; undefined where it is blank, or was refused. */
  #read(lines: RecordLines): Line | undefined {
    const read = lines.read();
    if (read === undefined) return undefined;
    if ("line" in read && this.#end === undefined) return read.line;
    this.#refuse(lines.text, "why" in read ? read.why : "it stands after the end record");
    return undefined;
  }

  #take(lines: RecordLines): void {
    const line = this.#read(lines);
    if (line === undefined) return;
    const owner = ownerOf(line);
    if (owner !== undefined) return this.#toHost(owner, lines);
    const { text } = lines;
    // Without a host it would go to all of them, and none would act on it.
    if (line.kind !== "segment" && isUnplaced(line)) {
      this.#badInput ??= notPlaced(line);
      return this.#fail(text, notPlaced(line));
    }
    switch (travelOf(line)) {
      case "report":
        this.#put(text);
        return;
      case "end":
        this.#end = text;
        for (const host of this.#hosts.keys()) this.#sendContext(host, [text]);
        return;
      case "context":
        this.#contextKeys.add(keyOf(line));
        this.#context.push({ line, text });
        this.#put(text);
        for (const host of this.#hosts.keys()) if (concerns(line, host)) this.#sendContext(host, [text]);
        return;
    }
  }

  /** Puts out a line that no host changes; not with --reduce, where only the reducer's output comes out. */
  #put(text: string): void {
    if (this.#invocation.args.reduce === undefined) this.#writer.line(text);
  }

  /** Gathers the current line for a host. */
  #toHost(name: string, lines: RecordLines): void {
    const { bytes, from, to } = lines;
    const host = this.#host(name);
    if (host.ended) return this.#fail(lines.text, host.ended);
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
    // What comes next goes into the rest of the buffer: bytes that are sent must not change.
    host.gathered = host.gathered.subarray(host.gatheredBytes);
    this.#gatheredBytes -= host.gatheredBytes;
    host.gatheredBytes = 0;
    this.#gathering.delete(name);
    host.inFlight.sent(bytes, "own");
    this.#session.write(name, bytes);
    collectAfter(bytes.length);
  }

  #sendContext(name: string, texts: readonly string[]): void {
    const host = this.#hosts.get(name)!;
    this.#sendTo(name, host);
    const bytes = Buffer.from(texts.map((text) => `${text}\n`).join(""));
    host.inFlight.sent(bytes, "context");
    this.#session.write(name, bytes);
  }

  #sendGathered(): void {
    clearTimeout(this.#pause);
    for (const name of [...this.#gathering]) this.#sendTo(name, this.#hosts.get(name)!);
    this.#gatheringSince = 0;
  }

  /** Sends what is gathered: at once where it is much or has waited long, else when input pauses. */
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
    const { record, error } = refusedLine("mt-tree", this.#lineNumber, text, why);
    this.#badInput ??= error;
    if (this.#here) this.#inPlace(this.#here.host, record);
    else this.#writer.line(record);
  }

  /**
   * The run on a host; the first record for a host begins it. On a host that is not there it has ended when this
   * returns, and the record fails.
   */
  #host(name: string): HostRun {
    const known = this.#hosts.get(name);
    if (known) return known;
    const host: HostRun = {
      inFlight: new InFlight(),
      output: new BlockSplitter(),
      errors: new LineSplitter(),
      gathered: EMPTY,
      gatheredBytes: 0,
    };
    this.#hosts.set(name, host);
    this.#session.run([name]);
    if (host.ended) return host;
    const context = this.#context.flatMap((c) => (concerns(c.line, name) ? [c.text] : []));
    if (context.length > 0) this.#sendContext(name, context);
    return host;
  }

  #output(name: string, fd: 1 | 2, bytes: Buffer): void {
    const host = this.#hosts.get(name)!;
    if (fd === 2) {
      for (const { text } of host.errors.push(bytes)) if (text !== "") inform(`${name}: ${text}`);
      return;
    }
    // This is the reducer's output, which is the result.
    if (this.#here && this.#invocation.args.reduce !== undefined) return this.#writer.lines(bytes);
    for (const block of host.output.push(bytes)) this.#came(name, host, block);
  }

  #came(name: string, host: HostRun, block: Block): void {
    if (Buffer.isBuffer(block))
      host.inFlight.came(
        block,
        (run) => this.#writer.lines(run),
        (line) => this.#changed(name, host, line),
      );
    else for (const raw of linesOf(block)) this.#changed(name, host, Buffer.from(raw.text));
  }

  /** A line that a host gave back changed, out of order, or of its own. Says whether it comes out as it is. */
  #changed(name: string, host: HostRun, bytes: Buffer): Handling {
    const whole = bytes.at(-1) === NEWLINE;
    const line = lineIn(bytes).head();
    if (this.#here && (line === "blank" || line === undefined)) {
      // Without a tree the command's output is passed on as it is, as if it ran without map.
      if (whole) return "emit";
      this.#writer.lines(bytes);
      return "drop";
    }
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
    if (line.kind === "end" && (this.#end !== undefined || !this.#here)) return "drop";
    const travel = travelOf(line);
    if (travel === "context" && this.#contextKeys.has(keyOf(line))) return "drop";
    if (line.kind === "error") this.#refusedThere(host, bytes);
    else if (travel !== "report" && (ownerOf(line) !== undefined || !this.#here)) host.inFlight.settle(line);
    if (whole) return "emit";
    this.#writer.line(bytes.toString());
    return "drop";
  }

  /** The filter could not read a record, and gave back an error record instead. */
  #refusedThere(host: HostRun, bytes: Buffer): void {
    const error = lineIn(bytes).read();
    if (error === undefined || "why" in error) return;
    const refused = readRecord({ text: String(error.line.raw) });
    // Where the raw line was cut or is no JSON, the record is not found, and comes out failed as well.
    if (refused !== undefined && "line" in refused) host.inFlight.settle(refused.line);
  }

  #exit(name: string, how: CommandEnd): void {
    const host = this.#hosts.get(name)!;
    for (const block of host.output.end()) {
      if (!Buffer.isBuffer(block)) this.#came(name, host, block);
      // The last line may lack its newline. Half a line of a host that was lost is dropped.
      else if (!how.error || lineIn(block).head() !== undefined)
        this.#came(name, host, Buffer.concat([block, Buffer.of(NEWLINE)]));
    }
    for (const { text } of host.errors.end()) inform(`${name}: ${text}`);
    if (how.error || how.code !== 0) this.#failed = true;
    const error = how.error ?? ended(this.#invocation.rest[0]!, name, how);
    // Lines that are still gathered for it count as sent and not given back.
    this.#sendTo(name, host);
    host.ended = error;
    if (this.#here && this.#invocation.args.reduce === undefined)
      for (const run of host.inFlight.takeRest(diedThere(how))) this.#writer.lines(run);
    if (this.#invocation.args.reduce !== undefined && !how.error && how.code === 0) this.#keeping.push(name);
    else for (const text of host.inFlight.missing()) this.#fail(text, error);
    if (this.#here) {
      if (name !== this.#here.host) this.#nobody.add(name);
      else this.#hereCode = how.code || (how.error ? exitCodeOf(how.error.code) : 0);
    }
    // Where the head is gone the reason is the same for all hosts, and has been said.
    else if (how.error && this.#tree?.client.headLost === undefined)
      inform(how.error.message.includes(name) ? how.error.message : `${name}: ${how.error.message}`);
  }

  /** Reduces what the hosts keep; the records of those that are lost meanwhile come out failed. */
  async #reduce(
    command: string,
    { client, session }: { client: TreeClient; session: Session },
  ): Promise<void> {
    this.#coordinator = new ReduceCoordinator(
      client,
      session,
      { argv: ["/bin/sh", "-c", command], env: environmentForHosts() },
      this.#keeping,
      (bytes) => writeAll(1, bytes),
    );
    this.#writer.flush();
    const reduced = await this.#coordinator.run();
    session.close(this.#keeping);
    const lost = reduced.isErr() ? this.#keeping : reduced.value;
    for (const name of lost) {
      const error = reduced.isErr()
        ? reduced.error
        : mtError("lost", `Cannot reduce what ${name} put out: it is gone`, "run it again");
      for (const text of this.#hosts.get(name)!.inFlight.missing()) this.#fail(text, error);
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

  #fail(text: string, error: MtError): void {
    this.#writer.line(this.#failedLine(text, error));
  }

  /** A line with its record failed; one that had failed before keeps its first error. */
  #failedLine(text: string, error: MtError): string {
    this.#failed = true;
    return rewriteFailed(text, { by: "mt-tree", ...error });
  }
}

function ended(command: string, host: string, how: CommandEnd): MtError {
  const way = how.signal ? `was ended by ${how.signal}` : `ended with exit code ${how.code}`;
  return mtError(
    "failed",
    `Cannot tell what became of this on ${host}: ${command} ${way} before it said so`,
    "run it again",
  );
}

/** Whether a command was killed or never started: then lines that should have passed through it are put out by us. */
const diedThere = ({ code, error }: CommandEnd) => error !== undefined || code === undefined || code >= 126;

const NEWLINE = 10;
const EMPTY = Buffer.alloc(0);

/** The host to which a record belongs, which gets it and gives it back; undefined for other lines. */
function ownerOf(line: { kind: string; id: string; host?: unknown }): string | undefined {
  const travel = travelOf(line);
  return travel === "self" ? line.id : travel === "host" ? String(line.host) : undefined;
}

const keyOf = (line: Pick<Line, "kind" | "id">) => `${line.kind}\0${line.id}`;

/** Whether a host needs this context: its `hosts` names the host, or it has no `hosts`. */
const concerns = (line: Line, host: string) => !Array.isArray(line.hosts) || line.hosts.includes(host);
