/**
 * Errors as values, and their exit codes. Codes are sysexits by name: scripts read the number, records carry the name.
 */
import { err, type Result } from "neverthrow";

/** Exit codes, the same in every tool. Any other code is a failure too. */
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

/** An error, as in a record and on stderr. `message`: "Cannot <verb> <object>: <state>"; `hint`: what to do; `by`: the tool. */
export interface MtError {
  by?: string;
  code: ErrorCode;
  message: string;
  hint?: string;
}

export function mtError(code: ErrorCode, message: string, hint?: string): MtError {
  return hint === undefined ? { code, message } : { code, message, hint };
}

/** `err(mtError(…))`. */
export function fail<T = never>(code: ErrorCode, message: string, hint?: string): Result<T, MtError> {
  return err(mtError(code, message, hint));
}

/** The exit code of a tool that ends with this error. */
export function exitCodeOf(code: ErrorCode): number {
  return code === "timeout" || code === "lost" ? EXIT.failed : EXIT[code];
}

/** A thrown MtError, where a Result cannot be returned: out of an event handler or a promise. */
export class MtFailure extends Error {
  readonly error: MtError;
  constructor(error: MtError) {
    super(error.message);
    this.error = error;
  }
}

/** By errno: the exit code, what to say of the file, and a hint. */
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

/** By system call: the verb of the message. */
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

/** "Cannot <verb> <object>: <state>" from an errno; for one that is not in OF_FILES, `failed` with the system's own words. */
export function cannot(verb: string, object: string, thrown: unknown): MtError {
  const [code, , hint] = OF_FILES[(thrown as NodeJS.ErrnoException)?.code ?? ""] ?? ["failed"];
  return mtError(code, `Cannot ${verb} ${object}: ${stateOf(thrown)}`, hint);
}

/** The <state> of a message, from an errno: our words if there are any, else the system's. */
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

/** What was thrown, with the path added if it is a system error that names no file. */
export function naming(path: string, thrown: unknown): unknown {
  const e = thrown as NodeJS.ErrnoException;
  if (e instanceof Error && e.code !== undefined) e.path ??= path;
  return thrown;
}

/** The MtError for whatever was thrown: that of an MtFailure, one by errno or SQLite's code, else a `bug`. */
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
    // A full disk is about writing, whichever call ran into it.
    const full = e.code === "ENOSPC" || e.code === "EDQUOT" || e.code === "EROFS";
    const verb = full ? "write" : (VERBS[e.syscall ?? ""] ?? "use");
    const object = e.dest ? (full ? e.dest : `${e.path} as ${e.dest}`) : (e.path ?? "a file");
    return cannot(verb, object, e);
  }
  return mtError("bug", e instanceof Error ? `${e.name}: ${text}` : text);
}

/** As text. What is thrown may be anything, also cyclic or without a prototype. */
function textOf(thrown: unknown): string {
  if (thrown instanceof Error) return thrown.message;
  try {
    return typeof thrown === "object" ? JSON.stringify(thrown) : String(thrown);
  } catch {
    return "something that cannot be shown was thrown";
  }
}

/** Whether it says that nothing can be written there: no room, or a read-only file system. */
export function hasNoRoom(thrown: unknown): boolean {
  const { code = "" } = (thrown ?? {}) as NodeJS.ErrnoException;
  return /^(ENOSPC|EDQUOT|EROFS|SQLITE_(FULL|READONLY.*|CANTOPEN.*|IOERR.*))$/.test(code);
}

/** The value of a Result; throws its error as MtFailure. */
export function orThrow<T>(result: Result<T, MtError>): T {
  if (result.isErr()) throw new MtFailure(result.error);
  return result.value;
}
