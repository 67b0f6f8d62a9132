/**
 * The kernel of a guest, from Debian's kernel package: the ELF that QEMU starts, and the modules that its
 * initial RAM disk loads.
 * Reads: a kernel package.  Writes: nothing.
 */
import { basename } from "node:path";
import { err, type Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import { imageError } from "../errors.ts";
import { readDeb } from "../packages/deb.ts";
import type { Package } from "../packages/packages.ts";
import type { InitramfsEntry } from "../tux/initramfs.ts";
import { chooseModules, modulesDep } from "./modules.ts";
import { extractVmlinux } from "./vmlinux.ts";

/** Its ext4 is built in; the virtio devices are modules. */
export const KERNEL_META_PACKAGE = "linux-image-cloud-amd64";
/** The modules that init loads by device type. */
export const VIRTIO_MODULES = [
  "virtio_pci",
  "virtio_net",
  "virtio_console",
  "virtio_rng",
  "virtio_balloon",
  "virtio_blk",
];

export interface Kernel {
  vmlinux: Buffer;
  /** Its modules and their modules.dep, as entries of an initramfs. */
  entries: InitramfsEntry[];
}

export async function readKernel(kernel_package: Package): Promise<Result<Kernel, MtError>> {
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
    VIRTIO_MODULES,
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
