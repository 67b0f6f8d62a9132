/**
 * mt-tree map where no tree is up: the command runs on this host; for every other host it ends at once with an error.
 * With --reduce the reducer reads the command's output, and the reducer's output is the result.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { hostname } from "node:os";
import { warn } from "../../../shared/cli/stderr.ts";
import { type MtError, mtError } from "../../../shared/errors.ts";
import { cleanEnv, waitFor } from "../../../shared/host/process.ts";
import { noTree } from "../../../shared/no-tree.ts";
import { writeAll } from "../../../shared/stream/writer.ts";
import { type CommandEnd, cannotRun, KILL_GRACE_MS, resolveArgv } from "../node/command.ts";
import type { CommandSession, SessionEvents } from "../session/session.ts";

/** How long processes that the command left behind may keep its output open, silent, after it has ended. */
const OUTPUT_GRACE_MS = 500;

/** The host for which a command acts when it runs here; for our own tools --host may say so. */
export function hostHere(command: readonly string[]): string {
  const [first = "", ...args] = command;
  const usual = process.env.MT_HOST || hostname();
  if (!/(^|\/)mt(-[a-z]+)?$/.test(first)) return usual;
  const own = args.includes("--") ? args.slice(0, args.indexOf("--")) : args;
  const at = own.findIndex((arg) => arg === "--host" || arg.startsWith("--host="));
  if (at < 0) return usual;
  return (own[at] === "--host" ? own[at + 1] : own[at]!.slice("--host=".length)) || usual;
}

export class HereSession implements CommandSession {
  readonly host: string;
  readonly #command: readonly string[];
  readonly #reduce: string | undefined;
  readonly #events: SessionEvents;
  #children: ChildProcess[] = [];
  #queued = 0;
  #running = false;

  /** @param reduce a shell line that reads the command's output */
  constructor(command: readonly string[], reduce: string | undefined, events: SessionEvents) {
    this.host = hostHere(command);
    this.#command = command;
    this.#reduce = reduce;
    this.#events = events;
  }

  get running(): string[] {
    return this.#running ? [this.host] : [];
  }

  get backlog() {
    return { most: this.#queued, all: this.#queued };
  }

  run(hosts: string[]): void {
    for (const host of hosts)
      if (host === this.host) this.#start();
      else this.#events.exit(host, { error: noTree(`host ${host}`) });
  }

  #start(): void {
    const [program = "", ...args] = resolveArgv(this.#command);
    const env = cleanEnv();
    const filter = spawn(program, args, { stdio: "pipe", env });
    this.#running = true;
    this.#children = [filter];
    // It may close its stdin: what still comes is dropped.
    filter.stdin?.on("error", () => {});
    let last = filter;
    if (this.#reduce !== undefined) {
      const reducer = spawn("/bin/sh", ["-c", this.#reduce], { stdio: "pipe", env });
      reducer.stdin?.on("error", () => {});
      // The filter must not wait for a reducer that has ended.
      reducer.on("exit", () => filter.stdout?.destroy());
      if (filter.stdout && reducer.stdin) filter.stdout.pipe(reducer.stdin);
      this.#children.push(reducer);
      last = reducer;
    }
    let quiet = true;
    last.stdout?.on("data", (bytes: Buffer) => {
      quiet = false;
      if (this.#running) this.#events.output(this.host, 1, bytes);
    });
    // Children do not get our own stderr: others share it, and a child may change its flags.
    for (const child of this.#children)
      child.stderr?.on("data", (bytes: Buffer) => {
        quiet = false;
        try {
          writeAll(2, bytes);
        } catch {
          // stderr is closed.
        }
      });
    const isQuiet = () => {
      const was = quiet;
      quiet = true;
      return was;
    };
    void Promise.all(
      this.#children.map((child) => ended(child, child === filter ? this.#command[0]! : "/bin/sh", isQuiet)),
    ).then(([how, reduced]) => {
      const ok = reduced === undefined || reduced.code === 0;
      if (how!.code !== 0 || ok) return this.#end(how!);
      const way = reduced.signal ? `was ended by ${reduced.signal}` : `ended with exit code ${reduced.code}`;
      this.#end({ error: reduced.error ?? mtError("failed", `Cannot reduce: /bin/sh ${way}`) });
    });
  }

  #end(how: CommandEnd): void {
    if (!this.#running) return;
    this.#running = false;
    this.#queued = 0;
    if (how.error) warn(how.error);
    this.#events.exit(this.host, how);
    this.#events.drain?.();
  }

  write(_host: string, bytes: Buffer): void {
    const input = this.#children[0]?.stdin;
    if (!this.#running || !input?.writable) return;
    this.#queued += bytes.length;
    input.write(bytes, () => {
      this.#queued = Math.max(0, this.#queued - bytes.length);
      this.#events.drain?.();
    });
  }

  end(): void {
    this.#children[0]?.stdin?.end();
  }

  kill(signal: NodeJS.Signals): void {
    const children = this.#children;
    for (const child of children) child.kill(signal);
    if (signal === "SIGTERM")
      setTimeout(() => void children.map((child) => child.kill("SIGKILL")), KILL_GRACE_MS).unref();
  }

  /** Waits until it has ended, after `kill`. */
  async ended(): Promise<void> {
    await waitFor(() => (this.#running ? undefined : true), (KILL_GRACE_MS + 2 * OUTPUT_GRACE_MS) / 1000, 20);
  }

  giveUp(error: MtError): void {
    this.#end({ error });
  }
}

/** How a process ended, once all of its output is here. */
function ended(child: ChildProcess, name: string, isQuiet: () => boolean): Promise<CommandEnd> {
  return new Promise((resolve) => {
    child.on("error", (e: NodeJS.ErrnoException) => {
      if (child.pid === undefined) resolve({ error: cannotRun(name, undefined, e) });
    });
    child.on("exit", (code, signal) => {
      const done = () => {
        clearInterval(grace);
        resolve({ code: code ?? undefined, signal: signal ?? undefined });
      };
      isQuiet();
      const grace = setInterval(() => {
        if (isQuiet()) done();
      }, OUTPUT_GRACE_MS);
      child.on("close", done);
    });
  });
}
