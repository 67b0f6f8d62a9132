/**
 * Takes wanted files out of a Debian package, in memory, without installing it.
 * Reads: a .deb file, through `dpkg-deb --fsys-tarfile` and a streaming tar parser.
 * Writes: nothing.
 */
import { spawn } from "node:child_process";
import { err, ok, type Result } from "neverthrow";
import type { ReadEntry } from "tar";
import type { MtError } from "../../../shared/errors.ts";
import { findProgram } from "../../../shared/host/process.ts";
import { imageError, lastError, run } from "../errors.ts";

/** One member of a package: a regular file has `data`, a link has `target`. Paths are absolute. */
export interface DebFile {
  path: string;
  mode: number;
  data?: Buffer;
  target?: string;
}

/** Reads those files of a package whose absolute path `wanted` accepts. */
export async function readDeb(
  deb: string,
  wanted: (path: string) => boolean,
): Promise<Result<DebFile[], MtError>> {
  const options = { action: `unpack ${deb}` };
  const dpkg = findProgram("dpkg-deb");
  if (dpkg.isErr()) return err(dpkg.error);
  const { Parser } = await import("tar");
  return new Promise((resolve) => {
    const child = spawn(dpkg.value, ["--fsys-tarfile", deb], { stdio: ["ignore", "pipe", "pipe"] });
    const files: DebFile[] = [];
    let stderr = "";
    let status: number | null | undefined;
    let parsed = false;
    const settle = (result: Result<DebFile[], MtError>) => {
      clearTimeout(timer);
      resolve(result);
    };
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      settle(err(imageError("io", options.action, "dpkg-deb did not end within 120 s")));
    }, 120_000);
    const finish = () => {
      if (status === undefined || (status === 0 && !parsed)) return;
      if (status === 0) settle(ok(files));
      else
        settle(err(imageError("io", options.action, lastError(stderr) ?? `dpkg-deb ended with ${status}`)));
    };
    const parser = new Parser({
      strict: true,
      onReadEntry: (entry: ReadEntry) => {
        const path = entry.path.replace(/^\.?\/*/, "/").replace(/\/$/, "");
        if (entry.type === "Directory" || !wanted(path)) return entry.resume();
        const mode = (entry.mode ?? 0o644) & 0o7777;
        if (entry.type === "SymbolicLink" || entry.type === "Link") {
          files.push({ path, mode, target: entry.linkpath ?? "" });
          return entry.resume();
        }
        const chunks: Buffer[] = [];
        entry.on("data", (chunk: Buffer) => chunks.push(chunk));
        entry.on("end", () => files.push({ path, mode, data: Buffer.concat(chunks) }));
      },
    });
    parser.on("end", () => {
      parsed = true;
      finish();
    });
    parser.on("error", (error: Error) => settle(err(imageError("io", options.action, error))));
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    child.on("error", (error) => settle(err(imageError("io", options.action, error))));
    child.on("close", (code) => {
      status = code;
      finish();
    });
    child.stdout.pipe(parser as unknown as NodeJS.WritableStream);
  });
}

/** The first alternative of each direct dependency of a package file, Pre-Depends left out. */
export async function readDepends(deb: string): Promise<Result<string[], MtError>> {
  const field = await run("dpkg-deb", ["--field", deb, "Depends"], { action: `read ${deb}` });
  return field.map((text) =>
    text
      .split(",")
      .map((alternatives) => (alternatives.split("|")[0] ?? "").trim().replace(/[\s:(].*$/s, ""))
      .filter((name) => name !== ""),
  );
}
