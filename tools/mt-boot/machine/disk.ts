/**
 * A guest's disk: the image's file in the store, read-only and shared by all of its guests, and an overlay for each
 * guest that takes what it writes. The overlay is made before QEMU starts, kept when the guest is started again, and
 * removed by `mt-boot down`. A guest whose disk fails sees no error: it is stopped, and goes on when the disk works.
 */
import {
  accessSync,
  chmodSync,
  closeSync,
  constants,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { copyFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { type MtError, mtError, toMtError } from "../../../shared/errors.ts";
import { disksDir } from "../../../shared/host/names.ts";
import { run } from "../../../shared/host/process.ts";
import { ownDir } from "../../../shared/own-place.ts";
import type { Boot, Disk } from "../platforms/platform.ts";
import type { QmpEvent } from "./qmp.ts";

const QEMU_IMG = "qemu-img";
const QCOW2_MAGIC = 0x514649fb;
/** Longest name of a backing file in a qcow2 header. */
const BACKING_BYTES_MAX = 1023;

/** The overlay of the guest with this directory. */
export const overlayOf = (experiment: string, guestDir: string) =>
  join(disksDir(experiment), `${basename(guestDir)}.qcow2`);

/**
 * The arguments of QEMU for a disk. All nodes are given explicitly, so that no file name in a qcow2 header is ever
 * opened. An error of the disk stops the guest, which the supervisor sees; the guest is not given the error.
 */
export function diskArgv({ base, overlay }: Disk): string[] {
  const node = (name: string, options: object) => [
    "-blockdev",
    JSON.stringify({ "node-name": name, ...options }),
  ];
  return [
    ...node("base-file", { driver: "file", filename: base, "read-only": true }),
    ...node("base", { driver: "qcow2", file: "base-file", "read-only": true, backing: null }),
    ...node("disk-file", { driver: "file", filename: overlay, discard: "unmap" }),
    ...node("disk", { driver: "qcow2", file: "disk-file", backing: "base", discard: "unmap" }),
    ...["-device", "virtio-blk-pci,drive=disk,werror=stop,rerror=stop"],
  ];
}

/**
 * Makes the overlay of a guest that has a disk, where it has none yet for this image.
 * @param saved an overlay that was saved: replaces the one that is there
 */
export async function prepareDisk({ disk }: Boot, saved?: string): Promise<Result<void, MtError>> {
  if (!disk) return ok(undefined);
  const { base, overlay } = disk;
  const part = `${overlay}.new`;
  try {
    if (saved !== undefined) {
      ownDir(dirname(overlay));
      await copyDisk(saved, overlay);
      return ok(undefined);
    }
    // Compared by its name, a digest: the store may have been moved.
    if (basename(backingFile(overlay) ?? "") === basename(base)) {
      accessSync(overlay, constants.R_OK | constants.W_OK);
      return ok(undefined);
    }
    ownDir(dirname(overlay));
    // Left by an interrupted run.
    rmSync(part, { force: true });
    const made = await run(QEMU_IMG, ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, part]);
    if (made.isErr()) return err({ ...made.error, message: `Cannot boot {id}: ${made.error.message}` });
    if (made.value.code !== 0) return err(notMade(overlay, made.value.stderr));
    chmodSync(part, 0o600);
    renameSync(part, overlay);
    return ok(undefined);
  } catch (thrown) {
    const error = toMtError(thrown);
    return err({ ...error, message: `Cannot boot {id}: its disk: ${error.message}` });
  } finally {
    rmSync(part, { force: true });
  }
}

/** Copies an overlay that no QEMU is writing to; the copy is there whole or not at all. Gives its size in bytes. @throws */
export async function copyDisk(from: string, to: string): Promise<number> {
  const part = `${to}.new`;
  // Removed first, so that a link that somebody put there is not written through.
  rmSync(part, { force: true });
  try {
    await copyFile(from, part, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL);
    chmodSync(part, 0o600);
    renameSync(part, to);
    return statSync(to).size;
  } finally {
    rmSync(part, { force: true });
  }
}

function notMade(overlay: string, stderr: string): MtError {
  const why =
    stderr
      .trim()
      .split("\n")[0]
      ?.replace(/^qemu-img: (?:\S+: )?/, "") || "qemu-img failed";
  return mtError("io", `Cannot boot {id}: its disk cannot be made: ${why}`, `df ${dirname(overlay)}`);
}

/** The backing file that a qcow2 file names; undefined where the file is missing or damaged. */
export function backingFile(path: string): string | undefined {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw thrown;
  }
  try {
    const head = Buffer.alloc(24);
    if (readSync(fd, head, 0, 24, 0) < 24 || head.readUInt32BE(0) !== QCOW2_MAGIC) return undefined;
    const length = head.readUInt32BE(16);
    if (length === 0 || length > BACKING_BYTES_MAX) return undefined;
    const name = Buffer.alloc(length);
    return readSync(fd, name, 0, length, Number(head.readBigUInt64BE(8))) === length
      ? name.toString()
      : undefined;
  } finally {
    closeSync(fd);
  }
}

/** Whether QEMU has stopped a guest because of an error of its disk: such a guest answers nothing. */
export class Stall {
  error: MtError | undefined;
  readonly #waiting = new Set<(error: MtError) => void>();

  begin(error: MtError): void {
    this.error = error;
    for (const tell of this.#waiting) tell(error);
  }

  /** The guest goes on, or is about to. */
  end(): void {
    this.error = undefined;
  }

  /** The result of the work, or the disk's error if that comes first. */
  async unlessStalled<T>(work: Promise<Result<T, MtError>>): Promise<Result<T, MtError>> {
    if (this.error) return err(this.error);
    let tell: (error: MtError) => void = () => {};
    const stalled = new Promise<Result<T, MtError>>((resolve) => {
      tell = (error) => resolve(err(error));
    });
    this.#waiting.add(tell);
    try {
      return await Promise.race([work, stalled]);
    } finally {
      this.#waiting.delete(tell);
    }
  }
}

/** The error where no supervisor was connected to QEMU when it happened. */
export const STOPPED_BY_DISK = mtError("io", "Cannot keep {id} running: an error of its disk has stopped it");

/** The error of a guest that QEMU has stopped because of its disk; undefined for every other event. */
export function diskError({ event, data }: QmpEvent): MtError | undefined {
  if (event !== "BLOCK_IO_ERROR" || data?.action !== "stop") return undefined;
  if (data.nospace === true)
    return mtError(
      "io",
      "Cannot keep {id} running: the disk that its own disk is on is full",
      "it is stopped and goes on when there is space again under MT_STATE",
    );
  const verb = data.operation === "read" ? "read" : "written";
  return mtError(
    "io",
    `Cannot keep {id} running: its disk cannot be ${verb}: ${data.reason ?? "input/output error"}`,
    "it is stopped and goes on when the disk under MT_STATE does",
  );
}
