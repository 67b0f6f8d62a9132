/**
 * The store of files by digest that every host has: mt-image fills it, mt-push spreads it, guests boot
 * from it. A file is there under its digest or not at all: it is written aside, checked, then renamed.
 */
import { createHash } from "node:crypto";
import { chmodSync, createReadStream, existsSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError, onFileLater, toMtError } from "../errors.ts";
import { checkOwn, newOwnFile, ownDir } from "../own-place.ts";
import { storeDir, storePath } from "./names.ts";

/** Whether the store has the file. Throws where it is not ours. */
export function storeHas(digest: string): boolean {
  const path = storePath(digest);
  if (path.isErr()) return false;
  checkOwn(path.value);
  return existsSync(path.value);
}

/** Whether the store has the file and its bytes are those that its name says. */
export async function storeVerify(digest: string): Promise<boolean> {
  if (!storeHas(digest)) return false;
  try {
    return (await digestOf(storePath(digest)._unsafeUnwrap())) === digest;
  } catch {
    return false;
  }
}

/** `sha256:…` of a file's bytes. */
export async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return `sha256:${hash.digest("hex")}`;
}

/**
 * Takes bytes into the store. With `expected`, bytes of another digest are thrown away: `data`.
 * Gives the digest and how many bytes came.
 */
export async function storeTake(
  bytes: AsyncIterable<Buffer>,
  expected?: string,
): Promise<Result<{ digest: string; bytes: number }, MtError>> {
  const part = join(storeDir(), "incoming", `${process.pid}-${Math.random().toString(36).slice(2)}`);
  const hash = createHash("sha256");
  let size = 0;
  try {
    // Opened before the first byte is asked for: whatever breaks later finds the file to take away.
    const file = await newOwnFile(part);
    try {
      for await (const chunk of bytes) {
        hash.update(chunk);
        size += chunk.length;
        await onFileLater(part, file.writeFile(chunk));
      }
      // On disk before it gets its name: a power cut must not leave a file that is there and not whole.
      await onFileLater(part, file.sync());
    } finally {
      await file.close();
    }
    const digest = `sha256:${hash.digest("hex")}`;
    if (expected !== undefined && digest !== expected)
      return fail(
        "data",
        `Cannot store ${expected}: ${size} bytes came with digest ${digest}`,
        "the file was cut off or changed on its way; push it again",
      );
    const path = storePath(digest);
    if (path.isErr()) return err(path.error);
    ownDir(dirname(path.value));
    chmodSync(part, 0o400);
    renameSync(part, path.value);
    return ok({ digest, bytes: size });
  } catch (thrown) {
    return err(toMtError(thrown));
  } finally {
    rmSync(part, { force: true });
  }
}

/** Takes a file into the store, leaving it where it is. */
export const storeTakeFile = (path: string) =>
  storeTake(createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>);

/** Bytes of a file of the store, or 0. */
export function storeSize(digest: string): number {
  const path = storePath(digest);
  return path.isOk() && existsSync(path.value) ? statSync(path.value).size : 0;
}
