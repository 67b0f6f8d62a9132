/**
 * Fetches Debian packages into a cache folder, without installing anything on the host.
 * A package whose file is in the cache with the size that apt announces is not fetched again.
 * Reads: apt's lists (as root, runs `apt-get update` once if they are missing or stale), the cache folder.
 * Writes: .deb files in the cache folder.
 */
import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import { imageError, run } from "../errors.ts";
import { readDepends } from "./deb.ts";

export interface Package {
  name: string;
  version: string;
  /** The .deb file in the cache. */
  file: string;
}

/** Fetches the candidate versions of the packages named, in that order. */
export async function fetchPackages(names: string[], cache_dir: string): Promise<Result<Package[], MtError>> {
  const action = `download ${names.join(", ")}`;
  try {
    await mkdir(cache_dir, { recursive: true });
  } catch (error) {
    return err(imageError("io", `create ${cache_dir}`, error));
  }
  return withLists(() => fetchOnce(names, cache_dir, action));
}

/** Tries again with fresh package lists after a failure: lists may be missing, or name a version that has been replaced. */
async function withLists<T>(attempt: () => Promise<Result<T, MtError>>): Promise<Result<T, MtError>> {
  const first = await attempt();
  if (first.isOk()) return first;
  if (process.getuid?.() !== 0)
    return first.mapErr((error) => ({ ...error, hint: error.hint ?? "as root, once: apt-get update" }));
  const updated = await run("apt-get", ["update"], { action: "update the package lists" });
  if (updated.isErr()) return err({ ...first.error, hint: first.error.hint ?? updated.error.message });
  return attempt();
}

/**
 * The names of all packages that apt would install for `wanted` into an empty system, Debian's essential ones included.
 * @param scratch_dir an empty directory as apt's cache: apt does not list packages that are in its cache
 */
export function resolvePackages(wanted: string[], scratch_dir: string): Promise<Result<string[], MtError>> {
  const action = `resolve ${wanted.join(", ")}`;
  const options = {
    "Dir::State::status": "/dev/null",
    "Dir::Cache::archives": `${scratch_dir}/`,
    "APT::Architectures": "amd64",
    "APT::Install-Recommends": "false",
  };
  const argv = Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  return withLists(async () => {
    try {
      await mkdir(join(scratch_dir, "partial"), { recursive: true });
    } catch (error) {
      return err(imageError("io", action, error));
    }
    const words = [...argv, "--print-uris", "-y", "install", "?essential", ...wanted];
    return (await run("apt-get", words, { action })).map((text) => [...parseUris(text).keys()].sort());
  });
}

/** The one kernel package that a kernel meta-package depends on now. */
export async function fetchKernel(
  meta_package: string,
  cache_dir: string,
): Promise<Result<Package, MtError>> {
  const meta = await fetchPackages([meta_package], cache_dir);
  if (meta.isErr()) return err(meta.error);
  const depends = await readDepends(meta.value[0]!.file);
  if (depends.isErr()) return err(depends.error);
  const name = depends.value.find((depend) => depend.startsWith("linux-image-"));
  if (name === undefined) {
    return err(
      imageError("unavailable", `find the kernel of ${meta_package}`, "it depends on no linux-image package"),
    );
  }
  return (await fetchPackages([name], cache_dir)).map((packages) => packages[0]!);
}

async function fetchOnce(
  names: string[],
  cache_dir: string,
  action: string,
): Promise<Result<Package[], MtError>> {
  // Not in the cache folder: apt would leave out packages that are there already.
  const listing = await run("apt-get", ["download", "--print-uris", ...names], { action, cwd: "/" });
  if (listing.isErr()) return err(listing.error);
  const announced = parseUris(listing.value);
  const packages: Package[] = [];
  const missing: string[] = [];
  for (const name of names) {
    const found = announced.get(name);
    if (found === undefined)
      return err(imageError("unavailable", action, `${name} is not in the package lists`));
    const file = join(cache_dir, found.file_name);
    packages.push({ name, version: found.version, file });
    if ((await fileSize(file)) !== found.size_bytes) missing.push(name);
  }
  if (missing.length > 0) {
    // As root, because apt's sandbox user may not write into the cache folder. apt checks the digests itself.
    const argv = ["-q", "-o", "APT::Sandbox::User=root", "download", ...missing];
    const fetched = await run("apt-get", argv, { action, cwd: cache_dir });
    if (fetched.isErr()) return err(fetched.error);
  }
  return ok(packages);
}

interface Announced {
  file_name: string;
  version: string;
  size_bytes: number;
}

/** Parses `'URI' name_version_arch.deb SIZE HASH` lines; a colon in a version comes as %3a. */
export function parseUris(text: string): Map<string, Announced> {
  const announced = new Map<string, Announced>();
  for (const line of text.split("\n")) {
    const match = /^'[^']*' (([^_\s/]+)_([^_\s/]+)_[^_\s/]+\.deb) (\d+)/.exec(line);
    if (match === null) continue;
    const [, file_name, name, version, size] = match as unknown as [string, string, string, string, string];
    announced.set(name, { file_name, version: decodeURIComponent(version), size_bytes: Number(size) });
  }
  return announced;
}

async function fileSize(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch {
    return undefined;
  }
}
