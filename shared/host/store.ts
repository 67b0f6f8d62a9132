/**
 * Each host's store of files by digest: mt-image fills it, mt-push spreads it, guests boot from it. A file is there
 * whole or not at all: it is written aside, checked, then renamed.
 */
import { createHash } from "node:crypto";
import { chmodSync, createReadStream, existsSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError, onFileLater, toMtError } from "../errors.ts";
import { checkOwn, newOwnFile, ownDir } from "../own-place.ts";
import { storeDir, storePath } from "./names.ts";

/** Whether the store has the file. Throws MtFailure (`permission`) if the file or a directory above it is not ours. */
export function storeHas(digest: string): boolean {
  const path = storePath(digest);
  if (path.isErr()) return false;
  checkOwn(path.value);
  return existsSync(path.value);
}

/** Whether the store has the file and its bytes have that digest. */
export async function storeVerify(digest: string): Promise<boolean> {
  if (!storeHas(digest)) return false;
  try {
    return (await digestOf(storePath(digest)._unsafeUnwrap())) === digest;
  } catch {
    return false;
  }
}

/** `sha256:…` of a file's bytes. Throws if it cannot be read. */
export async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return `sha256:${hash.digest("hex")}`;
}

/**
 * Puts bytes into the store. With `expected`, bytes of another digest are refused: `data`. Other errors: those of the
 * file system and of `bytes`.
 * @returns the digest, and how many bytes came
 */
export async function storeTake(
  bytes: AsyncIterable<Buffer>,
  expected?: string,
): Promise<Result<{ digest: string; bytes: number }, MtError>> {
  const part = join(storeDir(), "incoming", `${process.pid}-${Math.random().toString(36).slice(2)}`);
  const hash = createHash("sha256");
  let size = 0;
  try {
    // Opened before the first byte is read, so that whatever fails later removes it.
    const file = await newOwnFile(part);
    try {
      for await (const chunk of bytes) {
        hash.update(chunk);
        size += chunk.length;
        await onFileLater(part, file.writeFile(chunk));
      }
      // Synced before it is renamed: a power cut must not leave an incomplete file.
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

/** Copies a file into the store. */
export const storeTakeFile = (path: string) =>
  storeTake(createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>);

/** Size of a file of the store in bytes; 0 if it is not there. */
export function storeSize(digest: string): number {
  const path = storePath(digest);
  return path.isOk() && existsSync(path.value) ? statSync(path.value).size : 0;
}
