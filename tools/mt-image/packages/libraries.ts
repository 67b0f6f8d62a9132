/**
 * Finds the shared libraries that a program needs in the packages that its own package depends on, level by level;
 * a deeper level is fetched only when a library is still missing.
 * Reads: .deb files in the cache folder.  Writes: .deb files there, through packages.ts.
 */
import { basename } from "node:path";
import { err, ok, type Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import { imageError } from "../errors.ts";
import { type DebFile, readDeb, readDepends } from "./deb.ts";
import { neededLibraries } from "./elf.ts";
import { fetchPackages, type Package } from "./packages.ts";

export interface Libraries {
  files: { soname: string; data: Buffer }[];
  /** Those packages that a library came from. */
  packages: Package[];
}

const LIBRARY_PATH = /^(\/usr)?\/lib(64)?\/([a-z0-9_]+-linux-gnu\/)?[^/]+\.so(\.[^/]*)?$/;

/** The libraries that `program`, out of the package `from`, loads when it starts. */
export async function findLibraries(
  program: Buffer,
  from: Package,
  cache_dir: string,
): Promise<Result<Libraries, MtError>> {
  const found = new Map<string, Buffer>();
  const used = new Set<Package>();
  const seen = new Set<string>([from.name]);
  const offers = new Map<string, { data: Buffer; from: Package }>();
  let level = [from];
  for (;;) {
    const missing = resolveNeeded(program, offers, found, used);
    if (missing.length === 0) break;
    const names: string[] = [];
    for (const parent of level) {
      const depends = await readDepends(parent.file);
      if (depends.isErr()) return err(depends.error);
      for (const name of depends.value) {
        if (seen.has(name)) continue;
        seen.add(name);
        names.push(name);
      }
    }
    if (names.length === 0) {
      return err(
        imageError(
          "unavailable",
          `find ${missing.join(", ")}`,
          `no package that ${from.name} depends on has it`,
        ),
      );
    }
    const packages = await fetchPackages(names, cache_dir);
    if (packages.isErr()) return err(packages.error);
    for (const offering of packages.value) {
      const files = await readDeb(offering.file, (path) => LIBRARY_PATH.test(path));
      if (files.isErr()) return err(files.error);
      for (const [soname, data] of librariesOf(files.value)) offers.set(soname, { data, from: offering });
    }
    level = packages.value;
  }
  return ok({ files: [...found].map(([soname, data]) => ({ soname, data })), packages: [...used] });
}

/** Adds to `found` the libraries that are among the offers; gives the sonames that are missing. */
function resolveNeeded(
  program: Buffer,
  offers: Map<string, { data: Buffer; from: Package }>,
  found: Map<string, Buffer>,
  used: Set<Package>,
): string[] {
  const missing = new Set<string>();
  const queue = neededLibraries(program);
  const visited = new Set<string>();
  for (let soname = queue.pop(); soname !== undefined; soname = queue.pop()) {
    if (visited.has(soname)) continue;
    visited.add(soname);
    const offer = offers.get(soname);
    if (offer === undefined) {
      missing.add(soname);
      continue;
    }
    found.set(soname, offer.data);
    used.add(offer.from);
    queue.push(...neededLibraries(offer.data));
  }
  return [...missing].sort();
}

/** Libraries by soname, which is a file's name or a link's; links in /lib64 have the same name as their target. */
function librariesOf(files: DebFile[]): Map<string, Buffer> {
  const libraries = new Map<string, Buffer>();
  for (const { path, data } of files) {
    if (data !== undefined) libraries.set(basename(path), data);
  }
  for (const { path, target } of files) {
    const data = target === undefined ? undefined : libraries.get(basename(target));
    if (data !== undefined && !libraries.has(basename(path))) libraries.set(basename(path), data);
  }
  return libraries;
}
