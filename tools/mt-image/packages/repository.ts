/**
 * A folder of packages as a repository that apt reads without a network: nothing is fetched but what the cache
 * lacks, and what is in it is taken only with the digest that the archive's signed lists have for it.
 * Reads: apt's lists, the cache folder.
 * Writes: `Packages`, `Release` and a link a package in the folder of the repository.
 */
import { createHash } from "node:crypto";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { err, ok, type Result } from "neverthrow";
import type { MtError } from "../../../shared/errors.ts";
import { imageError, run } from "../errors.ts";
import type { Package } from "./packages.ts";

/** Makes the repository; gives its line for apt. */
export async function makeRepository(
  packages: Package[],
  suite: string,
  dir: string,
): Promise<Result<string, MtError>> {
  const action = "make a repository of the packages";
  const wanted = packages.map(({ name, version }) => `${name}=${version}`);
  const shown = await run("apt-cache", ["show", ...wanted], { action });
  if (shown.isErr()) return err(shown.error);
  const stanzas = stanzasOf(shown.value);
  const index: string[] = [];
  for (const { name, version } of packages) {
    const stanza = stanzas.get(`${name}=${version}`);
    if (stanza === undefined)
      return err(imageError("unavailable", action, `${name} ${version} is not in the package lists`));
    index.push(stanza.replace(/^Filename: .*$/m, `Filename: ./${name}.deb`));
  }
  const text = `${index.join("\n\n")}\n`;
  const digest = createHash("sha256").update(text).digest("hex");
  const release = `Suite: ${suite}\nCodename: ${suite}\nSHA256:\n ${digest} ${Buffer.byteLength(text)} Packages\n`;
  try {
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, "Packages"), text);
    await writeFile(join(dir, "Release"), release);
    for (const { name, file } of packages) await symlink(resolve(file), join(dir, `${name}.deb`));
    return ok(`deb [trusted=yes] copy:${resolve(dir)} ./`);
  } catch (error) {
    return err(imageError("io", action, error));
  }
}

/** By name and version; several archives may have the same version, with the same bytes. */
export function stanzasOf(text: string): Map<string, string> {
  const stanzas = new Map<string, string>();
  for (const stanza of text.split(/\n{2,}/)) {
    const name = /^Package: (.*)$/m.exec(stanza)?.[1];
    const version = /^Version: (.*)$/m.exec(stanza)?.[1];
    if (name === undefined || version === undefined || !/^SHA256: /m.test(stanza)) continue;
    if (!stanzas.has(`${name}=${version}`)) stanzas.set(`${name}=${version}`, stanza.trim());
  }
  return stanzas;
}
