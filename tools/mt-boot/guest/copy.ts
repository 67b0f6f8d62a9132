/**
 * Copies a file into a guest or out of it, over its agent: under a temporary name, checked by length and SHA-256,
 * then renamed, so that it is there whole or not at all. Paths are arguments of the scripts below, never part of them.
 */
import { createHash, randomBytes } from "node:crypto";
import { type FileHandle, mkdir, open, rename, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError, mtError } from "../../../shared/errors.ts";
import type { CopyFile } from "../protocol.ts";
import { type Agent, runInGuest, STARTED_ANEW } from "./agent.ts";
import {
  CHUNK_BYTES,
  CLEAN_UP_S,
  type CopyLimits,
  OUTPUT_BYTES_MAX,
  openForReading,
  openForWriting,
  script,
} from "./file.ts";

/** A file that changed while it was read is read once more. */
const READS_MAX = 2;

const DIRECTORY = `[ ! -d "$2" ] || { echo "it is a directory (end it with / to copy into it)" >&2; exit 1; }`;
/** Makes an empty file that only its owner can read, before the first byte is written. */
const MAKE_PRIVATE = `${DIRECTORY}
umask 077
: >"$1"`;
/** Checks the digest, or the length where the guest has no sha256sum, and renames. */
const FINISH = `chmod "$3" "$1" || exit 1
if command -v sha256sum >/dev/null; then
  sum=$(sha256sum <"$1") || exit 1
  [ "\${sum%% *}" = "$4" ] || { echo "what arrived has another SHA-256" >&2; exit 1; }
else
  [ "$(wc -c <"$1")" -eq "$5" ] || { echo "what arrived is not $5 bytes long" >&2; exit 1; }
fi
${DIRECTORY}
exec mv -f "$1" "$2"`;
/** Prints the mode in octal; refuses a pipe or a device, which would block the agent. */
const LOOK = `[ -e "$1" ] || { echo "no such file" >&2; exit 1; }
[ -f "$1" ] || { echo "it is no regular file" >&2; exit 1; }
[ -r "$1" ] || { echo "permission denied" >&2; exit 1; }
stat -L -c %a "$1" 2>/dev/null || echo 644`;
/** The digest of as many bytes as were read: a log may have grown since. */
const DIGEST = `command -v sha256sum >/dev/null || exit 0
head -c "$2" <"$1" | sha256sum`;

/** Copies a file of this host to a path in the guest; gives its bytes. Errors name the file, not the guest. */
export async function copyIn(
  agent: Agent,
  { from, to }: CopyFile,
  limits: CopyLimits,
): Promise<Result<number, MtError>> {
  const what = `copy ${from}`;
  let file: FileHandle;
  try {
    file = await open(from, "r");
  } catch (thrown) {
    return hostError(what, from, thrown);
  }
  const temporary = `${dirname(to) === "/" ? "" : dirname(to)}/.mt-${randomBytes(8).toString("hex")}`;
  let made = false;
  try {
    const mode = (await file.stat()).mode & 0o7777;
    const empty = await script(agent, MAKE_PRIVATE, [temporary, to], limits);
    made = empty.isOk() || empty.error.code !== "failed";
    if (empty.isErr()) return named(`${what} to {id}:${to}`, empty.error);
    const sent = await send(agent, file, temporary, limits);
    if (sent.isErr()) return named(`${what} to {id}:${to}`, sent.error);
    const { bytes, digest } = sent.value;
    const words = [temporary, to, mode.toString(8), digest, String(bytes)];
    const finished = await script(agent, FINISH, words, limits);
    if (finished.isErr()) return named(`${what} to {id}:${to}`, finished.error);
    made = false;
    return ok(bytes);
  } catch (thrown) {
    return hostError(what, from, thrown);
  } finally {
    await file.close();
    if (made)
      await runInGuest(agent, ["rm", "-f", temporary], {
        timeout_s: CLEAN_UP_S,
        output_bytes_max: OUTPUT_BYTES_MAX,
      });
  }
}

async function send(
  agent: Agent,
  file: FileHandle,
  path: string,
  limits: CopyLimits,
): Promise<Result<{ bytes: number; digest: string }, MtError>> {
  const opened = await openForWriting(agent, path, limits);
  if (opened.isErr()) return err(opened.error);
  const guest_file = opened.value;
  const hash = createHash("sha256");
  const chunk = Buffer.alloc(CHUNK_BYTES);
  let bytes = 0;
  try {
    for (;;) {
      const { bytesRead } = await file.read(chunk, 0, CHUNK_BYTES, bytes);
      if (bytesRead === 0) break;
      hash.update(chunk.subarray(0, bytesRead));
      const written = await guest_file.write(chunk.subarray(0, bytesRead));
      if (written.isErr()) return err(written.error);
      bytes += bytesRead;
    }
    const flushed = await guest_file.flush();
    if (flushed.isErr()) return err(flushed.error);
  } finally {
    await guest_file.close();
  }
  return ok({ bytes, digest: hash.digest("hex") });
}

