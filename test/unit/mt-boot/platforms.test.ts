/** Which platform an image's guests have, and what that says of the image. */
import { expect, test } from "vitest";
import { type Image, imageExamples } from "../../../shared/records/image.ts";
import { platformOf } from "../../../tools/mt-boot/platforms/platforms.ts";

const [tux, debian] = imageExamples as [Image, Image];

test("an image of a system that no platform runs is refused by name", () => {
  expect(platformOf({ id: "w", os: "windows" })._unsafeUnwrapErr()).toMatchObject({
    code: "data",
    message: "Cannot boot {id}: image w is of windows, which mt-boot cannot run",
  });
});

test("what a guest boots from are files of the store; one with a disk is not forked", () => {
  const linux = platformOf(tux)._unsafeUnwrap();
  const files = linux.files(debian)._unsafeUnwrap();
  expect(files.kernel).toMatch(/\/sha256\/(?:.*\/)?9c/);
  expect(files.base).toMatch(/\/sha256\/(?:.*\/)?d1/);
  expect(linux.files(tux)._unsafeUnwrap()).not.toHaveProperty("base");
  expect([linux.cannotFork(tux), linux.cannotFork(debian)]).toEqual([undefined, "its image has a disk"]);
  const { files: _files, ...bare } = tux;
  expect(linux.files(bare)._unsafeUnwrapErr().message).toBe("Cannot boot {id}: image tux has no files");
});
