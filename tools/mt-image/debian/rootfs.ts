/**
 * Makes a Debian root file system in a directory with mmdebstrap: packages are unpacked and configured in a chroot.
 * The same packages give the same tree.
 * Reads: a repository of packages, as root.  Writes: the directory.
 */
import {
  chmodSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import { imageError, run } from "../errors.ts";
import { type DiskFile, NOT_ON_DISK } from "./guest.ts";

/** Directories of /usr/share that are left out: nobody reads them in a guest, and they are a third of the files. */
const LEFT_OUT = ["doc", "man", "info", "locale", "lintian", "doc-base"];
/** mmdebstrap's hook that makes `/bin` a link to `/usr/bin`. */
const MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr";
const TIMEOUT_S = 600;

export interface RootOptions {
  /** A line of sources.list. */
  repository: string;
  suite: string;
  packages: string[];
  /** Written into the tree; they replace files of packages. */
  files: DiskFile[];
  /** Seconds: the newest time that a file has. */
  epoch: number;
  scratch_dir: string;
}

/** Makes the tree in `dir`, which must not exist yet. */
export async function makeRoot(dir: string, options: RootOptions): Promise<Result<void, MtError>> {
  const action = "make the root file system";
  const { repository, suite, packages, epoch, scratch_dir } = options;
  const argv = [
    ...["--mode=root", "--variant=essential", "--format=directory", `--hook-dir=${MERGED_USR}`],
    ...[
      "--dpkgopt=force-unsafe-io",
      ...LEFT_OUT.map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`),
    ],
    ...['--aptopt=APT::Sandbox::User "root"', "--skip=output/mknod"],
    ...[`--include=${packages.join(",")}`, suite, dir, repository],
  ];
  const env = {
    SOURCE_DATE_EPOCH: String(epoch),
    TMPDIR: scratch_dir,
    TZ: "UTC",
    PATH: `${process.env.PATH ?? ""}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`,
  };
  // For the programs that run in the chroot, and the directories that are made here.
  const umask = process.umask(0o022);
  try {
    const made = await run("mmdebstrap", argv, { action, env, timeout_s: TIMEOUT_S });
    if (made.isErr()) return err(made.error);
    // insserv writes its dependency files in the order of the directory, which differs between file systems. Without
    // them init runs scripts one after another.
    for (const [folder, begin] of [...NOT_ON_DISK, ["etc/init.d", ".depend."] as const])
      for (const name of readdirSync(join(dir, folder)))
        if (name.startsWith(begin)) unlinkSync(join(dir, folder, name));
    for (const { path, mode, data } of options.files) {
      const full = join(dir, path);
      mkdirSync(dirname(full), { recursive: true });
      rmSync(full, { force: true });
      writeFileSync(full, data);
      chmodSync(full, mode);
    }
    chmodSync(dir, 0o755);
    clampTimes(dir, epoch);
    return ok(undefined);
  } catch (error) {
    return err(imageError("io", action, error));
  } finally {
    process.umask(umask);
  }
}

/** Makes no file newer than `epoch`. Directories were changed just now, so their times are always set. */
function clampTimes(path: string, epoch: number): void {
  const stat = lstatSync(path);
  if (stat.isDirectory()) for (const name of readdirSync(path)) clampTimes(join(path, name), epoch);
  const mtime = stat.isDirectory() ? epoch : Math.min(Math.floor(stat.mtimeMs / 1000), epoch);
  lutimesSync(path, epoch, mtime);
}
