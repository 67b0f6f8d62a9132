/**
 * Builds the tux guest, a kernel and an initramfs, from Debian's own packages. The same packages
 * give the same bytes.
 * Reads: the package archive through apt, the cache folder.
 * Writes: `kernel` and `initrd` in the output folder, .deb files in the cache folder.
 */
import { chmod, mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import { SYSCALLS_PROGRAM } from "../../../shared/guest-protocol.ts";
import { imageError } from "../errors.ts";
import { KERNEL_META_PACKAGE, readKernel } from "../kernel/kernel.ts";
import { findLibraries } from "../packages/libraries.ts";
import { fetchKernel, fetchPackages, type Package } from "../packages/packages.ts";
import { readBusybox, readProgram } from "../packages/programs.ts";
import { guestFiles } from "./guest.ts";
import { type InitramfsEntry, writeInitramfs } from "./initramfs.ts";
import { syscallsProgram } from "./syscalls.ts";

export interface BuildOptions {
  output_dir: string;
  cache_dir: string;
}

/** The files of an image that was built, by role, and the packages that they came from. */
export interface BuiltImage {
  files: { kernel: string; initrd: string; disk?: string };
  packages: { name: string; version: string }[];
}

const DEBIAN_VERSION = "12";
const LIBRARY_DIR = "/lib/x86_64-linux-gnu";
const LOADER = "ld-linux-x86-64.so.2";

export async function buildTux(options: BuildOptions): Promise<Result<BuiltImage, MtError>> {
  const kernel_package = await fetchKernel(KERNEL_META_PACKAGE, options.cache_dir);
  if (kernel_package.isErr()) return err(kernel_package.error);
  const programs = await fetchPackages(["busybox-static", "qemu-guest-agent"], options.cache_dir);
  if (programs.isErr()) return err(programs.error);
  const [busybox_package, agent_package] = programs.value as [Package, Package];

  const kernel = await readKernel(kernel_package.value);
  if (kernel.isErr()) return err(kernel.error);
  const busybox = await readBusybox(busybox_package, options.cache_dir);
  if (busybox.isErr()) return err(busybox.error);
  const agent = await readProgram(agent_package, "/usr/sbin/qemu-ga");
  if (agent.isErr()) return err(agent.error);
  const libraries = await findLibraries(agent.value, agent_package, options.cache_dir);
  if (libraries.isErr()) return err(libraries.error);

  const initrd = writeInitramfs([
    ...skeleton(),
    ...kernel.value.entries,
    ...busybox.value,
    { type: "file", path: "/sbin/qemu-ga", mode: 0o755, data: agent.value },
    { type: "file", path: SYSCALLS_PROGRAM, mode: 0o755, data: syscallsProgram() },
    ...libraries.value.files.map(
      ({ soname, data }): InitramfsEntry => ({
        type: "file",
        path: `${LIBRARY_DIR}/${soname}`,
        mode: 0o755,
        data,
      }),
    ),
    { type: "symlink", path: `/lib64/${LOADER}`, target: `${LIBRARY_DIR}/${LOADER}` },
    ...guestFiles(DEBIAN_VERSION).map(
      ({ path, mode, text }): InitramfsEntry => ({ type: "file", path, mode, data: Buffer.from(text) }),
    ),
  ]);
  const packages = [kernel_package.value, busybox_package, agent_package, ...libraries.value.packages];
  return (await writeFiles(options.output_dir, { kernel: kernel.value.vmlinux, initrd })).map((files) => ({
    files,
    packages: namesOf(packages),
  }));
}

/** Packages as an image record has them. */
export const namesOf = (packages: Package[]) =>
  packages
    .map(({ name, version }) => ({ name, version }))
    .sort((left, right) => (left.name < right.name ? -1 : 1));

function skeleton(): InitramfsEntry[] {
  return [
    ...["/proc", "/sys", "/dev", "/run", "/root", "/mnt", "/var", "/usr"].map(
      (path): InitramfsEntry => ({ type: "directory", path, mode: 0o755 }),
    ),
    { type: "directory", path: "/tmp", mode: 0o1777 },
    // The kernel opens /dev/console before init has mounted anything.
    { type: "character_device", path: "/dev/console", mode: 0o600, major: 5, minor: 1 },
    { type: "character_device", path: "/dev/null", mode: 0o666, major: 1, minor: 3 },
    { type: "symlink", path: "/var/run", target: "/run" },
    { type: "symlink", path: "/usr/bin", target: "/bin" },
    { type: "symlink", path: "/usr/sbin", target: "/sbin" },
    { type: "symlink", path: "/etc/mtab", target: "/proc/mounts" },
  ];
}

/** Each file appears whole or not at all. */
export async function writeFiles<Name extends string>(
  folder: string,
  files: Record<Name, Buffer>,
): Promise<Result<Record<Name, string>, MtError>> {
  const paths = {} as Record<Name, string>;
  try {
    await mkdir(folder, { recursive: true });
    for (const name of Object.keys(files) as Name[]) {
      const path = join(folder, name);
      const partial = `${path}.${process.pid}.part`;
      await writeFile(partial, files[name]);
      await chmod(partial, 0o644);
      await rename(partial, path);
      paths[name] = path;
    }
    return ok(paths);
  } catch (error) {
    return err(imageError("io", `write ${folder}`, error));
  }
}