/** Copies a file of the guest to a path of this host, whose directory is made; gives its bytes. */
export async function copyOut(
  agent: Agent,
  { from, to }: CopyFile,
  limits: CopyLimits,
): Promise<Result<number, MtError>> {
  const what = `copy {id}:${from}`;
  const looked = await script(agent, LOOK, [from], limits);
  if (looked.isErr()) return named(what, looked.error);
  const mode = Number.parseInt(looked.value.stdout, 8) & 0o777;
  const dir = dirname(to);
  let new_dir: string | undefined;
  const temporary = join(dir, `.mt-${randomBytes(8).toString("hex")}`);
  let file: FileHandle | undefined;
  try {
    new_dir = await mkdir(dir, { recursive: true });
    file = await open(temporary, "wx", 0o600);
    for (let reads = 1; ; reads++) {
      await file.truncate(0);
      const received = await receive(agent, from, file, limits);
      if (received.isErr()) return named(what, received.error);
      const { bytes, digest } = received.value;
      const summed = await script(agent, DIGEST, [from, String(bytes)], limits);
      if (summed.isErr()) return named(what, summed.error);
      const sum = summed.value.stdout.split(" ")[0];
      if (sum !== "" && sum !== digest) {
        if (reads < READS_MAX) continue;
        return fail(
          "failed",
          `Cannot ${what}: what arrived has another SHA-256, it changes while it is read`,
          "mt-boot exec -- cat shows it as it is at one time",
        );
      }
      await file.chmod(mode);
      await file.close();
      file = undefined;
      await rename(temporary, to);
      new_dir = undefined;
      return ok(bytes);
    }
  } catch (thrown) {
    return hostError(what, to, thrown);
  } finally {
    await file?.close().catch(() => {});
    await rm(temporary, { force: true }).catch(() => {});
    // A directory that was made for this file is removed, unless another file is in it.
    if (new_dir !== undefined) await rmdir(dir).catch(() => {});
  }
}

async function receive(
  agent: Agent,
  path: string,
  file: FileHandle,
  limits: CopyLimits,
): Promise<Result<{ bytes: number; digest: string }, MtError>> {
  const opened = await openForReading(agent, path, limits);
  if (opened.isErr()) return err(opened.error);
  const guest_file = opened.value;
  const hash = createHash("sha256");
  let bytes = 0;
  try {
    for (;;) {
      const read = await guest_file.read();
      if (read.isErr()) return err(read.error);
      const { chunk, eof } = read.value;
      hash.update(chunk);
      for (let at = 0; at < chunk.length; )
        at += (await file.write(chunk, at, chunk.length - at, bytes + at)).bytesWritten;
      bytes += chunk.length;
      if (eof) break;
    }
  } finally {
    await guest_file.close();
  }
  return ok({ bytes, digest: hash.digest("hex") });
}

/** Messages of the agent and the shell end with the reason: "sh: can't create /x/y: nonexistent directory". */
function named(what: string, error: MtError): Result<never, MtError> {
  const why = error.message
    .replace(/^Cannot (?:run sh|ask the guest agent to \S+): /, "")
    .replace(/^(?:failed to|sh: (?:line \d+: )?can't create) .*: /, "")
    .replace(/^cat: (?:write error: )?/, "");
  const small = error.code === "lost" && error.message === STARTED_ANEW;
  const hint = small ? "the guest may have too little memory for it" : error.hint;
  return err(mtError(error.code, `Cannot ${what}: ${why}`, hint));
}

/** An error of this host's file system. */
function hostError(what: string, path: string, thrown: unknown): Result<never, MtError> {
  const { code, message } = thrown as NodeJS.ErrnoException;
  if (code === "ENOSPC" || code === "EDQUOT")
    return err(mtError("io", `Cannot ${what}: no space left for ${path}`, "free some, or copy elsewhere"));
  if (code === "EACCES" || code === "EPERM")
    return err(mtError("permission", `Cannot ${what}: no permission for ${path}`));
  if (code === "EROFS" || code === "EIO") return err(mtError("io", `Cannot ${what}: ${path}: ${message}`));
  if (code === undefined) throw thrown;
  return err(mtError("failed", `Cannot ${what}: ${path}: ${message.split(",")[0]}`));
}
