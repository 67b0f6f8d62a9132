import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { storePath } from "../../../shared/host/names.ts";
import { digestOf, storeHas, storeSize, storeTake, storeTakeFile } from "../../../shared/host/store.ts";
import { streamOf, tempDir, withEnv } from "./fixtures.ts";

const sha = (bytes: Buffer | string) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
function store(): string {
  const dir = tempDir();
  withEnv({ MT_STATE: dir });
  return join(dir, "store");
}
/** Every file in the store, also half ones. */
const files = (dir: string) =>
  readdirSync(dir, { recursive: true, withFileTypes: true }).filter((e) => e.isFile());

describe("the store", () => {
  test("keeps bytes under their digest, readable by nobody else, and not to be written", async () => {
    store();
    const bytes = randomBytes(3_000_000);
    const taken = (
      await storeTake(streamOf(bytes.subarray(0, 7), bytes.subarray(7)), sha(bytes))
    )._unsafeUnwrap();
    expect(taken).toEqual({ digest: sha(bytes), bytes: bytes.length });
    const path = storePath(taken.digest)._unsafeUnwrap();
    expect(readFileSync(path).equals(bytes)).toBe(true);
    expect(statSync(path).mode & 0o777).toBe(0o400);
    expect([storeHas(taken.digest), storeSize(taken.digest), await digestOf(path)]).toEqual([
      true,
      bytes.length,
      taken.digest,
    ]);
    const copy = (await storeTakeFile(path))._unsafeUnwrap();
    expect(copy.digest).toBe(taken.digest);
  });

  test("an empty file is a file", async () => {
    store();
    expect((await storeTake(streamOf()))._unsafeUnwrap()).toEqual({ digest: sha(""), bytes: 0 });
    expect(storeHas(sha(""))).toBe(true);
  });

  test("bytes of another digest are thrown away, nothing is left", async () => {
    const dir = store();
    const refused = (await storeTake(streamOf("cut o"), sha("cut off")))._unsafeUnwrapErr();
    expect(refused).toMatchObject({
      code: "data",
      message: expect.stringContaining("5 bytes came"),
      hint: expect.any(String),
    });
    expect(storeHas(sha("cut off"))).toBe(false);
    expect(files(dir)).toEqual([]);
  });

  test("a stream that breaks leaves nothing", async () => {
    const dir = store();
    async function* breaks() {
      yield Buffer.from("half");
      throw new Error("the link is gone");
    }
    expect((await storeTake(breaks())).isErr()).toBe(true);
    expect(files(dir)).toEqual([]);
  });

  test("twenty takes of the same file at once give one file", async () => {
    const dir = store();
    const bytes = randomBytes(200_000);
    const taken = await Promise.all(Array.from({ length: 20 }, () => storeTake(streamOf(bytes), sha(bytes))));
    expect(taken.every((t) => t.isOk())).toBe(true);
    expect(files(dir).map((f) => f.name)).toEqual([sha(bytes).slice(7)]);
  });

  test.each(["sha256:../../../etc/passwd", "", "md5:x"])("has nothing under %j", (digest) => {
    store();
    expect([storeHas(digest), storeSize(digest)]).toEqual([false, 0]);
  });

  test.skipIf(process.getuid?.() !== 0)(
    "a full disk is an I/O error that says so, and nothing is left (needs root for a tmpfs)",
    async () => {
      const disk = join(tempDir(), "disk");
      mkdirSync(disk);
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "mtt-full", disk]);
      onTestFinished(() => void execFileSync("umount", [disk]));
      withEnv({ MT_STATE: disk });
      const refused = (await storeTake(streamOf(randomBytes(1_000_000))))._unsafeUnwrapErr();
      expect(refused).toMatchObject({ code: "io", message: expect.stringContaining("the disk is full") });
      expect(files(join(disk, "store"))).toEqual([]);
      expect((await storeTake(streamOf("fits")))._unsafeUnwrap().bytes).toBe(4);
    },
  );

  test("no file is there before it is whole", async () => {
    store();
    let seen: boolean | undefined;
    async function* slow() {
      yield Buffer.from("who");
      await new Promise((r) => setTimeout(r, 10));
      seen = existsSync(storePath(sha("whole"))._unsafeUnwrap());
      yield Buffer.from("le");
    }
    await storeTake(slow());
    expect([seen, storeHas(sha("whole"))]).toEqual([false, true]);
  });
});
