/**
 * mt-tree map where no tree is up: the command runs on this host; on every other one it ends at once, because nobody
 * is there to run it. With --reduce the reducer takes what the command puts out, and its own output counts.
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

/** After the command has ended, how long what it left behind may hold its output open and say nothing. */
const OUTPUT_GRACE_MS = 500;

/** The host that a command acts for when it runs here: one of our tools may be told by --host. */
export function hostHere(command: readonly string[]): string {
  const [first = "", ...words] = command;
  const usual = process.env.MT_HOST || hostname();
  if (!/(^|\/)mt(-[a-z]+)?$/.test(first)) return usual;
  const own = words.includes("--") ? words.slice(0, words.indexOf("--")) : words;
  const at = own.findIndex((word) => word === "--host" || word.startsWith("--host="));
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

  /** @param reduce a shell line that takes what the command puts out */
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
    const [program = "", ...words] = resolveArgv(this.#command);
    const env = cleanEnv();
    const filter = spawn(program, words, { stdio: "pipe", env });
    this.#running = true;
    this.#children = [filter];
    // One that closes its stdin takes no more: what still comes for it is thrown away.
    filter.stdin?.on("error", () => {});
    let last = filter;
    if (this.#reduce !== undefined) {
      const reducer = spawn("/bin/sh", ["-c", this.#reduce], { stdio: "pipe", env });
      reducer.stdin?.on("error", () => {});
      // The filter is not to wait for a reducer that has gone.
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
    // Ours is not handed to it: others share it, and whoever runs there may change its flags.
    for (const child of this.#children)
      child.stderr?.on("data", (bytes: Buffer) => {
        quiet = false;
        try {
          writeAll(2, bytes);
        } catch {
          // Nobody listens.
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

  /** Once it was killed: when it has ended. */
  async ended(): Promise<void> {
    await waitFor(() => (this.#running ? undefined : true), (KILL_GRACE_MS + 2 * OUTPUT_GRACE_MS) / 1000, 20);
  }

  giveUp(error: MtError): void {
    this.#end({ error });
  }
}

/** When a process has ended, and all that it put out is here. */
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
