/**
 * What is done to bring a guest to the state it is wanted in: start, barrier, pause or identity. One drive a
 * guest at a time; a drive waits for its turn, and for its back-off after a failure. Who dies while it is
 * wanted is driven again.
 */
import { join } from "node:path";
import { ok, type Result } from "neverthrow";
import { inform } from "../../shared/cli/stderr.ts";
import { fail, type MtError, mtError } from "../../shared/errors.ts";
import { experimentDir, storePath } from "../../shared/names.ts";
import type { GuestState } from "../../shared/records/guest.ts";
import { chooseAccelerator } from "./accel.ts";
import type { Accelerator, Boot } from "./argv.ts";
import { type Entry, reached } from "./entry.ts";
import { giveIdentity } from "./identity.ts";
import type { Ledger } from "./ledger.ts";
import { consoleTail, endOfProcess, holdMachine, type Machine, preflight, spawnQemu } from "./machine.ts";
import { endGuests } from "./processes.ts";
import { Slots } from "./slots.ts";

const BACKOFF_S_MAX = 30;
/** A QEMU that refused the same command line so often will refuse it again; once may have been a tap still held. */
const REFUSALS_MAX = 2;
/** A guest that has been well for so long starts its back-off from the beginning. */
const WELL_MS = 60_000;

export class Driver {
  readonly slots = new Slots(1);
  readonly #experiment: string;
  readonly #ledger: Ledger;
  #accelerator: Promise<Result<Accelerator, MtError>> | undefined;

  constructor(experiment: string, ledger: Ledger) {
    this.#experiment = experiment;
    this.#ledger = ledger;
  }

