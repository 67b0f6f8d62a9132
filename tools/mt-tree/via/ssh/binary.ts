/**
 * The binary that hosts are given: `mt`, which has all tools, where one of our release is beside this mt-tree; else
 * mt-tree alone, which is enough to run what a host has. Hosts keep it under its digest.
 */
import { createReadStream, existsSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { ok, type Result } from "neverthrow";
import { versionLine } from "../../../../shared/cli/start.ts";
import { fail, type MtError } from "../../../../shared/errors.ts";
import { run } from "../../../../shared/host/process.ts";
import { digestOf } from "../../../../shared/host/store.ts";
import { COMMIT } from "../../../../shared/version.ts";

export interface Binary {
  path: string;
  name: "mt" | "mt-tree";
  /** Hex. */
  sha256: string;
  size: number;
}

/** What mt-tree of this release prints for `--version`. */
export const RELEASE = versionLine("mt-tree");
/** Whether that tells this release from every other: builds without a commit all print the same. */
export const KNOWN_RELEASE = COMMIT !== "unknown";

/** The binary for hosts that have no mt-tree of this release. */
export async function findBinary(): Promise<Result<Binary, MtError>> {
  const entry = process.argv[1] ?? "";
  if (/\.ts$/.test(entry) && !entry.startsWith("/$bunfs/"))
    return fail(
      "unavailable",
      "Cannot bring mt to hosts: mt-tree runs from source here",
      "make build, then dist/mt-tree up … --via ssh",
    );
  const self = process.execPath;
  if (basename(self) === "mt") return ok(await describe(self, "mt"));
  const whole = join(dirname(self), "mt");
  if (existsSync(whole)) {
    const said = await run(whole, ["mt-tree", "--version"]);
    if (said.isOk() && said.value.stdout.trim() === RELEASE) return ok(await describe(whole, "mt"));
  }
  return ok(await describe(self, "mt-tree"));
}

async function describe(path: string, name: Binary["name"]): Promise<Binary> {
  return { path, name, sha256: (await digestOf(path)).replace("sha256:", ""), size: statSync(path).size };
}

/** A file as it is sent: by gzip at its fastest level. */
export async function packed(path: string): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const file = createReadStream(path, { highWaterMark: 1024 * 1024 });
  await pipeline(file, createGzip({ level: 1 }), async (source: AsyncIterable<Buffer>) => {
    for await (const piece of source) pieces.push(piece);
  });
  return Buffer.concat(pieces);
}
