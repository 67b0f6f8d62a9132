/**
 * Drives guests to the state that is wanted: start, barrier, pause or identity. One drive a guest at a time; a drive
 * waits for its turn, and for its back-off after a failure. A guest that dies while it is wanted is driven again.
 */
import { err, ok, type Result } from "neverthrow";
import { inform } from "../../../shared/cli/stderr.ts";
import { fail, type MtError, mtError, toMtError } from "../../../shared/errors.ts";
import { connectMachine, consoleTail, endOfProcess, kernelPanic, type Machine } from "../machine/machine.ts";
import { restoreState } from "../machine/migrate.ts";
import { endGuests } from "../machine/processes.ts";
import type { Ledger } from "../persist/ledger.ts";
import type { Boot } from "../platforms/platform.ts";
import { platformOf } from "../platforms/platforms.ts";
import { Admission } from "./admission.ts";
import type { Entry } from "./entry.ts";
import { rowOf } from "./entry-lines.ts";
import { Slots } from "./slots.ts";
import { Starter } from "./starter.ts";

const BACKOFF_S_MAX = 30;
/** QEMU that has refused a command line twice will refuse it again; the first time a tap may still have been in use. */
const REFUSALS_MAX = 2;
/** How many guests of an image are tried first: where none of them comes up, the others are not tried. */
const PIONEERS = 4;

/** What became of an image's guests since they were last asked for. */
interface Fate {
  came_up: boolean;
  pioneers: Set<Entry>;
  given_up: number;
  last?: MtError;
}

export class Driver {
  readonly slots = new Slots(1);
  readonly starter: Starter;
  readonly admission: Admission;
  /** Called with each change of a guest's state. */
  readonly watchers = new Set<(entry: Entry) => void>();
  readonly #ledger: Ledger;
  readonly #isInPlace: () => boolean;
  readonly #fates = new Map<string, Fate>();

  /** @param isInPlace asked before a guest is started: false where the supervisor's directory was removed */
  constructor(
    experiment: string,
    entries: ReadonlyMap<string, Entry>,
    ledger: Ledger,
    isInPlace: () => boolean,
  ) {
    this.starter = new Starter(experiment);
    this.admission = new Admission(experiment, entries);
    this.#ledger = ledger;
    this.#isInPlace = isInPlace;
  }

  /** Brings a guest to what is wanted. @param first is done before its first try */
  drive(entry: Entry, first?: () => Promise<void>): void {
    if (entry.driving) return;
    let threw = true;
    const driving = this.#driveOn(entry, first)
      .then(() => {
        threw = false;
      })
      .finally(() => {
        entry.driveEnded();
        // It was asked for again, or died, while this drive was ending. Not after an exception, which would come again.
        if (entry.astray && !(threw && entry.state === "failed")) this.drive(entry);
      });
    entry.driveBegan(driving);
  }

  async #driveOn(entry: Entry, first?: () => Promise<void>): Promise<void> {
    await first?.();
    while (entry.astray) {
      await this.#afterPioneers(entry);
      if (entry.dropped) break;
      const step = await this.slots.take(async () => (entry.dropped ? ok(undefined) : this.#oneTry(entry)));
      if (entry.dropped) break;
      if (step.isOk()) continue;
      const error = await this.#explain(entry, step.error);
      // A guest that waits for its disk keeps its QEMU.
      if (!entry.machine?.stall.error) await this.discard(entry);
      if (entry.dropped) break;
      const goes_on = this.#countFailure(entry, error);
      const said = `${entry.record.id}: ${error.message.replaceAll("{id}", entry.record.id)}`;
      if (!goes_on) {
        await this.discard(entry);
        inform(`${said}: given up`);
        return;
      }
      inform(
        `${said}: it is tried again${entry.boot_mode === "auto" && entry.image.fork && !entry.forks_next ? ", cold" : ""}`,
      );
      await this.#backOff(entry);
    }
    if (entry.dropped || !entry.reached) return;
    this.#fateOf(entry).came_up = true;
    if (entry.arrived(Date.now())) this.#ledger.put(rowOf(entry));
  }

  /** Counts a failed try; false where the guest is given up. */
  #countFailure(entry: Entry, error: MtError): boolean {
    const { lasting } = entry;
    // What is missing on this host does not come by trying again.
    const hopeless =
      ["unavailable", "data", "permission"].includes(error.code) ||
      (error.code === "busy" && !lasting) ||
      (this.#hopeless(entry) !== undefined && !lasting);
    const refused = entry.refusals >= REFUSALS_MAX && !lasting;
    if (!hopeless && !refused && entry.tries_left > 0) {
      entry.tryFailed(error);
      this.note(entry);
      return true;
    }
    const fate = this.#fateOf(entry);
    if (error.code !== "busy") {
      fate.given_up++;
      fate.last ??= error;
    }
    entry.gaveUp(error, error.code === "busy" && entry.until_full);
    this.note(entry);
    return false;
  }

  #fateOf({ record, image }: Entry): Fate {
    const key = JSON.stringify([record.image, image.files, image.cmdline]);
    const fate = this.#fates.get(key) ?? { came_up: false, pioneers: new Set<Entry>(), given_up: 0 };
    this.#fates.set(key, fate);
    return fate;
  }

