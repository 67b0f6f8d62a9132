/**
 * The guest agent's protocol (qemu-ga) over the host side of its virtio-serial port: one request at a time, its
 * answer in one line. After a timeout `guest-sync-delimited` brings us into step again: its answer begins with 0xFF
 * and carries our number, whatever stands in the line before it.
 */
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import { printed } from "../../../shared/records/output.ts";
import { openLines } from "../machine/lines.ts";

/** Bytes wait in the socket until the guest opens its port; an agent that was started anew has lost the request. */
const SYNC_AGAIN_MS = 15_000;
/** While an answer is awaited, a sync is sent after the request: an answer to that alone shows that the request was lost. */
const PROBE_MS = 3_000;
/** Each question costs a guest under translation some milliseconds of processor time. */
const POLL_MS_MIN = 20;
const POLL_MS_MAX = 500;

/** The error's message where a request was lost because the agent was started anew. */
export const STARTED_ANEW = "its agent was started anew";

/** Whether the agent answers, as the heartbeat needs it. */
export interface Pulse {
  /** No request is under way or queued. */
  idle: boolean;
  /** When it last answered; at first, when we connected. */
  heard_at: number;
  /** When the oldest request without an answer was sent; absent: none waits for an answer. */
  unanswered_since?: number;
}

export interface Agent {
  pulse(): Pulse;
  /** Waits until the agent answers. */
  sync(timeout_s: number): Promise<Result<void, MtError>>;
  call(command: string, args?: object, timeout_s?: number): Promise<Result<unknown, MtError>>;
  close(): void;
}

interface AgentLine {
  /** The request's. The answer to a line that the agent could not parse has none. */
  id?: number;
  return?: unknown;
  error?: { class?: string; desc?: string };
}

