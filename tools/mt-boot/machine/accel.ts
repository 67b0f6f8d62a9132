/**
 * KVM or translation: KVM only where a guest of the image has really booted on it, because /dev/kvm may open and a
 * kernel still not start. Probed once a machine: the answer is kept in the machine's cache, with the kernel and the
 * QEMU that it holds for.
 */
import { accessSync, constants, readFileSync, rmSync, statSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import { lock } from "../../../shared/host/lock.ts";
import { cacheDir } from "../../../shared/host/names.ts";
import { runOk, waitFor } from "../../../shared/host/process.ts";
import { writeOwn } from "../../../shared/own-place.ts";
import type { Accelerator, Boot } from "../platforms/platform.ts";
import { prepareDisk } from "./disk.ts";
import { guestFiles } from "./guest-files.ts";
import { connectMachine, spawnQemu } from "./machine.ts";
import { endGuests } from "./processes.ts";

/** On KVM a kernel prints its first line within 0.1 s; one that prints nothing in this time does not run. */
const FIRST_BYTE_S = 4;
const PROBE_S = 10;
const PROBE_LOCK_S = 30;

interface Answer {
  kernel: string;
  qemu: string;
  kvm: boolean;
  why: string;
  time: string;
}

const answerFile = () => join(cacheDir(), "accel.json");

/**
 * What `--accel auto` means on this machine.
 * @param probe the first guest to boot: its image and memory are what the probe boots
 * @param dir an empty directory for the probe's files
 */
export async function chooseAccelerator(probe: Boot, dir: string): Promise<Result<Accelerator, MtError>> {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch {
    return ok("tcg");
  }
  const version = await runOk(probe.platform.qemu, ["--version"], { timeout_s: 10 });
  if (version.isErr()) return err(version.error);
  const here = { kernel: release(), qemu: version.value.stdout.split("\n")[0]! };
  const known = readAnswer(here);
  if (known !== undefined) return ok(known ? "kvm" : "tcg");
  const unlock = await lock(`${answerFile()}.lock`, "probing KVM", PROBE_LOCK_S);
  if (unlock.isErr()) return err(unlock.error);
  try {
    const meanwhile = readAnswer(here);
    if (meanwhile !== undefined) return ok(meanwhile ? "kvm" : "tcg");
    const onKvm: Boot = {
      ...probe,
      dir,
      // Not the guest's own disk: the probe is killed while it writes.
      disk: probe.disk && { ...probe.disk, overlay: `${dir}.qcow2` },
      accelerator: "kvm",
      guest: { ...probe.guest, interfaces: [] },
      cmdline: probe.platform.probe_cmdline,
    };
    const disk = await prepareDisk(onKvm);
    if (disk.isErr()) return err(disk.error);
    const booted = await probeBoot(onKvm, { first_byte_s: FIRST_BYTE_S, whole_s: PROBE_S });
    const answer: Answer = {
      ...here,
      kvm: booted.isOk(),
      why: booted.isErr() ? booted.error.message : "a guest booted",
      time: new Date().toISOString(),
    };
    writeOwn(answerFile(), JSON.stringify(answer));
    return ok(answer.kvm ? "kvm" : "tcg");
  } finally {
    unlock.value();
    rmSync(dir, { recursive: true, force: true });
    rmSync(`${dir}.qcow2`, { force: true });
  }
}

function readAnswer(here: { kernel: string; qemu: string }): boolean | undefined {
  try {
    const answer = JSON.parse(readFileSync(answerFile(), "utf8")) as Answer;
    return answer.kernel === here.kernel && answer.qemu === here.qemu ? answer.kvm : undefined;
  } catch {
    return undefined;
  }
}

/** Boots a guest until its agent answers, then ends it. A kernel that prints nothing in `first_byte_s` has failed. */
export async function probeBoot(
  boot: Boot,
  { first_byte_s, whole_s }: { first_byte_s: number; whole_s: number },
): Promise<Result<void, MtError>> {
  const end = Date.now() + whole_s * 1000;
  const left_s = () => Math.max(0, (end - Date.now()) / 1000);
  const on = boot.accelerator.toUpperCase();
  const spawned = spawnQemu(boot);
  if (spawned.isErr()) return err(spawned.error);
  try {
    const said = () => {
      try {
        return statSync(guestFiles(boot.dir).console).size > 0 ? true : undefined;
      } catch {
        return undefined;
      }
    };
    const ended = spawned.value.ended.then((how) => `QEMU ${how}`);
    const first = await Promise.race([waitFor(said, first_byte_s, 50), ended]);
    if (typeof first === "string") return fail("unavailable", `Cannot boot on ${on}: ${first}`);
    if (!first)
      return fail("unavailable", `Cannot boot on ${on}: the kernel printed nothing in ${first_byte_s} s`);
    const machine = await connectMachine(spawned.value.pid, boot.dir, { timeout_s: left_s() });
    if (machine.isErr()) return err(machine.error);
    const answered = await machine.value.agent.sync(left_s());
    machine.value.close();
    return answered;
  } finally {
    await endGuests([{ pid: spawned.value.pid, dir: boot.dir }]);
  }
}
