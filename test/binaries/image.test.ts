/**
 * Images are reproducible: the same packages give the same bytes, so the same digests, on the compiled binary,
 * in two stores, at two times, with another umask and time zone. Needs `make build` and Debian's packages.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ROOT } from "../unit/shared/fixtures.ts";

/** Packages that another run has fetched are used again. */
const CACHE = "/var/lib/megatux/cache/packages";
const BUILD_S = 200;

interface Image {
  kind: string;
  id: string;
  files: Record<string, string>;
}
let work: string;
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), "mtt-image-"));
});
afterAll(() => rmSync(work, { recursive: true, force: true }));

/** Builds into a store of its own; a shell line before it sets things that must make no difference. */
function build(name: string, before: string, env: NodeJS.ProcessEnv): Image {
  const done = spawnSync(
    "bash",
    ["-c", `${before}; exec "$0" build tux --cache ${CACHE}`, join(ROOT, "dist/mt-image")],
    {
      cwd: work,
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: work, MT_STATE: join(work, name), ...env },
      encoding: "utf8",
      timeout: BUILD_S * 1000,
    },
  );
  expect(done.status, done.stderr).toBe(0);
  return JSON.parse(done.stdout) as Image;
}

test.skipIf(process.getuid?.() !== 0)(
  "the same packages give the same bytes (needs root)",
  () => {
    const first = build("a", "umask 022", { TZ: "UTC", LANG: "C.UTF-8" });
    const second = build("b", "umask 077; cd /", {
      TZ: "Pacific/Kiritimati",
      LC_ALL: "C",
      MT_RUN: join(work, "r"),
    });
    expect(Object.keys(first.files).sort()).toEqual(["initrd", "kernel"]);
    expect(second).toEqual(first);
    // And the store holds, twice, the bytes that the digests name.
    for (const digest of Object.values(first.files))
      for (const name of ["a", "b"]) {
        const file = join(work, name, "store/sha256", digest.slice("sha256:".length));
        expect(existsSync(file), file).toBe(true);
        expect(`sha256:${createHash("sha256").update(readFileSync(file)).digest("hex")}`).toBe(digest);
      }
  },
  2 * BUILD_S * 1000,
);