/** Connects to the host side of the port; `sync` tells whether the guest's agent answers. */
export async function openAgent(
  path: string,
  options: { timeout_s: number; onClose?: () => void; given_up?: () => boolean },
): Promise<Result<Agent, MtError>> {
  let open = true;
  let synced = false;
  let take: ((line: AgentLine | undefined, delimited: boolean) => void) | undefined;
  const sync_ids = new Set<number>();
  let queued = 0;
  let heard_at = Date.now();
  let unanswered_since: number | undefined;
  const heard = () => {
    heard_at = Date.now();
    unanswered_since = undefined;
  };
  const opened = await openLines(
    path,
    {
      onLine(bytes) {
        const mark = bytes.lastIndexOf(0xff);
        let line: AgentLine;
        try {
          line = JSON.parse(bytes.subarray(mark + 1).toString()) as AgentLine;
        } catch {
          return;
        }
        take?.(line, mark >= 0);
      },
      onClose() {
        open = false;
        take?.(undefined, false);
        options.onClose?.();
      },
    },
    options.timeout_s,
    options.given_up,
  );
  if (opened.isErr()) return err(opened.error);
  const socket = opened.value;
  socket.read(false);
  const send = (request: object) => {
    unanswered_since ??= Date.now();
    socket.send(`${JSON.stringify(request)}\n`);
  };
  const gone = <T>(what: string) =>
    fail<T>("lost", `Cannot ask the guest agent to ${what}: its guest has gone`);

  const syncNow = (timeout_s: number): Promise<Result<void, MtError>> =>
    new Promise((resolve) => {
      if (!open) return resolve(gone("answer"));
      sync_ids.clear();
      const ask = () => {
        const id = 1 + Math.floor(Math.random() * 2 ** 30);
        sync_ids.add(id);
        // 0xFF first: it makes the agent drop a request that it has read half of.
        socket.send(Buffer.from([0xff]));
        send({ execute: "guest-sync-delimited", arguments: { id } });
      };
      const finish = (result: Result<void, MtError>) => {
        clearTimeout(timer);
        clearInterval(again);
        take = undefined;
        synced = result.isOk();
        resolve(result);
      };
      const timer = setTimeout(
        () => finish(fail("timeout", `Cannot reach the guest agent: no answer in ${timeout_s} s`)),
        timeout_s * 1000,
      );
      const again = setInterval(ask, SYNC_AGAIN_MS);
      take = (line, delimited) => {
        if (line === undefined) finish(gone("answer"));
        else if (delimited && typeof line.return === "number" && sync_ids.has(line.return)) {
          heard();
          finish(ok(undefined));
        }
      };
      ask();
    });

  const callNow = (
    command: string,
    args: object | undefined,
    timeout_s: number,
  ): Promise<Result<unknown, MtError>> =>
    new Promise((resolve) => {
      if (!open) return resolve(gone(command));
      const finish = (result: Result<unknown, MtError>) => {
        clearTimeout(timer);
        clearInterval(probing);
        take = undefined;
        resolve(result);
      };
      const probes = new Set<number>();
      // Answers come in the order of requests: an answer to this one, and none to ours, means that ours was lost.
      const probing = setInterval(() => {
        const id = 1 + Math.floor(Math.random() * 2 ** 30);
        probes.add(id);
        send({ execute: "guest-sync-delimited", arguments: { id } });
      }, PROBE_MS);
      const request_id = next_id++;
      const timer = setTimeout(() => {
        synced = false;
        finish(fail("timeout", `Cannot ask the guest agent to ${command}: no answer in ${timeout_s} s`));
      }, timeout_s * 1000);
      take = (line, delimited) => {
        if (line === undefined) return finish(gone(command));
        // An answer to a request that we gave up, or the agent's error about the 0xFF of a sync.
        if (line.id === undefined ? line.error !== undefined : line.id !== request_id) return;
        heard();
        // A delimited line answers a sync; it may be a late answer to one that was sent twice or given up.
        if (delimited) {
          if (probes.has(line.return as number)) finish(fail("lost", STARTED_ANEW));
        } else if (line.error) finish(fail("failed", line.error.desc ?? JSON.stringify(line.error)));
        else finish(ok(line.return));
      };
      send({ execute: command, ...(args === undefined ? {} : { arguments: args }), id: request_id });
    });

  let next_id = 1;
  let last: Promise<unknown> = Promise.resolve();
  /** One request at a time; nothing is read while no request is under way. */
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    queued++;
    const mine = last.then(async () => {
      socket.read(true);
      try {
        return await work();
      } finally {
        queued--;
        socket.read(false);
      }
    });
    last = mine;
    return mine;
  };
  return ok({
    pulse: () => ({
      idle: queued === 0,
      heard_at,
      ...(unanswered_since === undefined ? {} : { unanswered_since }),
    }),
    sync: (timeout_s) => inTurn(() => syncNow(timeout_s)),
    call: (command, args, timeout_s = 30) =>
      inTurn(async () => {
        if (!synced) {
          const again = await syncNow(timeout_s);
          if (again.isErr()) return again;
        }
        return callNow(command, args, timeout_s);
      }),
    close: socket.close,
  });
}

/** What a command in a guest did. */
export interface GuestExit {
  code?: number;
  signal?: string;
  stdout: string;
  stderr: string;
  /** The bytes, where they are not valid UTF-8. */
  stdout_base64?: string;
  stderr_base64?: string;
  truncated: boolean;
}

interface ExecStatus {
  exited: boolean;
  exitcode?: number;
  signal?: number;
  "out-data"?: string;
  "err-data"?: string;
  "out-truncated"?: boolean;
  "err-truncated"?: boolean;
}

/** The agent keeps up to 16 MiB of each stream in the guest's memory, and needs more than that again to send it. */
const TOO_MUCH =
  "where the command prints very much: redirect it into a file in the guest, and read that in parts";

export interface RunOptions {
  timeout_s: number;
  /** Of each of stdout and stderr; the rest is cut. */
  output_bytes_max: number;
  signal?: AbortSignal;
  /** Runs it in a session of its own, so that what it started is killed with it when time runs out. */
  session?: boolean;
  /** What it gets on its stdin. */
  stdin_base64?: string;
}

