/**
 * mt-tree map: lifts a filter over the cluster. Each host gets its records and the context it needs, in
 * order; what comes back goes out at once; context goes out once, as it went in. Every record comes out:
 * changed by its host, or failed with the host named. Where no tree is up the command runs here.
 */
import { spawn } from "node:child_process";
import { numberArg } from "../../shared/cli/parse.ts";
import type { Invocation } from "../../shared/cli/start.ts";
import { inform, warn } from "../../shared/cli/stderr.ts";
import { EXIT, type MtError, mtError, orThrow } from "../../shared/errors.ts";
import { cleanEnv, toolCommand } from "../../shared/process.ts";
import { type Line, travelOf } from "../../shared/records/index.ts";
import { LineSplitter, type RawLine } from "../../shared/stream/lines.ts";
import { nextUnlessAborted, stdinChunks } from "../../shared/stream/stdin.ts";
import { LineWriter, StdoutClosed } from "../../shared/stream/writer.ts";
import { Accounts } from "./accounts.ts";
import { environmentForHosts, type HostExit, type Session, TreeClient } from "./client.ts";
import { endSession } from "./exec.ts";
import type { HostStatus } from "./messages.ts";
import { readTree } from "./tree-file.ts";

export async function map(invocation: Invocation): Promise<number> {
  const connected = await TreeClient.connect();
  if (connected.isErr()) {
    // A tree that should be here and is not is no reason to do a cluster's work on this machine.
    if (readTree()) orThrow(connected);
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

/** No tree is up: the filter runs on this host, on our own stdin and stdout. */
function runHere({ rest, signal }: Invocation): Promise<number> {
  const [first = "", ...args] = rest;
  const words = /^mt-[a-z]+$/.test(first) ? [...toolCommand(first), ...args] : rest;
  return new Promise((resolve) => {
    const child = spawn(words[0]!, words.slice(1), { stdio: "inherit", env: cleanEnv() });
    signal.addEventListener("abort", () => child.kill("SIGTERM"), { once: true });
    child.on("error", (e: NodeJS.ErrnoException) => {
      warn(
        mtError(
          "unavailable",
          `Cannot run ${first}: ${e.code === "ENOENT" ? "it is not on this host" : e.message}`,
        ),
      );
      resolve(EXIT.unavailable);
    });
    child.on("exit", (code) => resolve(code ?? EXIT.failed));
  });
}

/** One host's side of the run. */
interface HostRun {
  accounts: Accounts;
  splitter: LineSplitter;
  errors: LineSplitter;
  /** Lines for it that are not sent yet. */
  gathered: string[];
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
  #gathering: string[] = [];
  #end: string | undefined;
  #lineNumber = 0;
  #failed = false;
  #badInput: MtError | undefined;
  #broken: unknown;
  #room: (() => void) | undefined;
  #allDone: (() => void) | undefined;

  constructor(invocation: Invocation, client: TreeClient, status: HostStatus[]) {
    this.#invocation = invocation;
    this.#status = new Map(status.map((h) => [h.host, h]));
    this.#buffer_bytes = orThrow(numberArg(invocation.args, "buffer", { min: 1 })) * 2 ** 20;
    this.#session = client.session(
      { argv: invocation.rest, env: environmentForHosts(), stdin: true },
      {
        output: (host, fd, bytes) => this.#guard(() => this.#output(host, fd, bytes)),
        exit: (host, how) => this.#guard(() => this.#exit(host, how)),
        drain: () => this.#room?.(),
      },
    );
  }

  async run(): Promise<number> {
    const { args, signal } = this.#invocation;
    const timeout_s = orThrow(numberArg(args, "timeout", { min: 1 }));
    const stop = (error: MtError) => {
      this.#badInput ??= error;
      endSession(this.#session, error);
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
      // Without its end the stream is cut off for who comes after: so it is when this stage was interrupted.
      if (this.#end !== undefined && !signal.aborted) this.#writer.line(this.#end);
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
    const splitter = new LineSplitter();
    const iterator = stdinChunks()[Symbol.asyncIterator]();
    for (;;) {
      const next = await nextUnlessAborted(iterator, this.#invocation.signal);
      if (next === undefined || this.#badInput?.code === "timeout") return;
      for (const raw of next.done ? splitter.end() : splitter.push(next.value)) this.#take(raw);
      this.#sendGathered();
      this.#writer.flush();
      if (this.#broken !== undefined) throw this.#broken;
      if (next.done) return;
      while (
        this.#session.backlog > this.#buffer_bytes &&
        this.#broken === undefined &&
        !this.#invocation.signal.aborted
      )
        await new Promise<void>((resolve) => {
          this.#room = resolve;
        });
    }
  }

  #take(raw: RawLine): void {
    this.#lineNumber++;
    if (raw.text.trim() === "" && !raw.bad) return;
    let line: Line;
    try {
      if (raw.bad) throw new Error(raw.bad);
      line = JSON.parse(raw.text);
      if (typeof line?.kind !== "string" || typeof line.id !== "string")
        throw new Error("expected an object with a kind and an id");
      if (this.#end !== undefined) throw new Error("it stands after the end record");
    } catch (thrown) {
      return this.#refuse(
        raw.text,
        thrown instanceof SyntaxError ? "it is no JSON" : (thrown as Error).message,
      );
    }
    switch (travelOf(line)) {
      case "report":
        this.#writer.line(raw.text);
        return;
      case "end":
        this.#end = raw.text;
        for (const host of this.#hosts.keys()) this.#send(host, raw.text);
        return;
      case "context":
        this.#contextKeys.add(`${line.kind}\0${line.id}`);
        this.#context.push({ line, text: raw.text });
        this.#writer.line(raw.text);
        for (const host of this.#hosts.keys()) if (concerns(line, host)) this.#send(host, raw.text);
        return;
      case "self":
      case "host": {
        const name = travelOf(line) === "self" ? line.id : line.host!;
        const host = this.#host(name);
        if (host === undefined) return this.#fail(line, this.#unreachable(name));
        if (host.ended) return this.#fail(line, host.ended);
        host.accounts.sent(line, raw.text);
        this.#send(name, raw.text);
      }
    }
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
      accounts: new Accounts(),
      splitter: new LineSplitter(),
      errors: new LineSplitter(),
      gathered: [],
    };
    this.#hosts.set(name, host);
    this.#session.start([name]);
    const context = this.#context.filter((c) => concerns(c.line, name)).map((c) => `${c.text}\n`);
    if (context.length > 0) this.#session.write(name, Buffer.from(context.join("")));
    return host;
  }

  /** Lines are gathered for as long as a chunk of input lasts: one write a host, not one a record. */
  #send(name: string, text: string): void {
    const host = this.#hosts.get(name)!;
    if (host.gathered.length === 0) this.#gathering.push(name);
    host.gathered.push(text);
  }

  #sendGathered(): void {
    for (const name of this.#gathering.splice(0)) {
      const host = this.#hosts.get(name)!;
      this.#session.write(name, Buffer.from(`${host.gathered.join("\n")}\n`));
      host.gathered = [];
    }
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
    for (const raw of host.splitter.push(bytes)) this.#back(name, host, raw);
  }

  /** A line that a host put out. */
  #back(name: string, host: HostRun, raw: RawLine): void {
    if (raw.text === "") return;
    let line: Line;
    try {
      line = JSON.parse(raw.text);
      if (typeof line?.kind !== "string" || typeof line.id !== "string") throw new Error();
    } catch {
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
          raw: raw.text.slice(0, 4096),
          error,
        }),
      );
      return;
    }
    if (line.kind === "end") return;
    const travel = travelOf(line);
    if (travel === "context" && this.#contextKeys.has(`${line.kind}\0${line.id}`)) return;
    if (travel !== "report") host.accounts.came(line);
    else if (line.kind === "error") this.#refusedThere(host, line);
    this.#writer.line(raw.text);
  }

  /** A record that the filter could not read: its error record stands for it. */
  #refusedThere(host: HostRun, error: Line): void {
    try {
      const refused = JSON.parse(String(error.raw)) as Line;
      if (typeof refused?.kind === "string" && typeof refused.id === "string") host.accounts.came(refused);
    } catch {
      // Cut or no JSON: then it comes out failed as well.
    }
  }

  #exit(name: string, how: HostExit): void {
    const host = this.#hosts.get(name)!;
    for (const raw of host.splitter.end()) this.#back(name, host, raw);
    for (const { text } of host.errors.end()) inform(`${name}: ${text}`);
    if (how.error || how.code !== 0) this.#failed = true;
    const error = how.error ?? ended(this.#invocation.rest[0]!, name, how);
    host.ended = error;
    for (const line of host.accounts.missing()) this.#fail(line, error);
    if (how.error) inform(how.error.message);
  }

  /** A record comes out failed; one that failed before keeps its first error. */
  #fail(line: Line, error: MtError): void {
    this.#failed = true;
    const first = line.state === "failed" && line.error ? line.error : { by: "mt-tree", ...error };
    this.#writer.line(JSON.stringify({ ...line, state: "failed", error: first }));
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

/** Whether context goes to a host: its `hosts` name it, or it has none. */
const concerns = (line: Line, host: string) => !Array.isArray(line.hosts) || line.hosts.includes(host);
