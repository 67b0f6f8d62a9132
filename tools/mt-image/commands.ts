/** mt-image build and ls: from packages to files in the store, and what is there. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { Invocation } from "../../shared/cli/start.ts";
import { inform } from "../../shared/cli/stderr.ts";
import { EXIT, MtFailure, mtError, orThrow } from "../../shared/errors.ts";
import { lock } from "../../shared/lock.ts";
import { imagePath, stateDir, storeDir } from "../../shared/names.ts";
import { type Image, validate } from "../../shared/records/index.ts";
import { storeHas, storeTakeFile } from "../../shared/store.ts";
import { writeAll } from "../../shared/stream/writer.ts";
import { buildTux } from "./build.ts";

export async function build({ args }: Invocation): Promise<number> {
  const name = String(args.image);
  if (name !== "tux")
    throw new MtFailure(
      mtError(
        "usage",
        `Cannot build image ${JSON.stringify(name)}: there is no such image`,
        "mt-image build tux",
      ),
    );
  const unlock = orThrow(await lock(join(stateDir(), "images", ".lock"), `mt-image build ${name}`, 600));
  try {
    const known = readImage(name);
    if (args.missing === true && known && Object.values(known.files ?? {}).every((d) => storeHas(String(d))))
      return print([known]);
    const cache_dir = args.cache === undefined ? join(stateDir(), "cache", "packages") : String(args.cache);
    mkdirSync(storeDir(), { recursive: true, mode: 0o700 });
    const output_dir = mkdtempSync(join(storeDir(), "build-"));
    try {
      if (args.progress === true) inform(`building ${name}: fetching and unpacking Debian packages`);
      const built = orThrow(await buildTux({ output_dir, cache_dir }));
      const kernel = orThrow(await storeTakeFile(built.kernel));
      const initrd = orThrow(await storeTakeFile(built.initrd));
      const image = {
        kind: "image",
        id: name,
        os: "linux",
        fork: true,
        files: { kernel: kernel.digest, initrd: initrd.digest },
        packages: built.packages,
      } as const;
      writeImage(image);
      return print([image]);
    } finally {
      rmSync(output_dir, { recursive: true, force: true });
    }
  } finally {
    unlock();
  }
}

export async function ls(): Promise<number> {
  const dir = dirname(imagePath("tux"));
  const names = existsSync(dir) ? readdirSync(dir).filter((f) => f.endsWith(".json")) : [];
  return print(
    names
      .sort()
      .map((f) => readImage(f.slice(0, -".json".length)))
      .filter((i) => i !== undefined),
  );
}

/** The image record of this host; undefined where there is none, or it can't be read (then it is built anew). */
function readImage(name: string): Image | undefined {
  try {
    return validate("image", JSON.parse(readFileSync(imagePath(name), "utf8"))).unwrapOr(
      undefined as unknown as Image,
    );
  } catch {
    return undefined;
  }
}

function writeImage(image: Image): void {
  const path = imagePath(image.id);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeFileSync(`${path}.new`, `${JSON.stringify(image)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

function print(images: Image[]): number {
  if (images.length > 0) writeAll(1, Buffer.from(images.map((i) => `${JSON.stringify(i)}\n`).join("")));
  return EXIT.ok;
}
