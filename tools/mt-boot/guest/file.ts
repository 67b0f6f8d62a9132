/**
 * A file of a guest, read or written in chunks: by the agent's own file commands, or by programs of the guest where
 * the agent cannot open it. The agent first writes each handle that it gives to a state file, so on a full file
 * system it opens nothing, not even to read; a program needs no room for that.
 */
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import { type Agent, type GuestExit, type RunOptions, runInGuest } from "./agent.ts";

/** Under TCG 64 KiB to 256 KiB are fastest; the agent has a chunk in memory several times. */
export const CHUNK_BYTES = 128 * 1024;
const CALL_S = 60;
export const CLEAN_UP_S = 10;
export const OUTPUT_BYTES_MAX = 4096;

export interface CopyLimits {
  /** Date.now() when it must be done. */
  end: number;
  signal: AbortSignal;
}

export interface GuestReader {
  /** The next chunk; `eof` with the last one, which may be empty. */
  read(): Promise<Result<{ chunk: Buffer; eof: boolean }, MtError>>;
  close(): Promise<void>;
}

export interface GuestWriter {
  write(bytes: Buffer): Promise<Result<void, MtError>>;
  /** Writes what is buffered: a full disk shows here. */
  flush(): Promise<Result<void, MtError>>;
  close(): Promise<void>;
}

/** Opens a regular file that the guest's programs can read. */
export async function openForReading(
  agent: Agent,
  path: string,
  limits: CopyLimits,
): Promise<Result<GuestReader, MtError>> {
  const opened = await call(agent, "guest-file-open", { path, mode: "r" }, limits);
  if (opened.isErr())
    return isRefused(opened.error) ? ok(readByProgram(agent, path, limits)) : err(opened.error);
  const handle = opened.value as number;
  return ok({
    read: async () =>
      (await call(agent, "guest-file-read", { handle, count: CHUNK_BYTES }, limits)).map((value) => {
        const { "buf-b64": data, eof } = value as { "buf-b64": string; eof: boolean };
        return { chunk: Buffer.from(data, "base64"), eof };
      }),
    close: () => closeHandle(agent, handle),
  });
}

/** Opens an existing, empty file for writing. */
export async function openForWriting(
  agent: Agent,
  path: string,
  limits: CopyLimits,
): Promise<Result<GuestWriter, MtError>> {
  const opened = await call(agent, "guest-file-open", { path, mode: "w" }, limits);
  if (opened.isErr())
    return isRefused(opened.error) ? ok(writeByProgram(agent, path, limits)) : err(opened.error);
  const handle = opened.value as number;
  return ok({
    write: async (bytes) => {
      for (let at = 0; at < bytes.length; ) {
        const data = bytes.subarray(at).toString("base64");
        const written = await call(agent, "guest-file-write", { handle, "buf-b64": data }, limits);
        if (written.isErr()) return err(written.error);
        at += (written.value as { count: number }).count;
      }
      return ok(undefined);
    },
    flush: async () => (await call(agent, "guest-file-flush", { handle }, limits)).map(() => undefined),
    close: () => closeHandle(agent, handle),
  });
}

/** Whether the agent answered, with an error. */
const isRefused = (error: MtError) => error.code === "failed";

async function closeHandle(agent: Agent, handle: number): Promise<void> {
  await agent.call("guest-file-close", { handle }, CLEAN_UP_S);
}

function readByProgram(agent: Agent, path: string, limits: CopyLimits): GuestReader {
  let chunks = 0;
  return {
    read: async () => {
      // A block that is not full is the last one.
      const words = [`if=${path}`, `bs=${CHUNK_BYTES}`, `skip=${chunks++}`, "count=1", "iflag=fullblock"];
      const done = await run(agent, ["dd", ...words], limits, { output_bytes_max: CHUNK_BYTES });
      return done.map(({ stdout, stdout_base64 }) => {
        const chunk =
          stdout_base64 === undefined ? Buffer.from(stdout) : Buffer.from(stdout_base64, "base64");
        return { chunk, eof: chunk.length < CHUNK_BYTES };
      });
    },
    close: async () => {},
  };
}

function writeByProgram(agent: Agent, path: string, limits: CopyLimits): GuestWriter {
  return {
    write: async (bytes) => {
      const stdin_base64 = bytes.toString("base64");
      return (await script(agent, `exec cat >>"$1"`, [path], limits, { stdin_base64 })).map(() => undefined);
    },
    flush: async () => ok(undefined),
    close: async () => {},
  };
}

/** Runs a fixed script in the guest with arguments; an exit code other than 0 is an error with its last line of stderr. */
export const script = (
  agent: Agent,
  text: string,
  words: readonly string[],
  limits: CopyLimits,
  options: Partial<RunOptions> = {},
): Promise<Result<GuestExit, MtError>> => run(agent, ["sh", "-c", text, "sh", ...words], limits, options);

async function run(
  agent: Agent,
  argv: readonly string[],
  limits: CopyLimits,
  options: Partial<RunOptions>,
): Promise<Result<GuestExit, MtError>> {
  const left = leftS(limits);
  if (left.isErr()) return err(left.error);
  const done = await runInGuest(agent, argv, {
    timeout_s: left.value,
    output_bytes_max: OUTPUT_BYTES_MAX,
    signal: limits.signal,
    ...options,
  });
  if (done.isErr() || done.value.code === 0) return done;
  const { code, signal, stderr } = done.value;
  return fail("failed", stderr.trim().split("\n").pop() || `exit code ${code ?? signal}`);
}

/** One request to the agent, inside the limits. */
async function call(
  agent: Agent,
  command: string,
  args: object,
  limits: CopyLimits,
): Promise<Result<unknown, MtError>> {
  const left = leftS(limits);
  if (left.isErr()) return err(left.error);
  return agent.call(command, args, Math.min(left.value, CALL_S));
}

function leftS({ end, signal }: CopyLimits): Result<number, MtError> {
  if (signal.aborted) return fail("failed", "interrupted");
  const left_s = (end - Date.now()) / 1000;
  return left_s > 0 ? ok(left_s) : fail("timeout", "not done in its time", "--timeout gives it more");
}