/** Runs a program, found by the agent on its PATH, in the guest to its end; kills it there when time runs out. */
export async function runInGuest(
  agent: Agent,
  argv: readonly string[],
  options: RunOptions,
): Promise<Result<GuestExit, MtError>> {
  const end = Date.now() + options.timeout_s * 1000;
  const left_s = () => Math.max(0.1, (end - Date.now()) / 1000);
  const start = (words: readonly string[]) =>
    agent.call(
      "guest-exec",
      {
        path: words[0],
        arg: words.slice(1),
        "capture-output": true,
        ...(options.stdin_base64 === undefined ? {} : { "input-data": options.stdin_base64 }),
      },
      left_s(),
    );
  let in_session = options.session === true;
  let started = await start(in_session ? ["setsid", "--", ...argv] : argv);
  // A guest without setsid.
  if (in_session && started.isErr() && started.error.code === "failed") {
    in_session = false;
    started = await start(argv);
  }
  if (started.isErr()) {
    const { error } = started;
    return err(
      error.code === "failed" ? { ...error, message: `Cannot run ${argv[0]}: ${error.message}` } : error,
    );
  }
  const { pid } = started.value as { pid: number };
  for (let pause_ms = POLL_MS_MIN; ; pause_ms = Math.min(pause_ms * 2.5, POLL_MS_MAX)) {
    await new Promise((resolve) => setTimeout(resolve, Math.min(pause_ms, left_s() * 1000)));
    const asked = await agent.call("guest-exec-status", { pid }, Math.max(left_s(), 5));
    if (asked.isErr()) return err(unheard(argv[0]!, asked.error));
    const status = asked.value as ExecStatus;
    if (status.exited) {
      const done = exitOf(status, options.output_bytes_max);
      const missing = in_session ? notStarted(argv[0]!, done) : undefined;
      return missing === undefined
        ? ok(done)
        : fail(
            "failed",
            `Cannot run ${argv[0]}: Guest agent command failed, error was 'Failed to execute child process “${argv[0]}” (${missing})'`,
          );
    }
    if (Date.now() < end && !options.signal?.aborted) continue;
    // Best effort: a guest that does not answer cannot be made to end the program.
    const whom = in_session ? ["--", `-${pid}`] : [String(pid)];
    await agent.call("guest-exec", { path: "kill", arg: ["-KILL", ...whom] }, 5);
    return options.signal?.aborted
      ? fail("failed", `Cannot run ${argv[0]}: interrupted`)
      : fail("timeout", `Cannot run ${argv[0]}: no end in ${options.timeout_s} s`);
  }
}

/** Why setsid could not start the program, as busybox or util-linux says it; undefined where it could. */
function notStarted(program: string, { code, stdout, stderr }: GuestExit): string | undefined {
  if ((code !== 126 && code !== 127) || stdout !== "") return undefined;
  for (const begin of [`setsid: can't execute '${program}': `, `setsid: failed to execute ${program}: `])
    if (stderr.startsWith(begin)) return stderr.slice(begin.length).trim();
  return undefined;
}

/** The error where a program was started, and its result cannot be had. */
function unheard(program: string, error: MtError): MtError {
  if (error.code === "lost" && error.message === STARTED_ANEW)
    return {
      code: "failed",
      message: `Cannot run ${program}: its output is too large for the guest's agent, which died of it`,
      hint: "redirect it into a file in the guest, and read that in parts",
    };
  return error.code === "timeout"
    ? { ...error, message: `Cannot run ${program}: ${error.message}`, hint: TOO_MUCH }
    : error;
}

function exitOf(status: ExecStatus, bytes_max: number): GuestExit {
  let truncated = false;
  const cut = (stream: "stdout" | "stderr", data: string | undefined, was_cut: boolean | undefined) => {
    const bytes = Buffer.from(data ?? "", "base64");
    const is_cut = was_cut === true || bytes.length > bytes_max;
    truncated ||= is_cut;
    return printed(stream, bytes.subarray(0, bytes_max), is_cut);
  };
  const out = cut("stdout", status["out-data"], status["out-truncated"]);
  const err = cut("stderr", status["err-data"], status["err-truncated"]);
  return {
    ...(status.exitcode === undefined ? {} : { code: status.exitcode }),
    ...(status.signal === undefined ? {} : { signal: String(status.signal) }),
    stdout: "",
    stderr: "",
    ...out,
    ...err,
    truncated,
  };
}
