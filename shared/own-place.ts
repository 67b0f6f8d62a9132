/**
 * Checks, makes and opens directories, files and sockets under MT_RUN, MT_STATE, MT_CACHE and MT_LEASES; nothing else
 * does. As OpenSSH does for its files, every directory from / down must belong to root or us and be writable by nobody
 * else (a sticky one such as /tmp is fine); from MT_RUN down all must be ours, and nothing a symbolic link. So only we
 * and root can change anything between a check and its use. Anything else is `permission`, exit code 77, before
 * anything is written.
 */
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  type Stats,
  writeFileSync,
  writeSync,
} from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { connect, type Server, type Socket } from "node:net";
import { basename, dirname, join, sep } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { type MtError, MtFailure, mtError, naming, onFile } from "./errors.ts";
import { cacheDir, leaseDir, runDir, stateDir } from "./host/names.ts";

const { O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } =
  constants;
const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;
/** The kernel's limit (MAXSYMLINKS). */
const LINKS_MAX = 40;
/** The longest path of a socket that the kernel takes, in bytes. */
const SOCKET_PATH_MAX = 107;

const PLACES = [
  ["MT_RUN", runDir],
  ["MT_STATE", stateDir],
  ["MT_CACHE", cacheDir],
  ["MT_LEASES", leaseDir],
] as const;

/** Root or us. The owner of `/` is root, even if a user namespace shows it by another number. */
const isTrusted = (uid: number) => uid === 0 || uid === us() || uid === lstatSync("/").uid;
const us = () => process.geteuid?.() ?? 0;

interface Place {
  root: string;
  /** The variable that sets it. */
  variable: string;
}

/** The innermost place that a path is in; undefined outside all of them. */
function placeOf(path: string): Place | undefined {
  let found: Place | undefined;
  for (const [variable, dir] of PLACES) {
    const root = dir();
    if (!isIn(path, root) || (found && found.root.length >= root.length)) continue;
    found = { root, variable };
  }
  return found;
}

const isIn = (path: string, root: string) =>
  path === root || path.startsWith(root === sep ? sep : `${root}${sep}`);

/** lstat; undefined if it does not exist or a part of the path is no directory. */
function look(path: string): Stats | undefined {
  try {
    return lstatSync(path);
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw thrown;
  }
}

const cannotUse = (path: string, why: string, hint: string) =>
  mtError("permission", `Cannot use ${path}: ${why}`, hint);

const otherwise = (variable: string | undefined) =>
  variable === undefined ? "take another directory" : `set ${variable} to a directory of your own`;

const octal = (mode: number) => (mode & 0o7777).toString(8).padStart(4, "0");

/** What is wrong with a root or a directory above it. */
function wrongRoot(root: string, variable: string | undefined): MtError | undefined {
  let at: string = sep;
  let links = 0;
  const rest = root.split(sep).filter(Boolean);
  for (let name = rest.shift(); name !== undefined; name = rest.shift()) {
    if (name === ".") continue;
    if (name === "..") {
      at = dirname(at);
      continue;
    }
    const path = join(at, name);
    const there = look(path);
    // We make it when needed, in a directory that has just been found fine.
    if (!there) return undefined;
    if (path === root) return wrongDirectory(path, there, variable, STICKY);
    if (!isTrusted(there.uid))
      return cannotUse(
        path,
        `it belongs to user ${there.uid}, who may change all below it`,
        otherwise(variable),
      );
    if (there.isSymbolicLink()) {
      if (++links > LINKS_MAX) return undefined;
      const target = readlinkSync(path);
      rest.unshift(...target.split(sep).filter(Boolean));
      if (target.startsWith(sep)) at = sep;
      continue;
    }
    if (!there.isDirectory()) return undefined;
    if ((there.mode & WRITABLE_BY_OTHERS) !== 0 && (there.mode & STICKY) === 0)
      return cannotUse(
        path,
        `others may change what is below it (mode ${octal(there.mode)})`,
        `chmod go-w ${path}, or ${otherwise(variable)}`,
      );
    at = path;
  }
  // A link above it was followed: check the root itself.
  const there = look(root);
  return there && wrongDirectory(root, there, variable, STICKY);
}

/**
 * What is wrong with a directory that should be ours alone.
 * @param unless a mode bit that makes it fine if others may write: in a sticky directory, as a fresh tmpfs is, nobody
 * else can remove or replace what is ours
 */
function wrongDirectory(
  path: string,
  there: Stats,
  variable: string | undefined,
  unless = 0,
): MtError | undefined {
  if (there.isSymbolicLink())
    return cannotUse(
      path,
      `it is a symbolic link (to ${readlinkSync(path)})`,
      `${otherwise(variable)}: links are not followed`,
    );
  if (!there.isDirectory()) return undefined;
  if (there.uid !== us())
    return cannotUse(path, `it belongs to user ${there.uid}, not to ${us()}`, otherwise(variable));
  if ((there.mode & WRITABLE_BY_OTHERS) !== 0 && (there.mode & unless) === 0)
    return cannotUse(
      path,
      `others may write to it (mode ${octal(there.mode)})`,
      `see that nothing in it is theirs, then chmod 700 ${path}; or ${otherwise(variable)}`,
    );
  return undefined;
}

