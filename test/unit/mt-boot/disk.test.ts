/** A guest's disk without a guest: an overlay's header, QEMU's arguments, which events are errors. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { err, ok } from "neverthrow";
import { afterAll, expect, test } from "vitest";
import { mtError } from "../../../shared/errors.ts";
import { findProgram } from "../../../shared/host/process.ts";
import { backingFile, diskArgv, diskError, prepareDisk, Stall } from "../../../tools/mt-boot/machine/disk.ts";
import type { Boot } from "../../../tools/mt-boot/platforms/platform.ts";
import { stanzasOf } from "../../../tools/mt-image/packages/repository.ts";

const dir = mkdtempSync(join(tmpdir(), "mtt-disk-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test.skipIf(findProgram("qemu-img").isErr())(
  "an overlay is kept, and made anew where it is another's",
  async () => {
    const base = join(dir, "base,1.qcow2");
    const other = join(dir, "other.qcow2");
    for (const path of [base, other])
      expect(spawnSync("qemu-img", ["create", "-q", "-f", "qcow2", path, "4M"]).status).toBe(0);
    expect(backingFile(base)).toBeUndefined();
    const overlay = join(dir, "disks/g0.qcow2");
    const prepare = (on: string) => prepareDisk({ disk: { base: on, overlay } } as Partial<Boot> as Boot);
    expect((await prepare(base)).isOk()).toBe(true);
    expect(backingFile(overlay)).toBe(base);
    // Kept: a mark at its end is still there.
    writeFileSync(overlay, "mark", { flag: "a" });
    const marked = spawnSync("stat", ["-c", "%s", overlay], { encoding: "utf8" }).stdout;
    await prepare(base);
    expect(spawnSync("stat", ["-c", "%s", overlay], { encoding: "utf8" }).stdout).toBe(marked);
    await prepare(other);
    expect(backingFile(overlay)).toBe(other);
    truncateSync(overlay, 20);
    expect(backingFile(overlay)).toBeUndefined();
    await prepare(other);
    expect(backingFile(overlay)).toBe(other);
    const missing = await prepare(join(dir, "nowhere"));
    expect(missing._unsafeUnwrapErr()).toMatchObject({
      code: "io",
      message: expect.stringMatching(/^Cannot boot \{id\}: its disk cannot be made: .*No such file/),
    });
  },
);

test("no name in a header is opened, whatever the paths are", () => {
  const words = diskArgv({ base: "/s/a,b=c", overlay: '/d/"x"' });
  const nodes = words.flatMap((word, i) => (words[i - 1] === "-blockdev" ? [JSON.parse(word)] : []));
  expect(nodes).toMatchObject([
    { filename: "/s/a,b=c", "read-only": true },
    { driver: "qcow2", "read-only": true, backing: null },
    { filename: '/d/"x"' },
    { driver: "qcow2", backing: "base" },
  ]);
});

test("what stops a guest is an error, what does not is none", () => {
  const event = (data: object) =>
    diskError({ event: "BLOCK_IO_ERROR", data: data as Record<string, unknown> });
  expect(event({ action: "report", operation: "write" })).toBeUndefined();
  expect(diskError({ event: "STOP" })).toBeUndefined();
  expect(event({ action: "stop", operation: "write", nospace: true })?.message).toMatch(/is full$/);
  expect(event({ action: "stop", operation: "read", nospace: false, reason: "EIO" })?.message).toMatch(
    /cannot be read: EIO$/,
  );
});

test("who asks a stopped guest is told of its disk", async () => {
  const stall = new Stall();
  expect(await stall.unlessStalled(Promise.resolve(ok(1)))).toEqual(ok(1));
  const asked = stall.unlessStalled(new Promise<never>(() => {}));
  const error = mtError("io", "full");
  stall.begin(error);
  expect(await asked).toEqual(err(error));
  expect(await stall.unlessStalled(Promise.resolve(ok(1)))).toEqual(err(error));
});

test("packages of the lists by name and version; one without a digest is none", () => {
  const text =
    "Package: a\nVersion: 1\nSHA256: x\n\nPackage: a\nVersion: 2\nSHA256: y\n\nPackage: b\nVersion: 1\n";
  expect([...stanzasOf(text).keys()]).toEqual(["a=1", "a=2"]);
});
