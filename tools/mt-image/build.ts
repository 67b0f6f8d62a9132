/**
 * Builds the tux guest, a kernel and an initramfs, from Debian's own packages. The same packages
 * give the same bytes.
 * Reads: the package archive through apt, the cache folder.
 * Writes: `vmlinux` and `initrd` in the output folder, .deb files in the cache folder.
 */
import { chmod, mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import type { MtError } from "../../shared/errors.ts";
import { type DebFile, readDeb } from "./deb.ts";
import { imageError, run } from "./errors.ts";
import { guestFiles } from "./guest.ts";
import { type InitramfsEntry, writeInitramfs } from "./initramfs.ts";
import { findLibraries } from "./libraries.ts";
import { chooseModules, modulesDep } from "./modules.ts";
import { fetchKernel, fetchPackages, type Package } from "./packages.ts";
import { syscallsProgram } from "./syscalls.ts";
import { extractVmlinux } from "./vmlinux.ts";

export interface BuildOptions {
  output_dir: string;
  cache_dir: string;
}

export interface TuxImage {
  kernel: string;
  initrd: string;
  packages: { name: string; version: string }[];
}

const DEBIAN_VERSION = "12";
const KERNEL_META_PACKAGE = "linux-image-cloud-amd64";
/** Those that init loads by device type; modprobe in the guest finds the same. */
const MODULES = ["virtio_pci", "virtio_net", "virtio_console", "virtio_rng", "virtio_balloon", "virtio_blk"];
const LIBRARY_DIR = "/lib/x86_64-linux-gnu";
const LOADER = "ld-linux-x86-64.so.2";

export async function buildTux(options: BuildOptions): Promise<Result<TuxImage, MtError>> {
  const kernel_package = await fetchKernel(KERNEL_META_PACKAGE, options.cache_dir);
  if (kernel_package.isErr()) return err(kernel_package.error);
  const programs = await fetchPackages(["busybox-static", "qemu-guest-agent"], options.cache_dir);
  if (programs.isErr()) return err(programs.error);
  const [busybox_package, agent_package] = programs.value as [Package, Package];

  const kernel = await readKernel(kernel_package.value);
  if (kernel.isErr()) return err(kernel.error);
  const busybox = await readProgram(busybox_package, "/bin/busybox");
  if (busybox.isErr()) return err(busybox.error);
  const agent = await readProgram(agent_package, "/usr/sbin/qemu-ga");
  if (agent.isErr()) return err(agent.error);
  const libraries = await findLibraries(agent.value, agent_package, options.cache_dir);
  if (libraries.isErr()) return err(libraries.error);
  const applets = await listApplets(busybox.value, options.cache_dir);
  if (applets.isErr()) return err(applets.error);

  const initrd = writeInitramfs([
    ...skeleton(),
    ...kernel.value.entries,
    { type: "file", path: "/bin/busybox", mode: 0o755, data: busybox.value },
    ...appletLinks(applets.value),
    { type: "file", path: "/sbin/qemu-ga", mode: 0o755, data: agent.value },
    { type: "file", path: "/sbin/mt-syscalls", mode: 0o755, data: syscallsProgram() },
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
  const packages = [kernel_package.value, busybox_package, agent_package, ...libraries.value.packages]
    .map(({ name, version }) => ({ name, version }))
    .sort((left, right) => (left.name < right.name ? -1 : 1));
  return (await writeFiles(options.output_dir, { vmlinux: kernel.value.vmlinux, initrd })).map((paths) => ({
    kernel: paths.vmlinux,
    initrd: paths.initrd,
    packages,
  }));
}

interface Kernel {
  vmlinux: Buffer;
  entries: InitramfsEntry[];
}

async function readKernel(kernel_package: Package): Promise<Result<Kernel, MtError>> {
  const files = await readDeb(
    kernel_package.file,
    (path) => path.startsWith("/boot/vmlinuz-") || path.endsWith(".ko"),
  );
  if (files.isErr()) return err(files.error);
  const bz_image = files.value.find((file) => file.path.startsWith("/boot/"));
  if (bz_image?.data === undefined)
    return err(imageError("unavailable", `find the kernel in ${kernel_package.name}`, "there is none"));
  const release = basename(bz_image.path).slice("vmlinuz-".length);
  const vmlinux = extractVmlinux(bz_image.data);
  if (vmlinux.isErr()) return err(vmlinux.error);
  const modules_dir = `/lib/modules/${release}`;
  return chooseModules(
    MODULES,
    files.value.filter((file) => file.path.endsWith(".ko")),
  ).map((modules) => ({
    vmlinux: vmlinux.value,
    entries: [
      ...modules.map(({ path, data }): InitramfsEntry => ({ type: "file", path, mode: 0o644, data })),
      {
        type: "file",
        path: `${modules_dir}/modules.dep`,
        mode: 0o644,
        data: Buffer.from(modulesDep(modules, modules_dir)),
      },
    ],
  }));
}

async function readProgram(from: Package, program: string): Promise<Result<Buffer, MtError>> {
  const files = await readDeb(from.file, (path) => path === program);
  if (files.isErr()) return err(files.error);
  const data = (files.value as [DebFile?])[0]?.data;
  if (data === undefined)
    return err(imageError("unavailable", `find ${program} in ${from.name}`, "the package does not have it"));
  return ok(data);
}

/** Asks the busybox of the package itself: it is static, and for the processor that apt is set to. */
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

/** /bin has every applet; qemu-ga and busybox init look for some in /sbin by full path. */
function appletLinks(applets: string[]): InitramfsEntry[] {
  return [
    ...applets.map((name): InitramfsEntry => ({ type: "symlink", path: `/bin/${name}`, target: "busybox" })),
    ...["init", "hwclock", "reboot", "poweroff", "halt"].map(
      (name): InitramfsEntry => ({ type: "symlink", path: `/sbin/${name}`, target: "../bin/busybox" }),
    ),
  ];
}

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
async function writeFiles<Name extends string>(
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