/** What is wrong with a directory in one of our places, or with one above it. Outside of them it is checked as a root. */
function wrongWay(dir: string): MtError | undefined {
  const { root = dir, variable } = placeOf(dir) ?? {};
  const wrong = wrongRoot(root, variable);
  if (wrong) return wrong;
  let at = root;
  for (const name of dir.slice(root.length).split(sep).filter(Boolean)) {
    at = join(at, name);
    const there = look(at);
    if (!there) return undefined;
    const found = wrongDirectory(at, there, variable);
    if (found) return found;
  }
  return undefined;
}

/** Whether the places that exist are ours, checked before a tool does anything; MT_LEASES only for root. */
export function checkPlaces(): Result<void, MtError> {
  for (const [variable, dir] of PLACES) {
    if (variable === "MT_LEASES" && us() !== 0) continue;
    try {
      const wrong = wrongRoot(dir(), variable);
      if (wrong) return err(wrong);
    } catch {
      // If it cannot be checked, whoever needs it will report that.
    }
  }
  return ok(undefined);
}

/** Throws MtFailure (`permission`) if a file is a link or another user's, or a directory above it is not ours alone. A missing file is fine. */
export function checkOwn(path: string): void {
  const wrong = wrongWay(dirname(path)) ?? wrongEntry(path, look(path));
  if (wrong) throw new MtFailure(wrong);
}

function wrongEntry(path: string, there: Stats | undefined): MtError | undefined {
  if (!there) return undefined;
  const hint = `see who made it, then rm ${path}`;
  if (there.isSymbolicLink())
    return cannotUse(path, `it is a symbolic link (to ${readlinkSync(path)})`, hint);
  if (there.uid !== us()) return cannotUse(path, `it belongs to user ${there.uid}, not to ${us()}`, hint);
  return undefined;
}

/** Checks a directory and makes what is missing of it, 0700. Returns its path; throws as `checkOwn`. */
export function ownDir(dir: string): string {
  const wrong = wrongWay(dir);
  if (wrong) throw new MtFailure(wrong);
  if (look(dir)?.isDirectory()) return dir;
  const missing: string[] = [];
  for (let at = dir; at !== dirname(at) && !look(at); at = dirname(at)) missing.push(at);
  for (const path of missing.reverse()) {
    try {
      mkdirSync(path, { mode: 0o700 });
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== "EEXIST") throw thrown;
    }
  }
  // Someone else may have made a part of it meanwhile.
  const made = wrongWay(dir);
  if (made) throw new MtFailure(made);
  // If something else is in its place, mkdir's error says so.
  if (!look(dir)?.isDirectory()) mkdirSync(dir, { mode: 0o700 });
  return dir;
}

/** Makes a new directory, 0700, whose unique name begins with `path`. Returns its path. */
export function ownTempDir(path: string): string {
  ownDir(dirname(path));
  return mkdtempSync(path);
}

/**
 * Opens a file of ours, 0600, never through a link; returns its descriptor. `append` makes the file if it is missing,
 * `new` fails if it exists; both make its directory. `read` makes nothing. Throws as `checkOwn`, and what open throws.
 */
export function openOwn(path: string, how: "append" | "new" | "read"): number {
  if (how === "read") checkOwn(path);
  else {
    ownDir(dirname(path));
    if (how === "append") checkOwn(path);
  }
  // O_NONBLOCK: opening a named pipe that somebody put there must not block.
  const flags = {
    append: O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK,
    new: O_RDWR | O_CREAT | O_EXCL,
    read: O_RDONLY | O_NONBLOCK,
  }[how];
  let fd: number;
  try {
    fd = openSync(path, flags | O_NOFOLLOW, 0o600);
  } catch (thrown) {
    // A link appeared since the check.
    if ((thrown as NodeJS.ErrnoException).code === "ELOOP") checkOwn(path);
    throw thrown;
  }
  const wrong = wrongEntry(path, fstatSync(fd));
  if (!wrong) return fd;
  closeSync(fd);
  throw new MtFailure(wrong);
}

/** Opens a new file, 0600, for writing piece by piece; makes its directory. Throws if the file exists. */
export function newOwnFile(path: string): Promise<FileHandle> {
  ownDir(dirname(path));
  return open(path, "wx", 0o600);
}

/** Writes a new file; throws if it exists. */
export function writeNewOwn(path: string, text: string): void {
  const fd = openOwn(path, "new");
  try {
    onFile(path, () => writeFileSync(fd, text));
  } finally {
    closeSync(fd);
  }
}

