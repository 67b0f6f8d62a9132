/**
 * The guests of one experiment on this host: adopts those that an earlier supervisor left, and does what commands ask
 * for.
 */
import { ok, type Result, ResultAsync } from "neverthrow";
import { inform } from "../../../shared/cli/stderr.ts";
import { fail, hasNoRoom, type MtError, mtError } from "../../../shared/errors.ts";
import { guestDir } from "../../../shared/host/names.ts";
import type { Guest } from "../../../shared/records/index.ts";
import { guestMembers } from "../../../shared/records/members.ts";
import { fromKept } from "../client/came-as.ts";
import { STOPPED_BY_DISK } from "../machine/disk.ts";
import { guestFiles } from "../machine/guest-files.ts";
import { endOfProcess } from "../machine/machine.ts";
import { endGuests, type Living, livingGuests } from "../machine/processes.ts";
import { within } from "../machine/qmp.ts";
import { removeGuest, supervisorLog } from "../persist/files.ts";
import type { Ledger } from "../persist/ledger.ts";
import type { ConfirmRequest, GuestLine, PauseRequest, ResumeRequest, UpRequest } from "../protocol.ts";
import { Driver } from "./driver.ts";
import { Entry } from "./entry.ts";
import { definition, lineOf, mtusOf } from "./entry-lines.ts";
import { Heartbeat } from "./heartbeat.ts";
import { keepEnd } from "./log-end.ts";

const ADOPT_S = 20;

export class Supervisor {
  readonly entries = new Map<string, Entry>();
  readonly #experiment: string;
  readonly #ledger: Ledger;
  readonly #driver: Driver;
  readonly #heartbeat: Heartbeat;
  /** Guests that were taken down, and that the ledger still has, for want of room to write. */
  readonly #unnoted = new Set<string>();
  /** The last `up` for each guest. */
  readonly #asked_by = new WeakMap<Entry, UpRequest>();

  /** @param isInPlace whether this supervisor still has its lock: the experiment's directory may have been removed */
  constructor(experiment: string, ledger: Ledger, isInPlace: () => boolean) {
    this.#experiment = experiment;
    this.#ledger = ledger;
    this.#driver = new Driver(experiment, this.entries, ledger, isInPlace);
    this.#heartbeat = new Heartbeat((entry, machine, error) => this.#driver.dead(entry, machine, error));
  }

