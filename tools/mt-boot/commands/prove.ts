/**
 * `mt-boot prove`: before a launch, boots one guest of the plan's image on this host, under KVM where that
 * works and else under TCG, and writes on the host's own record which one it was. The guest has no network.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { type MtError, mtError } from "../../../shared/errors.ts";
import { runDir } from "../../../shared/host/names.ts";
import { storeHas } from "../../../shared/host/store.ts";
import { ownDir, ownTempDir } from "../../../shared/own-place.ts";
import type { Guest, Host, Image } from "../../../shared/records/index.ts";
import { chooseAccelerator, probeBoot } from "../machine/accel.ts";
import { prepareDisk } from "../machine/disk.ts";
import type { Boot } from "../platforms/platform.ts";
import { platformOf } from "../platforms/platforms.ts";
import type { spec } from "../spec.ts";

/** Limit under TCG, on a machine that is busy with other things. */
const TCG_S = 90;
const PROBE_GUEST: Guest = {
  kind: "guest",
  id: "probe",
  index: 0,
  image: "",
  cores: 1,
  mem_mib: 128,
  interfaces: [],
};

export const prove: Run<typeof spec, "prove"> = (invocation) => {
  let image: Image | undefined;
  return runFilterCommand(invocation, {
    changes: true,
    reads: {
      image: (record) => {
        image ??= record;
      },
    },
    owns: {
      host: (host, context) =>
        context.atEnd(async () => {
          const proven = await proveHost(image);
          if ("accel" in proven) return { ...host, ...proven } as Host;
          return context.failed(host, proven);
        }),
    },
  });
};

async function proveHost(image: Image | undefined): Promise<{ accel: string } | MtError> {
  const files = image?.files;
  if (!image || !files)
    return mtError("data", "Cannot prove QEMU: no image with files came before", "mt-image build tux");
  if (![files.kernel, files.initrd, ...(files.disk ? [files.disk] : [])].every(storeHas))
    return mtError("data", `Cannot prove QEMU: image ${image.id} is not on this host`, "mt-push");
  const platform = platformOf(image);
  if (platform.isErr()) return named(platform.error, "probe");
  const source = platform.value.files(image);
  if (source.isErr()) return named(source.error, "probe");
  const { base, ...boots } = source.value;
  const dir = ownTempDir(join(runDir(), "probe-"));
  // spawnQemu empties the guest's directory, so the disk is beside it.
  const guestDir = join(dir, "guest");
  const boot: Boot = {
    platform: platform.value,
    experiment: "probe",
    guest: { ...PROBE_GUEST, image: image.id },
    dir: guestDir,
    ...boots,
    ...(base === undefined ? {} : { disk: { base, overlay: join(dir, "disk.qcow2") } }),
    // The first line on the console tells a kernel that runs from one that does not.
    cmdline: platform.value.probe_cmdline,
    accelerator: "tcg",
  };
  try {
    const kvmDir = join(dir, "kvm");
    ownDir(kvmDir);
    const chosen = await chooseAccelerator(boot, kvmDir);
    if (chosen.isErr()) return chosen.error;
    if (chosen.value === "kvm") return { accel: "kvm" };
    const disk = await prepareDisk(boot);
    if (disk.isErr()) return named(disk.error, "probe");
    const booted = await probeBoot(boot, { first_byte_s: TCG_S, whole_s: TCG_S });
    return booted.isErr() ? named(booted.error, "probe") : { accel: "tcg" };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const named = (error: MtError, id: string): MtError => ({
  ...error,
  message: error.message.replaceAll("{id}", id),
});
