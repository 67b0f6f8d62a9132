/** The platforms, a line a platform: an image's `os` says which one its guests have. */
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import type { Image } from "../../../shared/records/index.ts";
import { linuxX86 } from "./linux-x86/linux-x86.ts";
import type { Platform } from "./platform.ts";

const PLATFORMS: { readonly [os in Image["os"]]?: Platform } = {
  linux: linuxX86,
};

/** Errors, with {id} for the guest: data. */
export function platformOf({ id, os }: Pick<Image, "id" | "os">): Result<Platform, MtError> {
  const platform = PLATFORMS[os];
  return platform === undefined
    ? fail(
        "data",
        `Cannot boot {id}: image ${id} is of ${os}, which mt-boot cannot run`,
        "an image with linux",
      )
    : ok(platform);
}
