/**
 * Builds the Debian guest: a kernel, an initial RAM disk that finds the disk, and the disk with a root file
 * system of Debian's own packages. The same packages give the same bytes.
 * Reads: the package archive through apt, the cache folder; as root.
 * Writes: `kernel`, `initrd` and `disk` in the output folder, .deb files in the cache folder.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { err, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import { findProgram } from "../../../shared/host/process.ts";
import { KERNEL_META_PACKAGE, readKernel } from "../kernel/kernel.ts";
import { fetchKernel, fetchPackages, type Package, resolvePackages } from "../packages/packages.ts";
import { readBusybox } from "../packages/programs.ts";
import { makeRepository } from "../packages/repository.ts";
import { type BuildOptions, type BuiltImage, namesOf, writeFiles } from "../tux/build.ts";
import { type InitramfsEntry, writeInitramfs } from "../tux/initramfs.ts";
import { makeDisk } from "./ext4.ts";
import { debianFiles, debianInit } from "./guest.ts";
import { makeRoot } from "./rootfs.ts";

const SUITE = "bookworm";
/** Installed besides Debian's essential packages, with their dependencies. */
const PACKAGES = ["usr-is-merged", "sysvinit-core", "qemu-guest-agent", "openssh-server", "iproute2"];
/** The day that Debian 12 came out: the newest time that a file of the image has. */
const EPOCH = Date.UTC(2023, 5, 10) / 1000;
const PROGRAMS = ["mmdebstrap", "mke2fs", "dumpe2fs", "debugfs", "qemu-img"];

export async function buildDebian(options: BuildOptions): Promise<Result<BuiltImage, MtError>> {
  const { output_dir, cache_dir } = options;
  // Checked before the first package is fetched.
  if (process.getuid?.() !== 0)
    return fail(
      "permission",
      "Cannot build image debian: its files belong to several users",
      "run it as root",
    );
  for (const program of PROGRAMS) {
    const found = findProgram(program);
    if (found.isErr()) return err(found.error);
  }
  const kernel_package = await fetchKernel(KERNEL_META_PACKAGE, cache_dir);
  if (kernel_package.isErr()) return err(kernel_package.error);
  const busybox_package = await fetchPackages(["busybox-static"], cache_dir);
  if (busybox_package.isErr()) return err(busybox_package.error);
  const boot = await buildBoot(kernel_package.value, busybox_package.value[0]!, options);
  if (boot.isErr()) return err(boot.error);

  const names = await resolvePackages(PACKAGES, join(output_dir, "apt"));
  if (names.isErr()) return err(names.error);
  const packages = await fetchPackages(names.value, cache_dir);
  if (packages.isErr()) return err(packages.error);
  const repository = await makeRepository(packages.value, SUITE, join(output_dir, "repository"));
  if (repository.isErr()) return err(repository.error);
  const root = join(output_dir, "root");
  const made = await makeRoot(root, {
    repository: repository.value,
    suite: SUITE,
    packages: names.value,
    files: debianFiles(),
    epoch: EPOCH,
    scratch_dir: output_dir,
  });
  if (made.isErr()) {
    const damaged = made.error.message.includes("Hash Sum mismatch");
    return err(
      damaged
        ? { ...made.error, hint: `the package's file in ${cache_dir} is damaged: remove it` }
        : made.error,
    );
  }
  const disk = join(output_dir, "disk");
  const written = await makeDisk(root, disk, EPOCH);
  await rm(root, { recursive: true, force: true });
  return written.map(() => ({
    files: { ...boot.value, disk },
    packages: namesOf([kernel_package.value, ...busybox_package.value, ...packages.value]),
  }));
}

async function buildBoot(
  kernel_package: Package,
  busybox_package: Package,
  { output_dir, cache_dir }: BuildOptions,
): Promise<Result<{ kernel: string; initrd: string }, MtError>> {
  const kernel = await readKernel(kernel_package);
  if (kernel.isErr()) return err(kernel.error);
  const busybox = await readBusybox(busybox_package, cache_dir);
  if (busybox.isErr()) return err(busybox.error);
  const initrd = writeInitramfs([
    ...["/proc", "/sys", "/dev", "/mnt"].map(
      (path): InitramfsEntry => ({ type: "directory", path, mode: 0o755 }),
    ),
    // The kernel opens /dev/console before init has mounted anything.
    { type: "character_device", path: "/dev/console", mode: 0o600, major: 5, minor: 1 },
    { type: "character_device", path: "/dev/null", mode: 0o666, major: 1, minor: 3 },
    ...kernel.value.entries,
    ...busybox.value,
    { type: "file", path: "/init", mode: 0o755, data: Buffer.from(debianInit) },
  ]);
  return writeFiles(output_dir, { kernel: kernel.value.vmlinux, initrd });
}
