/**
 * One guest as the supervisor has it: what it is wanted to be, what it is, and who works on it. No clock, socket or
 * file in here: the driver and the supervisor do the work, then call the method named for what happened. From outside
 * all fields are read-only.
 *
 *            spawned           becameReady
 *   planned ─────────▶ running ───────────▶ ready       driver, on its way to what is wanted
 *                       │   ▲                 │
 *          becamePaused │   │ wentOn          │ becamePaused (mt-boot pause)
 *                       ▼   │                 │
 *                      paused ◀───────────────┘
 *
 *   any     ── tryFailed, stalled, died ──▶ failed      still wanted: spawned again after a back-off (driver)
 *   any     ── gaveUp ──▶ failed or planned             not wanted any more, until somebody asks again (driver)
 *   any     ── reset ──▶ planned                        mt-boot reset (supervisor)
 *   any     ── dropped, stopped ──▶ stopped             mt-boot down (supervisor)
 *   noted state ── adopted ──▶ running, paused, ready   a QEMU that outlived its supervisor (supervisor)
 *   noted state ── foundDead ──▶ failed                 one that did not
 *
 * At all times: `machine` is that of the process `pid`; an error belongs to `failed`, or to `planned` where the host
 * has no room; one that is dropped is not wanted. A state stands until the next is noted: of a QEMU that has just
 * ended `machine` is gone first.
 */
import type { MtError } from "../../../shared/errors.ts";
import type { GuestState } from "../../../shared/records/guest.ts";
import type { Guest, Image } from "../../../shared/records/index.ts";
import type { Machine } from "../machine/machine.ts";
import type { AcceleratorWish, BootMode, LedgerRow, SavedState, Wanted } from "../persist/ledger.ts";
import { platformOf } from "../platforms/platforms.ts";

/** As --answer-timeout has it; for rows of a ledger that know nothing of it. */
const ANSWER_TIMEOUT_S = 60;
/** How often a guest may fail as a clone before it is booted cold. */
const FORKS_MAX = 2;
/** After this long in its wanted state a guest's back-off starts from the beginning. */
const WELL_MS = 60_000;

/** What a request says of a guest. */
export interface Wish {
  record: Guest;
  image: Image;
  accel: AcceleratorWish;
  boot_mode: BootMode;
  ready_timeout_s: number;
  /** How long it may owe an answer once it is ready; 0: for ever. */
  answer_timeout_s: number;
  /** Where there is no room for it, it is planned, and no failure. */
  until_full: boolean;
}

/** A QEMU process of the guest, as it was started or found. */
export interface Process {
  pid: number;
  /** Whether it is a clone of a template. */
  forked: boolean;
  /** Says how the process ended, once it has. */
  howEnded: () => Promise<string>;
}

export class Entry {
  /** The guest's own directory. */
  readonly dir: string;

  // What it is wanted to be.
  readonly record!: Guest;
  readonly image!: Image;
  readonly accel!: AcceleratorWish;
  readonly boot_mode!: BootMode;
  readonly ready_timeout_s!: number;
  readonly answer_timeout_s!: number;
  readonly until_full!: boolean;
  readonly wanted: Wanted;
  /** What it goes on from when it is started next. */
  readonly saved?: SavedState;
  /** Removed by `down`: a drive that is still under way stops at its next step. */
  readonly dropped: boolean = false;

  // What it is.
  readonly state!: GuestState;
  readonly error?: MtError;
  readonly pid?: number;
  readonly howEnded?: () => Promise<string>;
  /** Connected to the QEMU of `pid`. */
  readonly machine?: Machine;
  readonly forked: boolean = false;
  /** How long a clone took from its start until its memory and devices were there. */
  readonly restored_ms?: number;
  /** Whether the guest in this QEMU was told its identity: one that is paused after that need not be told again. */
  readonly known: boolean = false;
  /** Whether it goes on from a file, and has not yet made anew what other copies of that file may have too. */
  readonly restored: boolean = false;
  /** Its QEMU is stopped for a moment while the guest is saved; `state` stays. */
  readonly being_saved: boolean = false;
  /** Date.now() when it was last seen where it is wanted. */
  readonly well_since: number = 0;
  /** How often it was started again after it had been where it was wanted. */
  readonly restarts: number = 0;