  /** Until one guest of an image has come up, all but the first few wait: each may take minutes to fail. */
  async #afterPioneers(entry: Entry): Promise<void> {
    while (!entry.dropped && !entry.lasting) {
      const fate = this.#fateOf(entry);
      for (const other of fate.pioneers) if (other.dropped || !other.driving) fate.pioneers.delete(other);
      if (fate.came_up || fate.pioneers.has(entry) || this.#hopeless(entry)) return;
      if (fate.pioneers.size + fate.given_up < PIONEERS) return void fate.pioneers.add(entry);
      await Promise.race([...fate.pioneers].map((pioneer) => pioneer.driving));
    }
  }

  /** Why an image's guests are not tried: all of the first ones were given up. */
  #hopeless(entry: Entry): MtError | undefined {
    const { came_up, given_up, last } = this.#fateOf(entry);
    if (came_up || given_up < PIONEERS || !last) return undefined;
    const why = last.message.replace(/^Cannot (?:boot|make a template for) \{id\}: /, "");
    return {
      ...last,
      message: `Cannot boot {id}: none of the first ${given_up} guests of image ${entry.record.image} came up: ${why}`,
    };
  }

  /** To be called at a new request: what failed before may have been mended. */
  async forgetFailures(): Promise<void> {
    this.#fates.clear();
    await this.starter.forgetFailures();
  }

  /** Waits 1, 2, 4 … 30 s, by failures in a row. */
  async #backOff(entry: Entry): Promise<void> {
    const seconds = Math.min(2 ** Math.max(0, entry.failures - 1), BACKOFF_S_MAX);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      entry.backOffBegan(() => {
        clearTimeout(timer);
        resolve();
      });
    });
    entry.backOffEnded();
  }

  /** One try, where there is room for the guest. */
  async #oneTry(entry: Entry): Promise<Result<void, MtError>> {
    entry.tryBegan();
    if (!entry.machine) {
      if (!this.#isInPlace()) {
        entry.drop();
        return ok(undefined);
      }
      const hopeless = entry.lasting ? undefined : this.#hopeless(entry);
      if (hopeless) return err(hopeless);
      const room = await this.admission.admit(entry);
      if (room.isErr()) return room;
    }
    try {
      return await this.#advance(entry);
    } catch (thrown) {
      // A full disk, a directory that was removed: only this try has failed.
      return err(toMtError(thrown));
    } finally {
      this.admission.settled(entry);
    }
  }

  /** Takes the guest from where it is to what is wanted. */
  async #advance(entry: Entry): Promise<Result<void, MtError>> {
    let end = Date.now() + entry.ready_timeout_s * 1000;
    const left_s = () => Math.max(0.1, (end - Date.now()) / 1000);
    if (!entry.machine) {
      const boot = await this.starter.prepare(entry);
      if (boot.isErr()) return err(boot.error);
      if (entry.pid !== undefined) await this.discard(entry);
      if (entry.dropped) return ok(undefined);
      // Making the template does not count.
      end = Date.now() + entry.ready_timeout_s * 1000;
      const started = await this.#start(entry, boot.value, left_s);
      if (started.isErr() || entry.dropped) return started;
    }
    const machine = entry.machine;
    if (!machine) return fail("lost", "Cannot boot {id}: its QEMU ended");
    /** Whether QEMU has not ended meanwhile. */
    const lives = () => entry.machine === machine;
    if (entry.state === "paused" && entry.wanted === "paused") return ok(undefined);
    const platform = platformOf(entry.image);
    if (platform.isErr()) return err(platform.error);
    const { makeFresh, tellLinks, reachBarrier, giveIdentity } = platform.value;
    const freshen = async () => {
      const made = await makeFresh(machine, entry.restored ? "restored" : "goes on", left_s());
      return made.isErr() ? made : tellLinks(machine, entry.record, left_s());
    };
    let fresh: ReturnType<typeof freshen> | undefined;
    if (entry.state === "paused" || machine.stall.error) {
      machine.stall.end();
      if (entry.known) fresh = freshen();
      const goes = await machine.qmp.call("cont", undefined, left_s());
      if (goes.isErr()) return err(goes.error);
      if (lives()) {
        entry.wentOn();
        this.note(entry);
      }
    }
    // A clone comes from behind the barrier: asking would cost it more than half of what its identity does.
    const beyond = entry.forked && entry.wanted !== "paused";
    const answers = beyond
      ? ok<void, MtError>(undefined)
      : await machine.stall.unlessStalled(reachBarrier(machine, left_s()));
    if (answers.isErr())
      return answers.error.code === "timeout"
        ? fail("timeout", `Cannot boot {id}: no answer from its agent in ${entry.ready_timeout_s} s`)
        : answers;
    if (entry.wanted === "paused") {
      const stopped = await machine.qmp.call("stop", undefined, left_s());
      if (stopped.isErr()) return err(stopped.error);
      if (lives()) {
        entry.becamePaused();
        this.note(entry);
      }
      return ok(undefined);
    }
    // A guest that has its identity keeps routes and addresses that it was given since.
    const known = await machine.stall.unlessStalled(
      entry.known ? (fresh ?? freshen()) : giveIdentity(machine, entry.record, entry.image, left_s()),
    );
    if (known.isOk() && lives()) {
      entry.becameReady();
      this.note(entry);
    }
    return known.mapErr((e) =>
      e.message.includes("{id}") ? e : { ...e, message: `Cannot give {id} its identity: ${e.message}` },
    );
  }

  /** Tells a guest that is ready what has changed on its links. */
  async refresh(entry: Entry): Promise<void> {
    const { machine, record, image } = entry;
    const platform = platformOf(image);
    if (!machine || !entry.known || entry.state !== "ready" || platform.isErr()) return;
    const { tellLinks } = platform.value;
    const told = await machine.stall.unlessStalled(tellLinks(machine, record, entry.ready_timeout_s));
    if (told.isErr()) inform(`${record.id}: its links keep their MTU: ${told.error.message}`);
  }

  /** Starts QEMU and connects to it; loads the state where the guest goes on from one. */
  async #start(entry: Entry, boot: Boot, left_s: () => number): Promise<Result<void, MtError>> {
    const began = performance.now();
    const spawned = this.starter.spawn(boot);
    if (spawned.isErr()) return err(spawned.error);
    const { pid, ended, complaint } = spawned.value;
    const howEnded = () => Promise.race([ended, endOfProcess(pid, entry.dir)]);
    entry.spawned({ pid, forked: boot.memory?.role === "clone", howEnded });
    this.note(entry);
    const machine = await this.connect(entry, pid, left_s());
    const loaded =
      machine.isOk() && boot.state !== undefined
        ? await restoreState(machine.value.qmp, entry.forked, left_s())
        : machine;
    if (loaded.isOk()) {
      entry.accepted();
      if (boot.state !== undefined) {
        entry.stateRestored(performance.now() - began);
        this.note(entry);
      }
      return ok(undefined);
    }
    if (loaded.error.code !== "lost") return err(loaded.error);
    await entry.howEnded?.();
    const why = complaint();
    if (why === undefined) return err(loaded.error);
    entry.refused();
    const { cores, mem_mib, interfaces } = entry.record;
    const hint = entry.saved
      ? `${entry.saved.file} may be of another QEMU or another guest`
      : entry.forked
        ? "its template may be of another QEMU: mt-boot gc removes templates that nothing runs from"
        : `its record asks for ${cores} cores, ${mem_mib} MiB and ${interfaces.length} interfaces: change it in the plan, or give this host what is missing`;
    return fail("failed", `Cannot boot {id}: QEMU says: ${why}`, hint);
  }

  /** Connects to the process that was spawned or found. */
  async connect(entry: Entry, pid: number, timeout_s: number): Promise<Result<Machine, MtError>> {
    const opened = await connectMachine(pid, entry.dir, {
      timeout_s,
      onClose: () => {
        const machine = entry.machine;
        if (machine?.pid === pid) this.#lost(entry, machine);
      },
      onStall: () => {
        const machine = entry.machine;
        if (machine?.pid === pid) this.#stalled(entry, machine);
      },
    });
    if (opened.isOk()) entry.connected(opened.value);
    return opened;
  }

  /** QEMU closed its socket: the guest is dead. A drive that is under way finds out by itself. */
  #lost(entry: Entry, machine: Machine): void {
    entry.disconnected();
    machine.close();
    this.#again(entry, async () => {
      const how = await entry.howEnded?.();
      return mtError("lost", `Cannot keep {id} running: its QEMU ${how}`, "it is started again");
    });
  }

  /** The guest is dead though its QEMU runs: QEMU is ended, and the guest started again. */
  dead(entry: Entry, machine: Machine, error: MtError): void {
    if (entry.machine !== machine || entry.driving || entry.dropped || !entry.wanted) return;
    entry.disconnected();
    machine.close();
    this.#again(entry, async () => error);
  }

  /** Starts a guest again after its back-off, unless it is being driven. */
  #again(entry: Entry, why: () => Promise<MtError>): void {
    if (entry.dropped || entry.driving || !entry.wanted) return;
    // `driving` is set from here on, so that nobody takes the guest for one that is up.
    this.drive(entry, async () => {
      const error = await why();
      if (entry.dropped) return;
      await this.discard(entry);
      if (entry.dropped) return;
      inform(`${entry.record.id}: ${error.message.replaceAll("{id}", entry.record.id)}`);
      entry.died(error, Date.now());
      this.note(entry);
      await this.#backOff(entry);
    });
  }

  /** Stops a guest that is not being driven where it is; gives the error if that failed. */
  async stop(entry: Entry): Promise<MtError | undefined> {
    const { machine } = entry;
    if (entry.state === "paused" && machine) return undefined;
    if (!machine) return mtError("failed", `it is ${entry.state}`, entry.error?.hint);
    const stopped = await machine.qmp.call("stop");
    if (stopped.isErr()) return stopped.error;
    if (entry.machine === machine) {
      entry.becamePaused();
      this.note(entry);
    }
    // Somebody asked for more meanwhile.
    if (entry.astray) this.drive(entry);
    return undefined;
  }

  /** QEMU has stopped the guest because of its disk: it is resumed, with back-off, until the disk works. */
  #stalled(entry: Entry, { stall }: Machine): void {
    const error = stall.error;
    if (entry.dropped || entry.driving || !entry.wanted || !error) return;
    this.drive(entry, async () => {
      inform(`${entry.record.id}: ${error.message.replaceAll("{id}", entry.record.id)}`);
      entry.stalled(error);
      this.note(entry);
      await this.#backOff(entry);
    });
  }

  /** Ends the guest's process. */
  async discard(entry: Entry): Promise<void> {
    const { machine, pid } = entry;
    entry.discarded();
    machine?.close();
    if (pid !== undefined) await endGuests([{ pid, dir: entry.dir }]);
  }

  /** The error with how QEMU ended, and with the last lines of the guest's console. */
  async #explain(entry: Entry, error: MtError): Promise<MtError> {
    const how = error.code === "lost" && entry.howEnded ? await entry.howEnded() : undefined;
    const panic = how === undefined ? undefined : kernelPanic(entry.dir);
    const said =
      panic !== undefined
        ? mtError("failed", `Cannot boot {id}: its kernel panicked: ${panic}`)
        : how !== undefined
          ? { ...error, message: `Cannot boot {id}: its QEMU ${how}` }
          : error;
    if (said.hint !== undefined) return said;
    const hint = consoleTail(entry.dir);
    return hint === undefined ? said : { ...said, hint };
  }

  /** To be called after each change of an entry's state: tells who watches, and the ledger. */
  note(entry: Entry): void {
    for (const tell of this.watchers) tell(entry);
    if (!entry.dropped) this.#ledger.put(rowOf(entry));
  }
}
