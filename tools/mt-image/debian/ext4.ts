/**
 * A directory as an ext4 file system in a compressed qcow2 file: the same tree gives the same bytes.
 * Reads: a directory, as root.  Writes: the qcow2 file; a sparse raw one beside it, for the time being.
 */
import { rm, writeFile } from "node:fs/promises";
import { err, type Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import { imageError, run } from "../errors.ts";

/** What a guest sees; a host holds what its guest has written. */
const DISK_GIB = 2;
/** One for all: a disk is known by its digest, and no guest sees another's. */
const UUID = "6d656761-7475-7800-8000-000000000001";
const HASH_SEED = "6d656761-7475-7800-8000-000000000002";
const FIRST_INODE = 11;

/** @param epoch the time, in seconds, that every inode and the file system itself get */
export async function makeDisk(tree: string, qcow2: string, epoch: number): Promise<Result<void, MtError>> {
  const action = "make the disk";
  const raw = `${qcow2}.raw`;
  // SOURCE_DATE_EPOCH is heard by a later mke2fs, E2FSPROGS_FAKE_TIME by this one too. Names sort by locale.
  const env = { E2FSPROGS_FAKE_TIME: String(epoch), SOURCE_DATE_EPOCH: String(epoch), TZ: "UTC" };
  const tool = (program: string, argv: string[]) => run(program, argv, { action, env });
  try {
    const made = await tool("mke2fs", [
      ...["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", "debian", "-U", UUID],
      // No checksums of metadata: a guest computes each of them, translated. Nothing is left to initialise later.
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
    // mke2fs takes the times from the tree, where nobody can set a ctime.
    const script = `${raw}.times`;
    await writeFile(script, setTimes(last, epoch));
    const timed = await tool("debugfs", ["-w", "-f", script, raw]);
    await rm(script, { force: true });
    if (timed.isErr()) return err(timed.error);
    // Read without a pause, written once, and pushed to every host: a third of the size costs a boot nothing.
    const words = ["convert", "-O", "qcow2", "-c", "-o", "compression_type=zstd", raw, qcow2];
    return (await tool("qemu-img", words)).map(() => undefined);
  } catch (error) {
    return err(imageError("io", action, error));
  } finally {
    await rm(raw, { force: true });
  }
}

/** Commands for debugfs. mke2fs takes inodes in a row: the root is 2, the others begin at 11. */
function setTimes(last: number, epoch: number): string {
  const inodes = [
    2,
    ...Array.from({ length: Math.max(0, last - FIRST_INODE + 1) }, (_, i) => FIRST_INODE + i),
  ];
  const fields = ["atime", "ctime", "crtime"].flatMap((name) => [`${name} @${epoch}`, `${name}_extra 0`]);
  return inodes.flatMap((inode) => fields.map((field) => `sif <${inode}> ${field}\n`)).join("");
}