  /** Brings a guest to where it is wanted; one drive at a time. */
  drive(entry: Entry, backoff = false): void {
    if (entry.driving) return;
    entry.driving = this.#driveOn(entry, backoff).finally(() => {
      entry.driving = undefined;
      // A wish that came in the last moment, or a death that did.
      if (!entry.dropped && entry.wanted && entry.state !== "failed" && !reached(entry)) this.drive(entry);
    });
  }

  async #driveOn(entry: Entry, backoff: boolean): Promise<void> {
    if (backoff) await this.#pause(entry);
    while (!entry.dropped && entry.wanted && !reached(entry)) {
      const step = await this.slots.take(async () => (entry.dropped ? ok(undefined) : this.#advance(entry)));
      if (entry.dropped) break;
      if (step.isOk()) continue;
      const error = await this.#explain(entry, step.error);
      await this.discard(entry);
      if (entry.dropped) break;
      entry.failures++;
      // What is not there on this host does not come by trying again.
      const hopeless = error.code === "unavailable" || error.code === "data" || error.code === "permission";
      // One that ran here before is not refused for what it is.
      const refused = entry.refusals >= REFUSALS_MAX && entry.tries_left !== Infinity;
      if (hopeless || refused || entry.tries_left <= 0) {
        entry.wanted = undefined;
        entry.begun = false;
        this.set(entry, "failed", error);
        inform(`${entry.record.id}: ${error.message.replaceAll("{id}", entry.record.id)}: given up`);
        return;
      }
      entry.tries_left--;
      inform(`${entry.record.id}: ${error.message.replaceAll("{id}", entry.record.id)}: it is tried again`);
      this.set(entry, "failed", error);
      await this.#pause(entry);
    }
    if (!entry.dropped && reached(entry)) entry.well_since = Date.now();
  }

  /** 1, 2, 4 … 30 s, after so many failures in a row. */
  async #pause(entry: Entry): Promise<void> {
    const seconds = Math.min(2 ** Math.max(0, entry.failures - 1), BACKOFF_S_MAX);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      entry.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    entry.wake = undefined;
  }

  /** One turn: as far towards what is wanted as it goes. */
  async #advance(entry: Entry): Promise<Result<void, MtError>> {
    entry.begun = true;
    const end = Date.now() + entry.ready_timeout_s * 1000;
    const left_s = () => Math.max(0.1, (end - Date.now()) / 1000);
    if (!entry.machine) {
      const booted = await this.#boot(entry, left_s);
      if (booted.isErr() || entry.dropped) return booted;
    }
    const machine = entry.machine;
    if (!machine) return fail("lost", "Cannot boot {id}: its QEMU ended");
    const set = (state: GuestState) => entry.machine === machine && this.set(entry, state);
    if (entry.state === "paused") {
      const goes = await machine.qmp.call("cont", undefined, left_s());
      if (goes.isErr()) return goes.map(() => undefined);
      set("running");
    }
    // The barrier: where the agent answers, init has come that far.
    const answers = await machine.agent.sync(left_s());
    if (answers.isErr())
      return answers.error.code === "timeout"
        ? fail("timeout", `Cannot boot {id}: no answer from its agent in ${entry.ready_timeout_s} s`)
        : answers;
    if (entry.wanted === "paused") {
      const stopped = await machine.qmp.call("stop", undefined, left_s());
      if (stopped.isErr()) return stopped.map(() => undefined);
      set("paused");
      return ok(undefined);
    }
    const known = await giveIdentity(machine.agent, entry.record, left_s());
    if (known.isOk()) set("ready");
    return known.mapErr((e) =>
      e.message.includes("{id}") ? e : { ...e, message: `Cannot give {id} its identity: ${e.message}` },
    );
  }

  /** Starts QEMU and takes hold of it. */
  async #boot(entry: Entry, left_s: () => number): Promise<Result<void, MtError>> {
    const files = entry.image.files;
    if (!files)
      return fail(
        "data",
        `Cannot boot {id}: image ${entry.record.image} has no files`,
        "mt-image build, then write the plan again",
      );
    const kernel = storePath(files.kernel);
    const initrd = storePath(files.initrd);
    if (kernel.isErr()) return kernel.map(() => undefined);
    if (initrd.isErr()) return initrd.map(() => undefined);
    const boot: Boot = {
      experiment: this.#experiment,
      guest: entry.record,
      dir: entry.dir,
      kernel: kernel.value,
      initrd: initrd.value,
      cmdline: entry.image.cmdline,
      accelerator: "tcg",
    };
    const there = preflight(boot);
    if (there.isErr()) return there;
    const accelerator = await this.#chooseAccelerator(entry, boot);
    if (accelerator.isErr()) return accelerator.map(() => undefined);
    if (entry.pid !== undefined) await this.discard(entry);
    if (entry.dropped) return ok(undefined);
    const spawned = spawnQemu({ ...boot, accelerator: accelerator.value });
    if (spawned.isErr()) return spawned.map(() => undefined);
    const { pid, ended, complaint } = spawned.value;
    entry.pid = pid;
    this.set(entry, "running");
    const held = await this.hold(
      entry,
      pid,
      () => Promise.race([ended, endOfProcess(pid, entry.dir)]),
      left_s(),
    );
    if (held.isOk()) entry.refusals = 0;
    else if (held.error.code === "lost") {
      await entry.howEnded?.();
      const why = complaint();
      if (why !== undefined) {
        entry.refusals++;
        const { cores, mem_mib, interfaces } = entry.record;
        return fail(
          "failed",
          `Cannot boot {id}: QEMU says: ${why}`,
          `its record asks for ${cores} cores, ${mem_mib} MiB and ${interfaces.length} interfaces: change it in the plan, or give this host what is missing`,
        );
      }
    }
    return held.map(() => undefined);
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

  async hold(
    entry: Entry,
    pid: number,
    howEnded: () => Promise<string>,
    timeout_s: number,
  ): Promise<Result<Machine, MtError>> {
    entry.howEnded = howEnded;
    const held = await holdMachine(pid, entry.dir, {
      timeout_s,
      onClose: () => {
        const machine = entry.machine;
        if (machine?.pid === pid) void this.#lost(entry, machine);
      },
    });
    if (held.isOk()) entry.machine = held.value;
    return held;
  }

  /** QEMU closed its socket: the guest is dead. Who drives it finds out by itself. */
  async #lost(entry: Entry, machine: Machine): Promise<void> {
    entry.machine = undefined;
    machine.close();
    if (entry.dropped || entry.driving) return;
    const how = await entry.howEnded?.();
    if (entry.dropped || entry.driving || entry.machine) return;
    const error = mtError("lost", `Cannot keep {id} running: its QEMU ${how}`, "it is started again");
    await this.discard(entry);
    inform(`${entry.record.id}: ${error.message.replaceAll("{id}", entry.record.id)}`);
    if (Date.now() - entry.well_since > WELL_MS) entry.failures = 0;
    entry.failures++;
    entry.tries_left = Infinity;
    this.set(entry, "failed", error);
    this.drive(entry, true);
  }

  /** Makes sure that nothing of the guest's process is left. */
  async discard(entry: Entry): Promise<void> {
    const { machine, pid } = entry;
    entry.machine = undefined;
    entry.pid = undefined;
    machine?.close();
    if (pid !== undefined) await endGuests([{ pid, dir: entry.dir }]);
  }

  /** An error with how QEMU ended, and with what the guest's console said last. */
  async #explain(entry: Entry, error: MtError): Promise<MtError> {
    const said =
      error.code === "lost" && entry.howEnded
        ? { ...error, message: `Cannot boot {id}: its QEMU ${await entry.howEnded()}` }
        : error;
    if (said.hint !== undefined) return said;
    const hint = consoleTail(entry.dir);
    return hint === undefined ? said : { ...said, hint };
  }

  set(entry: Entry, state: GuestState, error?: MtError): void {
    entry.state = state;
    entry.error = error;
    if (entry.dropped) return;
    const { record, image, accel, ready_timeout_s, wanted } = entry;
    this.#ledger.put({
      record,
      image,
      accel,
      ready_timeout_s,
      wanted,
      state,
      ...(error === undefined ? {} : { error }),
    });
  }
}
