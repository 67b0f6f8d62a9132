/**
 * A directory as an ext4 file system in a compressed qcow2 file: the same tree gives the same bytes.
 * Reads: a directory, as root.  Writes: the qcow2 file; a sparse raw one beside it, for the time being.
 */
import { rm, writeFile } from "node:fs/promises";
import { err, type Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import { imageError, run } from "../errors.ts";

/** Size that a guest sees; on the host its overlay takes only what the guest has written. */
const DISK_GIB = 2;
/** The same for all, so that the same tree gives the same bytes; no guest sees another's disk. */
const UUID = "6d656761-7475-7800-8000-000000000001";
const HASH_SEED = "6d656761-7475-7800-8000-000000000002";
const FIRST_INODE = 11;

/** @param epoch the time, in seconds, that every inode and the file system itself get */
export async function makeDisk(tree: string, qcow2: string, epoch: number): Promise<Result<void, MtError>> {
  const action = "make the disk";
  const raw = `${qcow2}.raw`;
  // Debian 12's mke2fs knows E2FSPROGS_FAKE_TIME, later ones SOURCE_DATE_EPOCH.
  const env = { E2FSPROGS_FAKE_TIME: String(epoch), SOURCE_DATE_EPOCH: String(epoch), TZ: "UTC" };
  const tool = (program: string, argv: string[]) => run(program, argv, { action, env });
  try {
    const made = await tool("mke2fs", [
      ...["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", "debian", "-U", UUID],
      // No metadata checksums, which a translated guest would compute at each write. Nothing is left to initialise later.
      ...["-O", "^metadata_csum,^64bit,^resize_inode", "-d", tree],
      ...["-E", `hash_seed=${HASH_SEED},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0`],
      ...[raw, `${DISK_GIB}G`],
    ]);
    if (made.isErr()) return err(made.error);
    const header = await tool("dumpe2fs", ["-h", raw]);
    if (header.isErr()) return err(header.error);
    const count = (name: string) => Number(new RegExp(`^${name}: *(\\d+)$`, "m").exec(header.value)?.[1]);
    const last = count("Inode count") - count("Free inodes");
    if (!Number.isInteger(last)) return err(imageError("unavailable", action, "dumpe2fs says no counts"));
    // mke2fs takes all times from the tree, where a ctime cannot be set.
    const script = `${raw}.times`;
    await writeFile(script, setTimes(last, epoch));
    const timed = await tool("debugfs", ["-w", "-f", script, raw]);
    await rm(script, { force: true });
    if (timed.isErr()) return err(timed.error);
    // Compressed: a third of the size to push to every host, and no slower boot.
    const words = ["convert", "-O", "qcow2", "-c", "-o", "compression_type=zstd", raw, qcow2];
    return (await tool("qemu-img", words)).map(() => undefined);
  } catch (error) {
    return err(imageError("io", action, error));
  } finally {
    await rm(raw, { force: true });
  }
}

/** Commands for debugfs. mke2fs numbers inodes without gaps: the root is 2, the others begin at 11. */
function setTimes(last: number, epoch: number): string {
  const inodes = [
    2,
    ...Array.from({ length: Math.max(0, last - FIRST_INODE + 1) }, (_, i) => FIRST_INODE + i),
  ];
  const fields = ["atime", "ctime", "crtime"].flatMap((name) => [`${name} @${epoch}`, `${name}_extra 0`]);
  return inodes.flatMap((inode) => fields.map((field) => `sif <${inode}> ${field}\n`)).join("");
}
