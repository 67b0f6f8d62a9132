import {
  chmodSync,
  chownSync,
  closeSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { MtFailure } from "../../../shared/errors.ts";
import {
  checkPlaces,
  connectOwn,
  listenOwn,
  openOwn,
  ownDir,
  ownFlatDir,
  ownSocket,
  readOwn,
  removeOwn,
  writeOwn,
} from "../../../shared/own-place.ts";
import { ROOT, tempDir, withEnv } from "./fixtures.ts";

const NOBODY = 65534;
const asRoot = process.getuid?.() === 0;

/** MT_RUN in a directory of its own, not made yet. */
function place(): string {
  const top = tempDir();
  const run = join(top, "run");
  withEnv({ MT_RUN: run, MT_STATE: join(top, "s"), MT_CACHE: join(top, "c"), MT_LEASES: join(top, "l") });
  return run;
}

/** The error for a place that is not ours; fails where there is none. */
function refused(work: () => unknown) {
  try {
    work();
  } catch (thrown) {
    if (thrown instanceof MtFailure) return thrown.error;
    throw thrown;
  }
  throw new Error("it was not refused");
}

describe("a place of ours", () => {
  test("is made, 0700, with what is in it 0600; what it holds is replaced as a whole", () => {
    const run = place();
    writeOwn(join(run, "a/b/f"), "one");
    closeSync(openOwn(join(run, "a/log"), "append"));
    writeOwn(join(run, "a/b/f"), "two");
    expect(readOwn(join(run, "a/b/f"))).toBe("two");
    expect([run, join(run, "a"), join(run, "a/b")].map((d) => statSync(d).mode & 0o777)).toEqual([
      0o700, 0o700, 0o700,
    ]);
    expect([join(run, "a/b/f"), join(run, "a/log")].map((f) => statSync(f).mode & 0o777)).toEqual([
      0o600, 0o600,
    ]);
    expect(readdirSync(join(run, "a/b"))).toEqual(["f"]);
  });

  test("may be readable by others, and a sticky one, as a tmpfs is when it is mounted", () => {
    const run = place();
    for (const mode of [0o755, 0o1777]) {
      mkdirSync(run);
      chmodSync(run, mode);
      expect(checkPlaces().isOk()).toBe(true);
      expect(ownDir(join(run, "a"))).toBe(join(run, "a"));
      rmSync(run, { recursive: true });
    }
  });

  test.each([0o777, 0o770, 0o702])("is refused where others may write to it: mode %o", (mode) => {
    const run = place();
    mkdirSync(run);
    chmodSync(run, mode);
    const error = { code: "permission", message: expect.stringContaining("others may write") };
    expect(checkPlaces()._unsafeUnwrapErr()).toMatchObject(error);
    expect(refused(() => writeOwn(join(run, "f"), ""))).toMatchObject(error);
    expect(readdirSync(run)).toEqual([]);
  });

  test("is refused where it is a link, or hangs below one that another could change", () => {
    const run = place();
    const real = join(tempDir(), "real");
    mkdirSync(real);
    symlinkSync(real, run);
    expect(checkPlaces()._unsafeUnwrapErr()).toMatchObject({
      code: "permission",
      message: `Cannot use ${run}: it is a symbolic link (to ${real})`,
      hint: expect.stringContaining("MT_RUN"),
    });
    expect(refused(() => ownDir(join(run, "a"))).code).toBe("permission");
    expect(readdirSync(real)).toEqual([]);
  });

  test("may be reached over a link above it that is root's or ours; what it leads to is looked at", () => {
    const top = tempDir();
    mkdirSync(join(top, "real"));
    symlinkSync("real", join(top, "link"));
    withEnv({ MT_RUN: join(top, "link/run") });
    expect(ownDir(join(top, "link/run/a"))).toBe(join(top, "link/run/a"));
    chmodSync(join(top, "real"), 0o777);
    expect(refused(() => ownDir(join(top, "link/run/b"))).message).toContain("others may change");
  });

  test.runIf(asRoot)("is refused where it, or a directory above it, belongs to another", () => {
    const run = place();
    mkdirSync(join(run, "a"), { recursive: true, mode: 0o700 });
    chownSync(run, NOBODY, NOBODY);
    expect(checkPlaces()._unsafeUnwrapErr().message).toBe(
      `Cannot use ${run}: it belongs to user ${NOBODY}, not to 0`,
    );
    withEnv({ MT_RUN: join(run, "a") });
    expect(checkPlaces()._unsafeUnwrapErr().message).toContain("who may change all below it");
  });

  test("has no link and nothing of another in it: nothing outside is written, emptied or taken away", () => {
    const run = place();
    const outside = tempDir();
    const victim = join(outside, "victim");
    writeFileSync(victim, "as it was");
    mkdirSync(run, { mode: 0o700 });
    symlinkSync(victim, join(run, "f"));
    symlinkSync(victim, join(run, "g.new"));
    symlinkSync(outside, join(run, "d"));
    symlinkSync(join(outside, "made"), join(run, "dangling"));
    for (const work of [
      () => openOwn(join(run, "f"), "append"),
      () => openOwn(join(run, "f"), "read"),
      () => openOwn(join(run, "dangling"), "append"),
      () => writeOwn(join(run, "f"), "x"),
      () => readOwn(join(run, "f")),
      () => ownDir(join(run, "d")),
      () => ownDir(join(run, "d/deeper")),
      () => writeOwn(join(run, "d/victim"), "x"),
      () => removeOwn(join(run, "d/victim")),
      () => ownSocket(join(run, "f")),
      () => ownFlatDir(run),
    ])
      expect(refused(work)).toMatchObject({
        code: "permission",
        message: expect.stringContaining("symbolic link"),
      });
    // A file that is written under another name and renamed does not follow a link either.
    writeOwn(join(run, "g"), "x");
    expect(() => openOwn(join(run, "f"), "new")).toThrow("EEXIST");
    // A link itself may be removed.
    removeOwn(join(run, "d"));
    expect(readFileSync(victim, "utf8")).toBe("as it was");
    expect(readdirSync(outside)).toEqual(["victim"]);
  });
});

describe("a socket of ours", () => {
  const listening = async (path: string) => {
    const server = createServer((socket) => socket.end("heard"));
    onTestFinished(() => void server.close());
    await listenOwn(server, path);
  };
  const hear = (path: string) =>
    new Promise<string>((resolve, reject) => {
      const socket = connectOwn(path);
      socket.on("data", (bytes) => resolve(String(bytes)));
      socket.on("error", reject);
    });

  test("is 0600; the umask is as it was; one that is left over is replaced", async () => {
    const run = place();
    const umask = process.umask();
    mkdirSync(run, { mode: 0o700 });
    writeFileSync(join(run, "s"), "left");
    await listening(join(run, "s"));
    expect(process.umask()).toBe(umask);
    expect(lstatSync(join(run, "s")).mode & 0o777).toBe(0o600);
    expect(await hear(join(run, "s"))).toBe("heard");
  });

  test("may have a name that is too long for the kernel", async () => {
    const path = join(place(), "long".repeat(40), "s");
    await listening(path);
    expect(lstatSync(path).isSocket()).toBe(true);
    expect(await hear(path)).toBe("heard");
  });

  test("that is not there says so, however long its name is", async () => {
    const run = place();
    for (const path of [join(run, "s"), join(run, "long".repeat(40), "s")])
      await expect(hear(path)).rejects.toMatchObject({ code: "ENOENT" });
  });

  test.runIf(asRoot)("of another is not connected to", async () => {
    const run = place();
    await listening(join(run, "s"));
    chownSync(join(run, "s"), NOBODY, NOBODY);
    expect(refused(() => connectOwn(join(run, "s"))).message).toContain(`belongs to user ${NOBODY}`);
  });

  test("is no file", () => {
    const run = place();
    writeOwn(join(run, "s"), "");
    expect(refused(() => ownSocket(join(run, "s"))).message).toContain("it is no socket");
  });
});

/** Functions that make or change files, and the source files that may call them, for files that are in none of our places. */
const MAKES =
  /^(mkdir|mkdtemp|writeFile|appendFile|createWriteStream|copyFile|cp|symlink|link|truncate|ftruncate|chmod|chown|mkfifo)(Sync)?$/;
const ELSEWHERE: Record<string, string> = {
  "shared/host/lease.ts": "writeFileSync: settings of the kernel",
  "shared/host/lock.ts": "linkSync: puts a file of ours in its place",
  "shared/host/oom.ts": "writeFileSync: /proc and cgroups",
  "shared/host/store.ts": "chmodSync: of a file that newOwnFile made",
  "tools/mt-boot/commands/copy.ts": "mkdirSync: what the user names",
  "tools/mt-boot/machine/disk.ts":
    "chmodSync, copyFile: made anew in a directory of ours, or of what is saved where the user says",
  "tools/mt-boot/guest/copy.ts": "mkdir: what the user names",
  "tools/mt-boot/machine/migrate.ts": "createWriteStream: made anew; where the user says, for save",
  "tools/mt-boot/commands/save.ts": "mkdirSync: what the user names",
  "tools/mt-boot/persist/saved.ts": "writeFileSync: where the user says",
  "tools/mt-boot/supervisor/log-end.ts":
    "ftruncateSync: a guest's log in its directory, which is made anew for its QEMU",
  "tools/mt-boot/persist/template.ts": "ftruncateSync: a file that openOwn made",
  "tools/mt-image/tux/build.ts": "mkdir, writeFile, chmod: in the directory of one build",
  "tools/mt-image/debian/ext4.ts": "writeFile: in the directory of one build",
  "tools/mt-image/packages/packages.ts": "mkdir: the cache that the user names, or below it",
  "tools/mt-image/packages/programs.ts": "mkdtemp, writeFile: in the cache",
  "tools/mt-image/packages/repository.ts": "mkdir, symlink, writeFile: in the directory of one build",
  "tools/mt-image/debian/rootfs.ts":
    "mkdirSync, writeFileSync, chmodSync: in a root file system that is built",
  "tools/mt-ksm/protection/cgroup.ts": "mkdirSync, writeFileSync: cgroups",
  "tools/mt-ksm/commands/protect.ts": "writeFileSync: /proc",
  "tools/mt-ksm/merging/settings.ts": "writeFile: settings of the kernel",
  "tools/mt-push/spread/cluster.ts": "mkdtempSync, writeFileSync: a directory of its own in TMPDIR",
  "tools/mt-tree/session/spool.ts": "mkdtempSync: a directory of its own in TMPDIR",
  "tools/mt-vnet/kernel/sysctl.ts": "writeFileSync: settings of the kernel",
  "tools/mt/links.ts": "symlinkSync: beside the binary",
};

test("nothing else makes, opens to write or connects in our places", () => {
  const found: Record<string, string[]> = {};
  for (const top of ["shared", "tools"])
    for (const name of readdirSync(join(ROOT, top), { recursive: true }) as string[]) {
      const file = `${top}/${name}`;
      if (!file.endsWith(".ts") || file === "shared/own-place.ts") continue;
      const source = readFileSync(join(ROOT, file), "utf8");
      const makes = [
        ...source.matchAll(/import (?:\{([^}]*)\}|(\* as \w+|\w+)) from "node:fs(?:\/promises)?"/g),
      ]
        .flatMap(([, names, all]) => all ?? names!.split(",").map((n) => n.trim()))
        .filter((n) => MAKES.test(n) || n.startsWith("* ") || n === "fs");
      const late = [...source.matchAll(/\{ ([\w, ]+) \} = await import\("node:fs(?:\/promises)?"\)/g)]
        .flatMap(([, names]) => names!.split(",").map((n) => n.trim()))
        .filter((n) => MAKES.test(n));
      // A file that is opened by a mode that makes it: "r" makes none.
      const opens = [...source.matchAll(/\bopen(?:Sync)?\([^()]*, *"(?!r")[^"]*"/g)].map(([text]) => text);
      const sockets = [
        ...source.matchAll(/\b(?:connect|createConnection|\.listen)\((?:\w*path|\w*[sS]ocket)[,)]/g),
      ].map(([text]) => text);
      const all = [...makes, ...late, ...opens, ...sockets];
      if (all.length > 0) found[file] = all;
    }
  const opens = [
    "tools/mt-boot/guest/copy.ts",
    "tools/mt-tree/session/spool.ts",
    "tools/mt-tree/via/ssh/bootstrap.ts",
  ];
  for (const [file, names] of Object.entries(found)) {
    const allowed = ELSEWHERE[file];
    for (const name of names)
      expect(
        allowed?.includes(name) || (opens.includes(file) && name.startsWith("open")),
        `${file} uses ${name}: shared/own-place.ts does that in our places`,
      ).toBe(true);
  }
  // Entries that are no longer used must be taken off the list.
  expect(Object.keys(ELSEWHERE).filter((file) => found[file] === undefined)).toEqual([]);
});
