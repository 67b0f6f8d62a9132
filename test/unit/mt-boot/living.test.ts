/** Parts of mt-boot that need no guest: arguments of copy, folded exits, the console's file, which guests are here. */
import { appendFileSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "../../../shared/cli/parse.ts";
import type { Exit } from "../../../shared/records/index.ts";
import { validate } from "../../../shared/records/validate.ts";
import { foldExits } from "../../../tools/mt-boot/client/fold-exits.ts";
import { whoIsHere } from "../../../tools/mt-boot/client/who-is-here.ts";
import { copyPlan } from "../../../tools/mt-boot/commands/copy.ts";
import { ConsoleFile, lastLines } from "../../../tools/mt-boot/guest/console-file.ts";
import { spec } from "../../../tools/mt-boot/spec.ts";
import { tempDir } from "../shared/fixtures.ts";

describe("copy: what its words mean", () => {
  const plan = (words: string[], flags = {}) => copyPlan(words, flags)._unsafeUnwrap();
  const refused = (words: string[], flags = {}) => {
    const error = copyPlan(words, flags)._unsafeUnwrapErr();
    expect(["usage", "data"]).toContain(error.code);
    return error.message;
  };

  test("into guests: a directory ends with /, a file has its whole name", () => {
    expect(plan(["a", "/x/b c\nd", "g[0-3],gw:/tmp/"])).toEqual({
      set: "g[0-3],gw",
      files: [
        { from: resolve("a"), to: "/tmp/a" },
        { from: "/x/b c\nd", to: "/tmp/b c\nd" },
      ],
    });
    expect(plan(["a", "g0:/etc/b"]).files).toEqual([{ from: resolve("a"), to: "/etc/b" }]);
    expect(plan(["./a:b", "g0:/tmp/"]).files).toEqual([{ from: resolve("a:b"), to: "/tmp/a:b" }]);
    expect(plan(["a"], { to: "/tmp/" })).toEqual({ set: "", files: [{ from: resolve("a"), to: "/tmp/a" }] });
    expect(refused(["a", "b", "g0:/tmp"])).toContain("2 files to /tmp");
    expect(refused(["a/x", "b/x", "g0:/tmp/"])).toContain("the same name");
    expect(refused(["a", "g0:tmp"])).toContain("does not begin with /");
    expect(refused(["a", "g0:"])).toContain("does not begin with /");
    expect(refused(["a", "g[0-:/tmp/"])).toContain("g[0-");
  });

  test("out of guests: below the directory of each, whatever the path is", () => {
    expect(plan(["g[0-9]:/var/log/x", "g[0-9]:/etc/a:b", "out"])).toEqual({
      set: "g[0-9]",
      dir: resolve("out"),
      files: [
        { from: "/var/log/x", to: "x" },
        { from: "/etc/a:b", to: "a:b" },
      ],
    });
    expect(plan(["out"], { from: "/etc/x" })).toMatchObject({
      set: "",
      files: [{ from: "/etc/x", to: "x" }],
    });
    for (const path of ["/", "/etc/", "/etc/..", "/etc/.", "/.."])
      expect(refused([`g0:${path}`, "out"])).toContain("it names no file");
    expect(refused(["g0:/a/x", "g0:/b/x", "out"])).toContain("the same name");
    expect(refused(["g0:/a", "g1:/b", "out"])).toContain("two sets");
  });

  test("what makes no sense is refused", () => {
    expect(refused([])).toContain("missing");
    expect(refused(["g0:/x"])).toContain("missing");
    expect(refused(["a", "b"])).toContain("this host to this host");
    expect(refused(["g0:/x", "g1:/x"])).toContain("guests to guests");
    expect(refused(["a", "g0:/x", "out"])).toContain("from guests and from this host");
    expect(refused([], { to: "/tmp/" })).toContain("FILE is missing");
    expect(refused(["a", "b"], { from: "/x" })).toContain("one DIR");
    const both = parse(spec, ["copy", "a", "--from", "/x", "--to", "/y"], {});
    expect(both._unsafeUnwrapErr().message).toBe("Cannot use --to with --from: take one of them");
  });
});

describe("exits, folded", () => {
  const exit = (id: string, more: Partial<Exit> = {}): Exit => ({
    kind: "exit",
    id,
    host: "kn1",
    guest: id,
    code: 0,
    stdout: "same\n",
    ...more,
  });

  test("the same outcome once, with the range and the longest time; others stay apart", () => {
    const folded = foldExits([
      exit("g2", { seconds: 0.5 }),
      exit("gw", { stdout: "other\n" }),
      exit("g0", { seconds: 2 }),
      exit("g1", { seconds: 1 }),
      exit("g3", { code: 1 }),
    ]);
    expect(folded).toMatchObject([
      { id: "g[0-2]", code: 0, stdout: "same\n", seconds: 2 },
      { id: "gw", guest: "gw", stdout: "other\n" },
      { id: "g3", guest: "g3", code: 1 },
    ]);
    expect(folded[0]).not.toHaveProperty("guest");
    for (const record of folded) expect(validate("exit", record).isOk()).toBe(true);
  });

  test("errors that differ in the guest's name alone are the same", () => {
    const failed = (id: string, why: string) =>
      exit(id, {
        code: undefined,
        state: "failed",
        error: { code: "failed", message: `Cannot run g in ${id}: ${why}` },
      });
    expect(
      foldExits([failed("g1", "it is paused"), failed("g2", "it is paused"), failed("g10", "no")]),
    ).toMatchObject([
      { id: "g[1-2]", error: { message: "Cannot run g in g[1-2]: it is paused" } },
      { id: "g10", error: { message: "Cannot run g in g10: no" } },
    ]);
    // A name that is a word's beginning, or has a dot, is taken for what it is.
    expect(foldExits([failed("g", "going")])).toMatchObject([
      { error: { message: "Cannot run g in g: going" } },
    ]);
  });

  test("a range that a record cannot hold becomes several", () => {
    const folded = foldExits(Array.from({ length: 2000 }, (_, i) => exit(`g${i * 2}`)));
    expect(folded.length).toBeGreaterThan(1);
    for (const record of folded) expect(validate("exit", record).isOk()).toBe(true);
  });
});

describe("a console's file", () => {
  test("its last lines; a line that has not ended is one", () => {
    const file = join(tempDir(), "console");
    writeFileSync(file, "one\ntwo\nthree");
    const last = (n?: number) => lastLines(file, n).toString();
    expect([last(0), last(1), last(2), last(9), last()]).toEqual([
      "",
      "three",
      "two\nthree",
      "one\ntwo\nthree",
      "one\ntwo\nthree",
    ]);
    appendFileSync(file, "\n");
    expect([last(1), last(2)]).toEqual(["three\n", "two\nthree\n"]);
    writeFileSync(file, "\n\n");
    expect([last(1), last(5)]).toEqual(["\n", "\n\n"]);
    rmSync(file);
    expect(last(3)).toBe("");
  });

  test("is read on: appended to, emptied, replaced, gone", () => {
    const file = join(tempDir(), "console");
    writeFileSync(file, "old\n");
    const reader = new ConsoleFile(file, Number.POSITIVE_INFINITY);
    const read = () => reader.read()?.toString();
    expect(read()).toBe("");
    appendFileSync(file, "new\n");
    expect([read(), read()]).toEqual(["new\n", ""]);
    truncateSync(file, 0);
    appendFileSync(file, "x\n");
    expect([read(), read()]).toEqual(["x\n", ""]);
    writeFileSync(`${file}.2`, "of another guest's life\n");
    renameSync(`${file}.2`, file);
    expect([read(), read()]).toEqual(["of another guest's life\n", ""]);
    rmSync(file);
    expect(read()).toBeUndefined();
    writeFileSync(file, "again\n");
    expect(read()).toBe("again\n");
    reader.close();
  });
});

test("a guest that nobody knows: one of nearly that name, or who is here", () => {
  expect(whoIsHere("g7", ["g0", "g1", "g2", "gw"])).toBe("here: g[0-2],gw");
  expect(whoIsHere("gatewya", ["gateway", "g0"])).toBe("did you mean gateway?");
  expect(whoIsHere("g0", [])).toBe("mt-boot up");
});
