/**
 * The one place where directories, files and sockets under MT_RUN, MT_STATE, MT_CACHE and MT_LEASES are checked,
 * made and opened. As OpenSSH does with its own: every directory from the root of the file system down belongs to
 * root or to us and lets nobody else write (a sticky one, as /tmp, may); from MT_RUN down it is ours alone, and
 * nothing in it is a symbolic link. So nobody but us and root can change anything between a look and its use.
 * Whatever is otherwise is `permission`, exit code 77, before anything is written.
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
/** As the kernel has it. */
const LINKS_MAX = 40;
/** Bytes that the kernel takes for the path of a socket. */
const SOCKET_PATH_MAX = 107;

const PLACES = [
  ["MT_RUN", runDir],
  ["MT_STATE", stateDir],
  ["MT_CACHE", cacheDir],
  ["MT_LEASES", leaseDir],
] as const;

/** Root or we ourselves. Whoever owns `/` is root, also where a user namespace shows it under another number. */
const isTrusted = (uid: number) => uid === 0 || uid === us() || uid === lstatSync("/").uid;
const us = () => process.geteuid?.() ?? 0;

interface Place {
  root: string;
  /** What names it. */
  variable: string;
}

/** The place that a path lies in, the innermost one; undefined outside of all. */
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

/** What lies there; nothing where it is not there, or a part of the way is no directory. */
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

/** What is wrong with the way down to a root, and with the root itself. */
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
    // Made when it is needed, by us, in a directory that is right.
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
  // The way went over a link above it: now the root as it is.
  const there = look(root);
  return there && wrongDirectory(root, there, variable, STICKY);
}

/**
 * What is wrong with a directory that is to be ours alone.
 * @param unless a bit of its mode with which others may write to it: in a sticky one, as a tmpfs is when it is
 * mounted, nobody else can take away or replace what is ours
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

/** What is wrong with a directory in one of our places, or with any above it. Elsewhere it is a place itself. */
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

/** Whether the places that are there are ours: asked before a tool does anything. The leases are root's. */
export function checkPlaces(): Result<void, MtError> {
  for (const [variable, dir] of PLACES) {
    if (variable === "MT_LEASES" && us() !== 0) continue;
    try {
      const wrong = wrongRoot(dir(), variable);
      if (wrong) return err(wrong);
    } catch {
      // What cannot be looked at is told by whoever needs it.
    }
  }
  return ok(undefined);
}

/** Throws `permission` where a file of ours is a link or another's, or any directory above it is not ours alone. */
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

/** A directory of ours: what is missing of it is made, 0700; all of it is checked. */
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
  // Another may have made a part of it in the same moment.
  const made = wrongWay(dir);
  if (made) throw new MtFailure(made);
  // Where something else stands in its place mkdir says what.
  if (!look(dir)?.isDirectory()) mkdirSync(dir, { mode: 0o700 });
  return dir;
}

/** A directory of ours with a name that nothing else has, 0700; `path` is how it begins. */
export function ownTempDir(path: string): string {
  ownDir(dirname(path));
  return mkdtempSync(path);
}

/**
 * Opens a file of ours, 0600, and no link. `append` makes it where it is missing; `new` fails where anything is
 * there; the directory is made. `read` makes nothing.
 */
export function openOwn(path: string, how: "append" | "new" | "read"): number {
  if (how === "read") checkOwn(path);
  else {
    ownDir(dirname(path));
    if (how === "append") checkOwn(path);
  }
  // Without O_NONBLOCK a pipe that somebody put there would hold us until it is opened at its other end.
  const flags = {
    append: O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK,
    new: O_RDWR | O_CREAT | O_EXCL,
    read: O_RDONLY | O_NONBLOCK,
  }[how];
  let fd: number;
  try {
    fd = openSync(path, flags | O_NOFOLLOW, 0o600);
  } catch (thrown) {
    // A link that came between the look and this.
    if ((thrown as NodeJS.ErrnoException).code === "ELOOP") checkOwn(path);
    throw thrown;
  }
  const wrong = wrongEntry(path, fstatSync(fd));
  if (!wrong) return fd;
  closeSync(fd);
  throw new MtFailure(wrong);
}

/** A new file of ours, 0600, to be written bit by bit; its directory is made. */
export function newOwnFile(path: string): Promise<FileHandle> {
  ownDir(dirname(path));
  return open(path, "wx", 0o600);
}