  // The drive, and how it went.
  /** Set while the driver brings it to what is wanted. */
  readonly driving?: Promise<void>;
  /** It has had its turn: it is not dropped when the request is interrupted. */
  readonly begun: boolean = false;
  /** How often it may still be tried before it is given up. */
  readonly tries_left!: number;
  /** Failures in a row; the back-off grows with them. */
  readonly failures: number = 0;
  /** How often it failed as a clone. */
  readonly forks_failed: number = 0;
  /** How often in a row QEMU refused its command line. */
  readonly refusals: number = 0;
  #endBackOff?: () => void;

  /**
   * @param row what is asked for, or what an earlier supervisor noted
   * @param tries how often it may be tried again before it is given up; Infinity: as long as it is wanted
   */
  constructor(row: LedgerRow, dir: string, tries: number) {
    this.dir = dir;
    this.#now({ answer_timeout_s: ANSWER_TIMEOUT_S, until_full: false, ...row, tries_left: tries });
    // A row that has just been asked for, or an older one, says nothing of these.
    this.#now({ known: row.known === true, restored: row.restored === true });
  }

  /** The one place where fields change. */
  #now(change: { -readonly [K in keyof Entry]?: Entry[K] }): void {
    Object.assign(this, change);
  }

  /** Whether it is where it is wanted. Ready also counts as reached when paused was wanted. */
  get reached(): boolean {
    return this.machine !== undefined && (this.state === "ready" || this.state === this.wanted);
  }

  /** Whether it has to be driven: it is wanted and not there. */
  get astray(): boolean {
    return !this.dropped && this.wanted !== undefined && !this.reached;
  }

  /** Whether it is tried for as long as it is wanted: it has run on this host before. */
  get lasting(): boolean {
    return this.tries_left === Infinity;
  }

  /** Whether it is a clone when it is started next. */
  get forks_next(): boolean {
    const { image, saved, boot_mode } = this;
    const forkable = platformOf(image).map((platform) => platform.cannotFork(image) === undefined);
    if (saved !== undefined || !forkable.unwrapOr(false)) return false;
    if (boot_mode === "fork") return true;
    return boot_mode === "auto" && image.fork && this.forks_failed < FORKS_MAX;
  }

  // Requests.

  /** By `up` or `restore`. A request for paused takes nothing from one that is to be ready. */
  requested(wish: Wish, wanted: "paused" | "ready", saved?: SavedState): void {
    const lower = wanted === "paused" && this.wanted === "ready";
    this.#now({ ...wish, ...(lower ? {} : { wanted }), ...(saved === undefined ? {} : { saved }) });
  }

  resumeRequested(ready_timeout_s: number): void {
    this.#now({ wanted: "ready", ready_timeout_s });
  }

  /** The supervisor stops it once it is not being driven. */
  pauseRequested(): void {
    this.#now({ wanted: "paused" });
  }

  /** It is ended and started anew, to what it was wanted to be. */
  resetRequested(ready_timeout_s: number): void {
    this.#now({ ready_timeout_s, restarts: this.restarts + 1 });
  }

  /** A new request: earlier failures are forgotten. */
  triesGranted(retries: number): void {
    this.#now({ tries_left: retries, failures: 0, refusals: 0, forks_failed: 0 });
  }

  /** Not driven any more, for good. `state` stays until `stopped`. */
  drop(): void {
    this.#now({ dropped: true, wanted: undefined });
    this.hurry();
  }

  // The drive.

  /** One drive at a time. */
  driveBegan(driving: Promise<void>): void {
    this.#now({ driving });
  }

  driveEnded(): void {
    this.#now({ driving: undefined });
  }

  /** It has its turn: from now on an interrupted request does not drop it. */
  tryBegan(): void {
    this.#now({ begun: true });
  }

  /** @param end ends the back-off; called at most once, by `hurry` */
  backOffBegan(end: () => void): void {
    this.#endBackOff = end;
  }

  backOffEnded(): void {
    this.#endBackOff = undefined;
  }

  /** Cuts its back-off short, where it waits for one. */
  hurry(): void {
    this.#endBackOff?.();
  }

  /** QEMU is stopped while the guest is saved; `state` stays, and the heartbeat leaves it alone. */
  savingBegan(): void {
    this.#now({ being_saved: true });
  }

  savingEnded(): void {
    this.#now({ being_saved: false });
  }

  // What became of its QEMU.

  /** A new process: not connected; it has an identity only if the state that it goes on from has one. */
  spawned(process: Process): void {
    const known = this.saved?.known === true;
    this.#now({ ...process, machine: undefined, restored_ms: undefined, known, restored: known });
    this.#now({ state: "running", error: undefined });
  }

  /** A process that an earlier supervisor had started. What its guest was told stands in the ledger. */
  found(process: Process): void {
    this.#now({ ...process, machine: undefined });
  }

  /** Connected to the process that was spawned or found last. */
  connected(machine: Machine): void {
    this.#now({ machine });
  }

  /** Its sockets have closed, or are to be: the process may still be there. */
  disconnected(): void {
    this.#now({ machine: undefined });
  }

  /** Nothing of its process is to be left. */
  discarded(): void {
    this.#now({ machine: undefined, pid: undefined });
  }

  /** QEMU took its command line. */
  accepted(): void {
    this.#now({ refusals: 0 });
  }

  /** QEMU ended with a complaint about its command line. */
  refused(): void {
    this.#now({ refusals: this.refusals + 1 });
  }

  /** Its memory and devices have come from a file: it stands where that guest stood. */
  stateRestored(after_ms: number): void {
    if (this.forked) this.#now({ restored_ms: after_ms });
    this.becamePaused();
  }

  /** There is no template for it: it is booted cold, unless it may only be forked. */
  forkRuledOut(): void {
    this.#now({ forks_failed: FORKS_MAX });
  }

  // Its state.

  /** Stopped by us, with its QEMU. */
  becamePaused(): void {
    this.#now({ state: "paused", error: undefined });
  }

  /** It runs again after it was paused, or stopped by its disk. */
  wentOn(): void {
    this.#now({ state: "running", error: undefined });
  }

  /** The guest said so itself: it has its identity, and what copies of its file may have is made anew. */
  becameReady(): void {
    this.#now({ state: "ready", error: undefined, known: true, restored: false });
  }

  /** It has reached what was wanted; if it dies now it boots anew. Gives whether the ledger must be told. */
  arrived(now_ms: number): boolean {
    const news = this.saved !== undefined;
    this.#now({ well_since: now_ms, saved: undefined });
    return news;
  }

  /** A QEMU that outlived its supervisor, as it says that it is. */
  adopted(state: "running" | "paused" | "ready", now_ms: number): void {
    this.#now({ state, error: undefined, begun: true, well_since: now_ms });
  }

  /** Its QEMU ended while there was no supervisor; it is still wanted. */
  foundDead(error: MtError): void {
    this.#now({ state: "failed", error });
  }

  /** One that is to be tried again; `tries_left` was not 0. */
  tryFailed(error: MtError): void {
    const forks_failed = this.forks_failed + (this.forks_next ? 1 : 0);
    this.#now({ forks_failed, failures: this.failures + 1, tries_left: this.tries_left - 1 });
    this.#now({ state: "failed", error });
  }

  /** Not wanted until a new request. @param no_room not a failure: another host may have room */
  gaveUp(error: MtError, no_room: boolean): void {
    this.#now({ wanted: undefined, begun: false, state: no_room ? "planned" : "failed", error });
  }

  /** It was where it was wanted, and died: from now on it is tried for as long as it is wanted. */
  died(error: MtError, now_ms: number): void {
    const failures = now_ms - this.well_since > WELL_MS ? 1 : this.failures + 1;
    this.#now({ failures, restarts: this.restarts + 1, tries_left: Infinity, state: "failed", error });
  }

  /** Its disk has stopped it. It keeps its QEMU, and goes on in it for as long as it is wanted. */
  stalled(error: MtError): void {
    this.#now({ failures: this.failures + 1, tries_left: Infinity, state: "failed", error });
  }

  /** Its QEMU was ended on purpose, to be started anew. */
  reset(): void {
    this.#now({ state: "planned", error: undefined });
  }

  /** Its QEMU was ended on purpose, or is not wanted any more. */
  stopped(): void {
    this.#now({ state: "stopped", error: undefined });
  }
}
