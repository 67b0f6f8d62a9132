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

/** What an errno says of a file, what it means for the exit code, and what to do. */
const OF_FILES: Readonly<Record<string, readonly [ErrorCode, state: string, hint?: string]>> = {
  ENOSPC: ["io", "the disk is full", "free some space there, then run it again"],
  EDQUOT: ["io", "the quota there is used up", "free some space there, then run it again"],
  EFBIG: ["io", "it would be larger than a file may be here", "ulimit -f tells the limit"],
  EROFS: ["io", "the file system is read-only", "set MT_RUN and MT_STATE to directories that can be written"],
  EIO: ["io", "the device failed"],
  EACCES: ["permission", "permission denied", "run it as root"],
  EPERM: ["permission", "not permitted", "run it as root"],
  ENOTDIR: ["data", "a part of it is no directory", "MT_RUN and MT_STATE are directories, or can be made?"],
  ENOENT: ["data", "no such file or directory"],
  EISDIR: ["data", "it is a directory"],
  ELOOP: ["data", "too many links on the way"],
  ENAMETOOLONG: ["data", "the name is too long"],
  EMFILE: ["io", "too many files are open", "ulimit -n tells the limit"],
  ENFILE: ["io", "too many files are open on this machine"],
};

/** What a call to the kernel was to do. */
const VERBS: Readonly<Record<string, string>> = {
  open: "open",
  read: "read",
  write: "write",
  mkdir: "make",
  mkdtemp: "make a directory as",
  symlink: "make",
  link: "make",
  unlink: "remove",
  rm: "remove",
  rmdir: "remove",
  rename: "rename",
  copyfile: "copy",
  scandir: "read",
  stat: "look at",
  lstat: "look at",
  chmod: "change",
  chown: "change",
  ftruncate: "write",
  fsync: "write",
};

/** "Cannot <verb> <object>: <state>" from an errno. One that says nothing of a file is told in the words of the kernel. */
export function cannot(verb: string, object: string, thrown: unknown): MtError {
  const [code, , hint] = OF_FILES[(thrown as NodeJS.ErrnoException)?.code ?? ""] ?? ["failed"];
  return mtError(code, `Cannot ${verb} ${object}: ${stateOf(thrown)}`, hint);
}

/** What an errno says, in our words where we have some. */
export function stateOf(thrown: unknown): string {
  const e = thrown as NodeJS.ErrnoException;
  return OF_FILES[e?.code ?? ""]?.[1] ?? e?.message ?? String(thrown);
}

/**
 * Does work on a file, or throws an error that names it: that of a write to a descriptor names none, and whoever reads
 * "the disk is full" needs to know which.
 */
export function onFile<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    throw naming(path, thrown);
  }
}

/** `onFile` for work that a promise stands for. */
export function onFileLater<T>(path: string, work: Promise<T>): Promise<T> {
  return work.catch((thrown) => {
    throw naming(path, thrown);
  });
}

/** What was thrown, with the file that it is about where it names none. */
export function naming(path: string, thrown: unknown): unknown {
  const e = thrown as NodeJS.ErrnoException;
  if (e instanceof Error && e.code !== undefined) e.path ??= path;
  return thrown;
}

/** The MtError in whatever was thrown; errno codes keep their meaning, all else is a bug. */
export function toMtError(thrown: unknown): MtError {
  if (thrown instanceof MtFailure) return thrown.error;
  const e = thrown as NodeJS.ErrnoException & { dest?: string };
  const text = textOf(thrown);
  const database = e?.path ?? "a database";
  // SQLITE_IOERR_WRITE is a kind of SQLITE_IOERR.
  switch (String(e?.code).match(/^SQLITE_[A-Z]+/)?.[0]) {
    case "SQLITE_FULL":
      return cannot("write", database, { code: "ENOSPC" });
    case "SQLITE_BUSY":
      return mtError("busy", `Cannot write ${database}: another process holds it`, "try again");
    case "SQLITE_READONLY":
    case "SQLITE_CANTOPEN":
      return mtError("io", `Cannot write ${database}: ${text}`, OF_FILES.EROFS![2]);
    case "SQLITE_IOERR":
      return mtError("io", `Cannot use ${database}: ${text}`);
  }
  if (e instanceof Error && OF_FILES[e.code ?? ""]) {
    // A full disk shows when something is made, whatever the call is named.
    const full = e.code === "ENOSPC" || e.code === "EDQUOT" || e.code === "EROFS";
    const verb = full ? "write" : (VERBS[e.syscall ?? ""] ?? "use");
    const object = e.dest ? (full ? e.dest : `${e.path} as ${e.dest}`) : (e.path ?? "a file");
    return cannot(verb, object, e);
  }
  return mtError("bug", e instanceof Error ? `${e.name}: ${text}` : text);
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

/** Whether nothing can be written there: no room, or a file system that became read-only. */
export function hasNoRoom(thrown: unknown): boolean {
  const { code = "" } = (thrown ?? {}) as NodeJS.ErrnoException;
  return /^(ENOSPC|EDQUOT|EROFS|SQLITE_(FULL|READONLY.*|CANTOPEN.*|IOERR.*))$/.test(code);
}

/** Unwraps a Result where failing is the caller's failure too. */
export function orThrow<T>(result: Result<T, MtError>): T {
  if (result.isErr()) throw new MtFailure(result.error);
  return result.value;
}