  /** Adopts what an earlier supervisor left: connects to living guests, starts dead ones that are wanted. */
  async adopt(jobs: number): Promise<void> {
    this.#driver.slots.resize(jobs);
    const living = new Map(livingGuests(this.#experiment).map((l) => [l.dir, l]));
    const adopting: Promise<void>[] = [];
    for (const row of this.#ledger.rows()) {
      const entry = new Entry(row, guestDir(this.#experiment, row.record.id), Infinity);
      this.entries.set(row.record.id, entry);
      const found = living.get(entry.dir);
      living.delete(entry.dir);
      if (found) adopting.push(this.#adoptOne(entry, found));
      else if (entry.wanted) {
        entry.foundDead(
          mtError("lost", "Cannot keep {id} running: its QEMU had ended", "it is started again"),
        );
        this.#driver.note(entry);
        this.#driver.drive(entry);
      } else if (entry.state !== "failed") {
        entry.stopped();
        this.#driver.note(entry);
      }
    }
    // A QEMU without a row in the ledger cannot be given an identity; `up` starts its guest anew.
    if (living.size > 0) inform(`ended ${living.size} guests that the ledger does not know`);
    adopting.push(endGuests([...living.values()]).then(() => undefined));
    await Promise.all(adopting);
  }

  /** Connects to a living QEMU; what the guest is comes from QEMU and its agent, not from what was noted. */
  async #adoptOne(entry: Entry, { pid, dir, forked }: Living): Promise<void> {
    const was = entry.state;
    entry.found({ pid, forked: forked === true, howEnded: () => endOfProcess(pid, dir) });
    const startAnew = async () => {
      await this.#driver.discard(entry);
      if (entry.wanted) this.#driver.drive(entry);
    };
    const connected = await this.#driver.connect(entry, pid, ADOPT_S);
    const status = await connected.asyncAndThen(
      ({ qmp }) => new ResultAsync(qmp.call("query-status", undefined, ADOPT_S)),
    );
    if (status.isErr()) {
      inform(`${entry.record.id}: ${status.error.message}: it is started anew`);
      return startAnew();
    }
    const { status: now, running } = status.value as { status: string; running: boolean };
    // A clone whose supervisor died before it gave it its state.
    if (now === "inmigrate") return startAnew();
    if (now === "io-error") entry.machine?.stall.begin(STOPPED_BY_DISK);
    const answers =
      was === "ready" && now === "running" && (await entry.machine?.agent.sync(ADOPT_S))?.isOk();
    // One that is stopped is paused, also in the middle of being saved; one that its disk has stopped is not ours to
    // resume at once.
    entry.adopted(answers ? "ready" : running || now === "io-error" ? "running" : "paused", Date.now());
    this.#driver.note(entry);
    if (!entry.reached) this.#driver.drive(entry);
  }

  /** Brings the guests of a record up; gives the state of each as soon as it is up or given up. */
  async up(request: UpRequest, each: (line: GuestLine) => void, signal: AbortSignal): Promise<void> {
    const members = guestMembers(fromKept(request.guest, request.text));
    if (members.isErr()) {
      each({ kind: "guest", id: request.guest.id, state: "failed", error: members.error });
      return;
    }
    this.#driver.slots.resize(request.jobs);
    this.#driver.admission.reserve_mib = request.reserve_mib;
    if (![...this.entries.values()].some((entry) => entry.driving)) await this.#driver.forgetFailures();
    const mine: Entry[] = [];
    let done = false;
    const gone = () => !done && this.#giveUp(mine, request);
    signal.addEventListener("abort", gone, { once: true });
    await Promise.all(
      members.value.map(async (record) => {
        const before = this.entries.get(record.id)?.record;
        const entry = this.#want(record, request);
        if (entry.isErr()) return each({ kind: "guest", id: record.id, state: "failed", error: entry.error });
        mine.push(entry.value);
        await settled(entry.value);
        if (before && mtusOf(before) !== mtusOf(record)) await this.#driver.refresh(entry.value);
        // A guest without room (--until-full) does not stay here: another host may get it.
        const { dropped, state, wanted } = entry.value;
        const homeless = !dropped && state === "planned" && wanted === undefined;
        each(dropped ? takenDown("boot", record.id) : lineOf(entry.value));
        if (homeless) this.#drop(entry.value);
      }),
    );
    done = true;
  }

  /**
   * Waits until all of the guests are up at the same time: a guest that died after it had come up is waited for again.
   * Gives the state of each in the end.
   */
  async confirm(
    { ids, timeout_s }: ConfirmRequest,
    each: (line: GuestLine) => void,
    gone: AbortSignal,
  ): Promise<void> {
    const mine = ids.flatMap((id) => this.entries.get(id) ?? []);
    const end = Date.now() + timeout_s * 1000;
    while (Date.now() < end && !gone.aborted) {
      const away = mine.flatMap((entry) => (entry.dropped ? [] : (entry.driving ?? [])));
      if (away.length === 0) break;
      await within(Promise.all(away), (end - Date.now()) / 1000);
    }
    for (const entry of mine) each(entry.dropped ? takenDown("boot", entry.record.id) : lineOf(entry));
  }

  /** Calls `tell` with each change of a guest's state; gives the function that ends this. */
  watch(tell: (entry: Entry) => void): () => void {
    this.#driver.watchers.add(tell);
    return () => this.#driver.watchers.delete(tell);
  }

  #want(record: Guest, request: UpRequest): Result<Entry, MtError> {
    const wanted = request.paused ? "paused" : "ready";
    const { image, accel, boot_mode, ready_timeout_s, answer_timeout_s, until_full, saved } = request;
    const there = this.entries.get(record.id);
    if (there?.pid !== undefined && definition(there.record, there.image) !== definition(record, image))
      return fail(
        "failed",
        "Cannot boot {id}: it runs already, with another image, size or address",
        "mt-boot down, then up",
      );
    if (there?.pid !== undefined && saved !== undefined)
      return fail("failed", "Cannot restore {id}: it runs already", "mt-boot down, then restore");
    const wish = { record, image, accel, boot_mode, ready_timeout_s, answer_timeout_s, until_full };
    const dir = guestDir(this.#experiment, record.id);
    const entry = there ?? new Entry({ ...wish, wanted: undefined, state: "planned" }, dir, request.retries);
    this.entries.set(record.id, entry);
    this.#unnoted.delete(record.id);
    entry.requested(wish, wanted, saved);
    this.#asked_by.set(entry, request);
    this.#bring(entry, request.retries);
    return ok(entry);
  }

  /** Starts a drive, or hurries the one that waits for its back-off. */
  #bring(entry: Entry, retries: number): void {
    if (entry.reached) return;
    entry.triesGranted(retries);
    this.#driver.drive(entry);
    entry.hurry();
  }

  /** The client has gone: guests that have not begun are dropped, unless another request has asked for them since. */
  #giveUp(entries: readonly Entry[], request: UpRequest): void {
    for (const entry of entries)
      if (!entry.begun && entry.driving && this.#asked_by.get(entry) === request) this.#forget(entry);
  }

  /** Resumes paused guests. */
  async resume(request: ResumeRequest, each: (line: GuestLine) => void): Promise<void> {
    this.#driver.slots.resize(request.jobs);
    await Promise.all(
      request.ids.map(async (id) => {
        const entry = this.entries.get(id);
        if (!entry?.wanted) return each(notHere(id, entry, "resume"));
        entry.resumeRequested(request.ready_timeout_s);
        this.#bring(entry, request.retries);
        await settled(entry);
        each(entry.dropped ? takenDown("resume", id) : lineOf(entry));
      }),
    );
  }

  /** Stops guests where they are; they stay paused until they are resumed, also under another supervisor. */
  async pause({ ids, ready_timeout_s }: PauseRequest, each: (line: GuestLine) => void): Promise<void> {
    await Promise.all(
      ids.map(async (id) => {
        const entry = this.entries.get(id);
        if (!entry?.wanted) return each(notHere(id, entry, "pause"));
        entry.pauseRequested();
        // A guest that is being driven stops at its barrier, or becomes ready first.
        const late = await within(entry.driving ?? Promise.resolve(), ready_timeout_s);
        const stopped = late ?? (await this.#driver.stop(entry));
        if (entry.dropped) each(takenDown("pause", id));
        else each(stopped ? cannot("pause", id, stopped) : lineOf(entry));
      }),
    );
  }

  /** Ends guests and starts them anew. */
  async reset(request: ResumeRequest, each: (line: GuestLine) => void): Promise<void> {
    this.#driver.slots.resize(request.jobs);
    await Promise.all(
      request.ids.map(async (id) => {
        const entry = this.entries.get(id);
        if (!entry?.wanted) return each(notHere(id, entry, "reset"));
        entry.resetRequested(request.ready_timeout_s);
        const discard = async () => {
          await this.#driver.discard(entry);
          if (entry.dropped) return;
          entry.reset();
          this.#driver.note(entry);
        };
        if (entry.driving) await discard();
        else this.#driver.drive(entry, discard);
        this.#bring(entry, request.retries);
        await settled(entry);
        each(entry.dropped ? takenDown("reset", id) : lineOf(entry));
      }),
    );
  }

  /** Ends guests and forgets them; `ids` absent: all, also those not in the ledger. Gives those that could not be ended. */
  async down(ids?: readonly string[]): Promise<Living[]> {
    const going =
      ids === undefined ? [...this.entries.values()] : ids.flatMap((id) => this.entries.get(id) ?? []);
    const dirs = new Set(going.map((entry) => entry.dir));
    for (const id of ids ?? []) dirs.add(guestDir(this.#experiment, id));
    for (const entry of going) this.#forget(entry);
    const left = await endGuests(
      livingGuests(this.#experiment).filter((l) => ids === undefined || dirs.has(l.dir)),
    );
    for (const entry of going) entry.machine?.close();
    for (const dir of dirs) if (!left.some((l) => l.dir === dir)) removeGuest(this.#experiment, dir);
    // Removing files has made room for what could not be noted. With the last guest the whole ledger is removed.
    if (this.entries.size > 0) this.#ledger.drop([...this.#unnoted]);
    this.#unnoted.clear();
    return left;
  }

  #forget(entry: Entry): void {
    this.#drop(entry);
    entry.stopped();
    this.#driver.note(entry);
  }

  #drop(entry: Entry): void {
    entry.drop();
    if (this.entries.get(entry.record.id) === entry) {
      this.entries.delete(entry.record.id);
      try {
        this.#ledger.drop([entry.record.id]);
      } catch (thrown) {
        if (!hasNoRoom(thrown)) throw thrown;
        this.#unnoted.add(entry.record.id);
      }
    }
  }

  /** To be called every LOOK_MS: finds guests that do not answer, and cuts logs that are too long. */
  look(): void {
    this.#heartbeat.look(this.entries.values());
    for (const { dir } of this.entries.values()) {
      const { console, log } = guestFiles(dir);
      keepEnd(console);
      keepEnd(log);
    }
    keepEnd(supervisorLog(this.#experiment));
  }
}

/** Waits for the drive; also for the next one, where the guest was asked for while an earlier drive was giving it up. */
async function settled(entry: Entry): Promise<void> {
  await entry.driving;
  if (entry.astray) await entry.driving;
}

/** The line of a guest that `down` removed while it was being driven. */
export const takenDown = (verb: "boot" | Asked, id: string): GuestLine => ({
  kind: "guest",
  id,
  state: "failed",
  error: mtError("failed", `Cannot ${verb} {id}: it was taken down meanwhile`, "mt-boot up"),
});

type Asked = "pause" | "resume" | "reset";

const cannot = (verb: Asked, id: string, error: MtError): GuestLine => ({
  kind: "guest",
  id,
  state: "failed",
  error: { ...error, message: `Cannot ${verb} {id}: ${error.message}` },
});

function notHere(id: string, entry: Entry | undefined, verb: Asked): GuestLine {
  if (entry?.error) return lineOf(entry);
  return cannot(
    verb,
    id,
    mtError("failed", "it is not there", verb === "resume" ? "mt-boot up --paused" : "mt-boot up"),
  );
}