/** Writes or replaces a file in one step: after a crash it is the new one or the old one. */
export function writeOwn(path: string, text: string | Uint8Array): void {
  ownDir(dirname(path));
  checkOwn(path);
  const part = `${path}.new`;
  // Left by a crash, or a link: removed, never followed.
  rmSync(part, { force: true });
  try {
    const fd = openSync(part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      writeFileSync(fd, text);
    } finally {
      closeSync(fd);
    }
    renameSync(part, path);
  } catch (thrown) {
    rmSync(part, { force: true });
    throw naming(path, thrown);
  }
}

/** Overwrites a file in place, which works on a full disk; false if the file is missing or shorter than the text. */
export function overwriteOwn(path: string, text: string): boolean {
  checkOwn(path);
  if (!look(path)) return false;
  const fd = openSync(path, O_WRONLY | O_NOFOLLOW);
  try {
    const bytes = Buffer.from(text);
    const { size } = fstatSync(fd);
    if (bytes.length > size) return false;
    // Padded with blanks: truncating would take a second call, and the file be neither text in between.
    const filled = Buffer.concat([bytes, Buffer.alloc(size - bytes.length, " ")]);
    onFile(path, () => writeSync(fd, filled, 0, size, 0));
    return true;
  } finally {
    closeSync(fd);
  }
}

/** A file of ours as text. Throws as `checkOwn`, and what reading throws. */
export function readOwn(path: string): string {
  checkOwn(path);
  return readFileSync(path, "utf8");
}

/** A file of ours as JSON; undefined if it is missing or no JSON. Throws as `checkOwn`. */
export function readOwnJson(path: string): unknown {
  try {
    return JSON.parse(readOwn(path));
  } catch (thrown) {
    if (thrown instanceof MtFailure) throw thrown;
    return undefined;
  }
}

/** As `ownDir`, and checks that nothing in the directory is a link or another user's: for the files of a script. */
export function ownFlatDir(dir: string): string {
  ownDir(dir);
  for (const name of readdirSync(dir)) {
    const wrong = wrongEntry(join(dir, name), look(join(dir, name)));
    if (wrong) throw new MtFailure(wrong);
  }
  return dir;
}

/** Removes a file, or a directory with its contents; of a link only the link. A missing path is fine. */
export function removeOwn(path: string): void {
  const wrong = PLACES.some(([, dir]) => path === dir()) ? wrongWay(path) : wrongWay(dirname(path));
  if (wrong) throw new MtFailure(wrong);
  rmSync(path, { recursive: true, force: true });
}

/**
 * Listens on a Unix socket, 0600 from the start, in a directory that only we and root can enter, so that nobody else
 * can connect. Replaces one that a dead process left. The path may be longer than the kernel takes.
 */
export async function listenOwn(server: Server, path: string): Promise<void> {
  ownDir(dirname(path));
  checkOwn(path);
  rmSync(path, { force: true });
  const short = shortPath(path);
  const umask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(short.path, () => {
        server.off("error", reject);
        resolve();
      });
      // `listen` has made the socket before it returns: restore the umask at once for everything else.
      process.umask(umask);
    });
  } finally {
    process.umask(umask);
    short.close();
  }
  chmodSync(path, 0o600);
}

/**
 * A path for connecting to a socket of ours that is short enough for the kernel; call `close` once connected. Throws
 * as `checkOwn`: another user's socket would get what we send.
 */
export function ownSocket(path: string): { path: string; close(): void } {
  checkOwn(path);
  const there = look(path);
  if (there && !there.isSocket())
    throw new MtFailure(cannotUse(path, "it is no socket", `see who made it, then rm ${path}`));
  return shortPath(path);
}

/** Connects to a socket of ours. Throws as `checkOwn`; other errors are events of the socket. */
export function connectOwn(path: string): Socket {
  const short = ownSocket(path);
  const socket = connect(short.path);
  socket.once("connect", short.close);
  socket.once("close", short.close);
  return socket;
}

/** A socket's path for a program that runs in its directory: only the name, if the path is too long for the kernel. */
export const socketName = (path: string) =>
  Buffer.byteLength(path) <= SOCKET_PATH_MAX ? path : basename(path);

/** Shortens a path that is too long, through a descriptor of its directory. */
function shortPath(path: string): { path: string; close(): void } {
  if (Buffer.byteLength(path) <= SOCKET_PATH_MAX) return { path, close: () => {} };
  let dir: number | undefined;
  try {
    dir = openSync(dirname(path), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch {
    // No directory, so no socket: this path makes the kernel say ENOENT rather than that the name is too long.
    return { path: `/proc/self/fd/none/${basename(path)}`, close: () => {} };
  }
  return {
    path: `/proc/self/fd/${dir}/${basename(path)}`,
    close: () => {
      if (dir !== undefined) closeSync(dir);
      dir = undefined;
    },
  };
}