/** Writes a file of ours that is not there yet. */
export function writeNewOwn(path: string, text: string): void {
  const fd = openOwn(path, "new");
  try {
    onFile(path, () => writeFileSync(fd, text));
  } finally {
    closeSync(fd);
  }
}

/** Writes a file of ours, which is there whole or as it was before. */
export function writeOwn(path: string, text: string | Uint8Array): void {
  ownDir(dirname(path));
  checkOwn(path);
  const part = `${path}.new`;
  // One that a crash left, or a link: taken away, never followed.
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

/** Writes over a file of ours where it stands, which takes no room; false where it is too short for that. */
export function overwriteOwn(path: string, text: string): boolean {
  checkOwn(path);
  if (!look(path)) return false;
  const fd = openSync(path, O_WRONLY | O_NOFOLLOW);
  try {
    const bytes = Buffer.from(text);
    const { size } = fstatSync(fd);
    if (bytes.length > size) return false;
    // Filled up with blanks: cut off by a second call, it would be neither for a moment.
    const filled = Buffer.concat([bytes, Buffer.alloc(size - bytes.length, " ")]);
    onFile(path, () => writeSync(fd, filled, 0, size, 0));
    return true;
  } finally {
    closeSync(fd);
  }
}

/** A file of ours as text; throws what reading throws, and `permission` where it is not ours. */
export function readOwn(path: string): string {
  checkOwn(path);
  return readFileSync(path, "utf8");
}

/** A file of ours as JSON; undefined where there is none or it is none. Throws where it is not ours. */
export function readOwnJson(path: string): unknown {
  try {
    return JSON.parse(readOwn(path));
  } catch (thrown) {
    if (thrown instanceof MtFailure) throw thrown;
    return undefined;
  }
}

/** A directory of ours, made where it is missing, in which nothing is a link or another's: for a script's files. */
export function ownFlatDir(dir: string): string {
  ownDir(dir);
  for (const name of readdirSync(dir)) {
    const wrong = wrongEntry(join(dir, name), look(join(dir, name)));
    if (wrong) throw new MtFailure(wrong);
  }
  return dir;
}

/** Takes away a file or a directory of ours with all that is in it; a link itself, not what it leads to. */
export function removeOwn(path: string): void {
  const wrong = PLACES.some(([, dir]) => path === dir()) ? wrongWay(path) : wrongWay(dirname(path));
  if (wrong) throw new MtFailure(wrong);
  rmSync(path, { recursive: true, force: true });
}

/**
 * Listens on a socket of ours, 0600 from its first moment, in a directory that only we and root can enter: the
 * kernel lets nobody else connect. One that a dead process left is replaced. Its name may be as long as it likes.
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
      // The socket is made before `listen` comes back: what others make meanwhile has its own mode.
      process.umask(umask);
    });
  } finally {
    process.umask(umask);
    short.close();
  }
  chmodSync(path, 0o600);
}

/**
 * The socket of a server of ours, by a name that the kernel takes; to be closed once it is connected. Throws
 * `permission` where it is another's: whoever made it would hear what we say.
 */
export function ownSocket(path: string): { path: string; close(): void } {
  checkOwn(path);
  const there = look(path);
  if (there && !there.isSocket())
    throw new MtFailure(cannotUse(path, "it is no socket", `see who made it, then rm ${path}`));
  return shortPath(path);
}

/** Connects to a socket of ours. Throws `permission` where it is another's; all else is told by the socket's events. */
export function connectOwn(path: string): Socket {
  const short = ownSocket(path);
  const socket = connect(short.path);
  socket.once("connect", short.close);
  socket.once("close", short.close);
  return socket;
}

/** A socket's path for a program that runs in its directory: where it is too long for the kernel, its name there. */
export const socketName = (path: string) =>
  Buffer.byteLength(path) <= SOCKET_PATH_MAX ? path : basename(path);

/** A path is as long as its directory; the directory's descriptor has a short name. */
function shortPath(path: string): { path: string; close(): void } {
  if (Buffer.byteLength(path) <= SOCKET_PATH_MAX) return { path, close: () => {} };
  let dir: number | undefined;
  try {
    dir = openSync(dirname(path), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch {
    // Where there is no directory there is no socket either: the kernel is to say that, not that the name is long.
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
