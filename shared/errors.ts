/**
 * What can go wrong in normal life, as a value, and the one map from it to an exit code.
 * Codes are sysexits by name; scripts read the number, records carry the name.
 */
import { err, type Result } from "neverthrow";

/** Exit codes, the same in every tool; a code that is not here is a failure too. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 64,
  data: 65,
  unavailable: 69,
  bug: 70,
  io: 74,
  busy: 75,
  permission: 77,
  sigint: 130,
  sigterm: 143,
} as const;

/** The names that `error.code` takes. `timeout` and `lost` are failures of one record: exit 1. */
export const ERROR_CODES = [
  "failed",
  "usage",
  "data",
  "unavailable",
  "bug",
  "io",
  "busy",
  "permission",
  "timeout",
  "lost",
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

/** An error as it stands on a record and on stderr: "Cannot <verb> <object>: <state>", and what to do. */
export interface MtError {
  by?: string;
  code: ErrorCode;
  message: string;
  hint?: string;
}

export function mtError(code: ErrorCode, message: string, hint?: string): MtError {
  return hint === undefined ? { code, message } : { code, message, hint };
}

/** `err(mtError(…))`, the way every function here says that it failed. */
export function fail<T = never>(code: ErrorCode, message: string, hint?: string): Result<T, MtError> {
  return err(mtError(code, message, hint));
}

/** The exit code of a tool that ends with this error. */
export function exitCodeOf(code: ErrorCode): number {
  return code === "timeout" || code === "lost" ? EXIT.failed : EXIT[code];
}

/** A thrown MtError, for where a Result cannot travel: out of an event handler or a promise. */
export class MtFailure extends Error {
  readonly error: MtError;
  constructor(error: MtError) {
    super(error.message);
    this.error = error;
  }
}

/** The MtError in whatever was thrown; errno codes keep their meaning, all else is a bug. */
export function toMtError(thrown: unknown): MtError {
  if (thrown instanceof MtFailure) return thrown.error;
  const e = thrown as NodeJS.ErrnoException;
  const text = textOf(thrown);
  switch (e?.code) {
    case "ENOSPC":
    case "EDQUOT":
      return mtError(
        "io",
        `Cannot write ${e.path ?? "a file"}: the disk is full`,
        "free some space where MT_RUN and MT_STATE are (df tells), then run it again",
      );
    case "SQLITE_FULL":
      return mtError(
        "io",
        `Cannot write to a database: the disk is full`,
        "free some space, then run it again",
      );
    case "SQLITE_BUSY":
      return mtError("busy", "Cannot write to a database: another process holds it", "try again");
    case "EROFS":
    case "SQLITE_READONLY":
    case "SQLITE_CANTOPEN":
      return mtError(
        "io",
        `Cannot write ${e.path ?? "a database"}: ${e.code === "EROFS" ? "the file system is read-only" : text}`,
        "set MT_RUN and MT_STATE to directories that can be written",
      );
    case "EIO":
    case "SQLITE_IOERR":
      return mtError("io", text);
    case "EACCES":
    case "EPERM":
      return mtError("permission", text, "run it as root");
    case "ENOTDIR":
      return mtError(
        "data",
        e.path ? `Cannot use ${e.path}: a part of it is no directory` : text,
        "MT_RUN and MT_STATE are directories, or can be made?",
      );
    case "ENOENT":
    case "EISDIR":
      return mtError("data", text);
    default:
      return mtError("bug", e instanceof Error ? (e.stack ?? text) : text);
  }
}

/** In words, whatever it is: what is thrown may be cyclic, or have no prototype. */
function textOf(thrown: unknown): string {
  if (thrown instanceof Error) return thrown.message;
  try {
    return typeof thrown === "object" ? JSON.stringify(thrown) : String(thrown);
  } catch {
    return "something that cannot be shown was thrown";
  }
}

/** Unwraps a Result where failing is the caller's failure too. */
export function orThrow<T>(result: Result<T, MtError>): T {
  if (result.isErr()) throw new MtFailure(result.error);
  return result.value;
}
