/**
 * Prepares and starts a guest's QEMU: as a clone of its image's template, or cold, from its kernel. The accelerator and
 * QEMU's version are found out once a supervisor.
 */
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { inform } from "../../../shared/cli/stderr.ts";
import { fail, type MtError, mtError, toMtError } from "../../../shared/errors.ts";
import { experimentDir } from "../../../shared/host/names.ts";
import { chooseAccelerator } from "../machine/accel.ts";
import { overlayOf, prepareDisk } from "../machine/disk.ts";
import { preflight, type Spawned, spawnQemu } from "../machine/machine.ts";
import { qemuVersions, type Template, templateFor, templateKey, unchanged } from "../persist/template.ts";
import type { Accelerator, Boot } from "../platforms/platform.ts";
import { platformOf } from "../platforms/platforms.ts";
import type { Entry } from "./entry.ts";

export class Starter {
  readonly #experiment: string;
  #accelerator: Promise<Result<Accelerator, MtError>> | undefined;
  readonly #versionOf = qemuVersions();
  /** By key: the template, or the error. */
  readonly #templates = new Map<string, Promise<Result<Template, MtError>>>();

  constructor(experiment: string) {
    this.#experiment = experiment;
  }

  /** Checks and makes all that QEMU needs; waits for the template where the guest is to be a clone. */
  async prepare(entry: Entry): Promise<Result<Boot, MtError>> {
    const platform = platformOf(entry.image);
    if (platform.isErr()) return err(platform.error);
    const source = platform.value.files(entry.image);
    if (source.isErr()) return err(source.error);
    const { base, ...files } = source.value;
    const boot: Boot = {
      platform: platform.value,
      experiment: this.#experiment,
      guest: entry.record,
      dir: entry.dir,
      ...files,
      ...(base === undefined ? {} : { disk: { base, overlay: overlayOf(this.#experiment, entry.dir) } }),
      cmdline: entry.image.cmdline,
      accelerator: "tcg",
    };
    const there = preflight(boot);
    if (there.isErr()) return err(there.error);
    const unforkable = platform.value.cannotFork(entry.image);
    if (unforkable !== undefined && entry.boot_mode === "fork")
      return fail("data", `Cannot fork {id}: ${unforkable}`, "mt-boot up without --boot fork boots it cold");
    const disk = await prepareDisk(boot, entry.saved?.disk);
    if (disk.isErr()) return err(disk.error);
    const accelerator = await this.#chooseAccelerator(entry, boot);
    if (accelerator.isErr()) return err(accelerator.error);
    boot.accelerator = accelerator.value;
    if (entry.saved !== undefined) return ok({ ...boot, state: entry.saved.file });
    if (!entry.forks_next) return ok(boot);
    const template = await this.#template(boot, entry);
    if (template.isOk())
      return ok({
        ...boot,
        memory: { path: template.value.ram, role: "clone" },
        state: template.value.state,
      });
    if (entry.boot_mode === "fork") return err(template.error);
    entry.forkRuledOut();
    return ok(boot);
  }

  /** Starts what was prepared. */
  spawn(boot: Boot): Result<Spawned, MtError> {
    let fd: number | undefined;
    try {
      return spawnQemu(boot, () => {
        if (boot.state !== undefined) fd = openSync(boot.state, "r");
        return fd;
      });
    } catch (thrown) {
      const error = toMtError(thrown);
      return err(error.code === "bug" ? mtError("failed", `Cannot boot {id}: ${error.message}`) : error);
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }

  /** The template of all guests that are alike; those that come while it is made wait for it. Why there is none is told once. */
  async #template(boot: Boot, entry: Entry): Promise<Result<Template, MtError>> {
    const qemu = await this.#versionOf(entry.image);
    if (qemu.isErr()) return err(qemu.error);
    const key = templateKey(boot, qemu.value);
    const asked = this.#templates.get(key);
    if (asked) {
      const template = await asked;
      // It may have been removed or changed since.
      if (template.isErr() || unchanged(template.value)) return template;
      if (this.#templates.get(key) === asked) this.#templates.delete(key);
      return this.#template(boot, entry);
    }
    const made = templateFor(boot, qemu.value, entry.ready_timeout_s);
    this.#templates.set(key, made);
    const template = await made;
    if (template.isErr())
      inform(
        `${boot.guest.image}: ${template.error.message.replace(" for {id}", "")}: its guests are not forked`,
      );
    return template;
  }

  /** Templates that could not be made are tried again. */
  async forgetFailures(): Promise<void> {
    for (const [key, asked] of [...this.#templates])
      if ((await asked).isErr() && this.#templates.get(key) === asked) this.#templates.delete(key);
  }

  #chooseAccelerator(entry: Entry, boot: Boot): Promise<Result<Accelerator, MtError>> {
    if (entry.accel !== "auto") return Promise.resolve(ok(entry.accel));
    const probe_dir = join(experimentDir(this.#experiment), "g", ".kvm-probe");
    this.#accelerator ??= chooseAccelerator(boot, probe_dir).then((chosen) => {
      if (chosen.isErr()) this.#accelerator = undefined;
      return chosen;
    });
    return this.#accelerator;
  }
}
