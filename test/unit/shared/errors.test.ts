/** What is said of a thrown error: which file it is about, also where only a descriptor was written to. */
import { closeSync, openSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { expect, test } from "vitest";
import { onFile, onFileLater, toMtError } from "../../../shared/errors.ts";

// The kernel's own full disk.
const FULL = "/dev/full";
const FULL_ERROR = {
  code: "io",
  message: `Cannot write ${FULL}: the disk is full`,
  hint: expect.stringContaining("free some space"),
};

function thrownBy(work: () => unknown): unknown {
  try {
    work();
  } catch (thrown) {
    return thrown;
  }
  throw new Error("nothing was thrown");
}

test("a full disk is told with the file, though only its descriptor was written to", () => {
  const fd = openSync(FULL, "w");
  try {
    const write = () => writeSync(fd, "x");
    expect(toMtError(thrownBy(write)).message).toBe("Cannot write a file: the disk is full");
    expect(toMtError(thrownBy(() => onFile(FULL, write)))).toEqual(FULL_ERROR);
  } finally {
    closeSync(fd);
  }
});

test("also by a promise; what the work gives comes through", async () => {
  const file = await open(FULL, "w");
  try {
    const thrown = await onFileLater(FULL, file.writeFile("x")).catch((e: unknown) => e);
    expect(toMtError(thrown)).toEqual(FULL_ERROR);
    expect(await onFileLater(FULL, Promise.resolve(7))).toBe(7);
    expect(onFile(FULL, () => 7)).toBe(7);
  } finally {
    await file.close();
  }
});

test("an error that names a file already keeps that name; one without an errno gets none", () => {
  const thrown = thrownBy(() => onFile("/elsewhere", () => openSync("/no/such/file", "r")));
  expect(toMtError(thrown).message).toBe("Cannot open /no/such/file: no such file or directory");
  const bug = thrownBy(() =>
    onFile("/elsewhere", () => {
      throw new TypeError("a bug");
    }),
  );
  expect(bug).not.toHaveProperty("path");
});
