/** mt-image build and ls: from packages to files in the store, and what is there. */
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Result } from "neverthrow";
import type { ArgsOf, Run } from "../../shared/cli/invocation.ts";
import { inform } from "../../shared/cli/stderr.ts";
import { EXIT, type MtError, orThrow } from "../../shared/errors.ts";
import { lock } from "../../shared/host/lock.ts";
import { imagePath, stateDir, storeDir } from "../../shared/host/names.ts";
import { storeHas, storeTakeFile } from "../../shared/host/store.ts";
import { ownDir, ownTempDir, readOwnJson, removeOwn, writeOwn } from "../../shared/own-place.ts";
import type { Image } from "../../shared/records/index.ts";
import { validate } from "../../shared/records/validate.ts";
import { writeAll } from "../../shared/stream/writer.ts";
import { buildDebian } from "./debian/debian.ts";
import { endProgramsBy } from "./errors.ts";
import type { spec } from "./spec.ts";
import { type BuildOptions, type BuiltImage, buildTux } from "./tux/build.ts";

/** The images that can be built. Guests with a disk are not forked: clones would share the template's cached disk blocks. */
const IMAGES: Readonly<
  Record<
    ArgsOf<typeof spec, "build">["image"],
    { fork: boolean; build: (options: BuildOptions) => Promise<Result<BuiltImage, MtError>> }
  >
> = {
  tux: { fork: true, build: buildTux },
  debian: { fork: false, build: buildDebian },
};

/** To be raised when what mt-image puts into guests changes: images of an earlier recipe are built anew. */
const RECIPE_VERSION = 2;

export const build: Run<typeof spec, "build"> = async ({ args, signal }) => {
  const name = args.image;
  const recipe = IMAGES[name];
  endProgramsBy(signal);
  const unlock = orThrow(await lock(join(stateDir(), "images", ".lock"), `mt-image build ${name}`, 600));
  try {
    const known = readImage(name);
    const whole =
      known?.recipe === RECIPE_VERSION && Object.values(known.files ?? {}).every((d) => storeHas(String(d)));
    if (args.missing && whole) return print([known]);
    const cache_dir = args.cache ?? ownDir(join(stateDir(), "cache", "packages"));
    ownDir(storeDir());
    // Left by a build that was killed; with the lock there is no other build now.
    for (const left of readdirSync(storeDir()).filter((entry) => entry.startsWith("build-")))
      removeOwn(join(storeDir(), left));
    const output_dir = ownTempDir(join(storeDir(), "build-"));
    try {
      if (args.progress) inform(`building ${name}: fetching and unpacking Debian packages`);
      const built = orThrow(await recipe.build({ output_dir, cache_dir }));
      const { kernel, initrd, disk } = built.files;
      const take = async (file: string) => orThrow(await storeTakeFile(file)).digest;
      const image = {
        kind: "image" as const,
        id: name,
        recipe: RECIPE_VERSION,
        os: "linux" as const,
        fork: recipe.fork,
        files: {
          kernel: await take(kernel),
          initrd: await take(initrd),
          ...(disk === undefined ? {} : { disk: await take(disk) }),
        },
        packages: built.packages,
      };
      writeImage(image);
      return print([image]);
    } finally {
      removeOwn(output_dir);
    }
  } finally {
    unlock();
  }
};

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

/** The image record of this host; undefined where there is none, or it cannot be read: then the image is built anew. */
function readImage(name: string): Image | undefined {
  const image = validate("image", readOwnJson(imagePath(name)));
  return image.isOk() ? image.value : undefined;
}

function writeImage(image: Image): void {
  writeOwn(imagePath(image.id), `${JSON.stringify(image)}\n`);
}

function print(images: Image[]): number {
  if (images.length > 0) writeAll(1, Buffer.from(images.map((i) => `${JSON.stringify(i)}\n`).join("")));
  return EXIT.ok;
}
