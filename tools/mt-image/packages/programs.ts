/**
 * Programs from packages: a single one, and busybox with the links by which its applets are called.
 * Reads: packages, the cache folder.  Writes: nothing that stays.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import { imageError, run } from "../errors.ts";
import type { InitramfsEntry } from "../tux/initramfs.ts";
import { type DebFile, readDeb } from "./deb.ts";
import type { Package } from "./packages.ts";

export async function readProgram(from: Package, program: string): Promise<Result<Buffer, MtError>> {
  const files = await readDeb(from.file, (path) => path === program);
  if (files.isErr()) return err(files.error);
  const data = (files.value as [DebFile?])[0]?.data;
  if (data === undefined)
    return err(imageError("unavailable", `find ${program} in ${from.name}`, "the package does not have it"));
  return ok(data);
}

/** busybox and its links. /bin has every applet; qemu-ga and busybox init look for some in /sbin by full path. */
export async function readBusybox(
  from: Package,
  cache_dir: string,
): Promise<Result<InitramfsEntry[], MtError>> {
  const busybox = await readProgram(from, "/bin/busybox");
  if (busybox.isErr()) return err(busybox.error);
  return (await listApplets(busybox.value, cache_dir)).map((applets) => [
    { type: "file", path: "/bin/busybox", mode: 0o755, data: busybox.value },
    ...applets.map((name): InitramfsEntry => ({ type: "symlink", path: `/bin/${name}`, target: "busybox" })),
    ...["init", "hwclock", "reboot", "poweroff", "halt"].map(
      (name): InitramfsEntry => ({ type: "symlink", path: `/sbin/${name}`, target: "../bin/busybox" }),
    ),
  ]);
}

/** The applets, by running the package's own busybox: it is static, and built for apt's architecture. */
async function listApplets(busybox: Buffer, cache_dir: string): Promise<Result<string[], MtError>> {
  let folder: string | undefined;
  try {
    folder = await mkdtemp(join(cache_dir, "busybox-"));
    const program = join(folder, "busybox");
    await writeFile(program, busybox, { mode: 0o700 });
    const list = await run(program, ["--list"], { action: "list busybox applets" });
    return list.map((text) => text.split("\n").filter((name) => name !== "" && name !== "busybox"));
  } catch (error) {
    return err(imageError("io", "list busybox applets", error));
  } finally {
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  }
}
