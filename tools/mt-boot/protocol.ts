/**
 * What commands ask the supervisor, and what it answers: JSON lines over its socket. A request is a name and
 * a body; every answer line has a kind; a failure of the whole is a line with `error` alone.
 */
import type { MtError } from "../../shared/errors.ts";
import type { GuestState } from "../../shared/records/guest.ts";
import type { Exit, Guest, Image } from "../../shared/records/index.ts";
import type { AcceleratorWish, BootMode, SavedState } from "./persist/ledger.ts";

export interface UpRequest {
  /** A guest or a range of them. */
  guest: Guest;
  /** The guest's record as a line, where JSON would lose some of it. */
  text?: string;
  image: Image;
  paused: boolean;
  jobs: number;
  retries: number;
  ready_timeout_s: number;
  /** How long a guest that is ready may owe an answer before it is started again; 0: for ever. */
  answer_timeout_s: number;
  accel: AcceleratorWish;
  boot_mode: BootMode;
  /** MiB of this host's memory that its guests leave free. */
  reserve_mib: number;
  /** What a single guest goes on from. */
  saved?: SavedState;
  /** Those that this host has no room for come out planned, not failed. */
  until_full: boolean;
}
/** Guests that were asked for: what is true of them once none is on its way any more. */
export interface ConfirmRequest {
  ids: string[];
  timeout_s: number;
}
export interface ResumeRequest {
  ids: string[];
  jobs: number;
  retries: number;
  ready_timeout_s: number;
}
/** Without ids: all. */
export interface DownRequest {
  ids?: string[];
}
/** Stops guests where they are. */
export interface PauseRequest {
  ids: string[];
  /** How long one that is on its way may take to get there. */
  ready_timeout_s: number;
}
/** A guest by name; the record is what {field} is taken from; absent: the supervisor's own. */
export interface Target {
  id: string;
  record?: Guest;
}
export interface ExecRequest {
  targets: Target[];
  argv: string[];
  /** Words are as they were typed: {field} is not replaced. */
  literal: boolean;
  jobs: number;
  timeout_s: number;
  stdin_base64?: string;
}
/** One file on its way; the side that is this host's is an absolute path. */
export interface CopyFile {
  from: string;
  /** Out of guests: below the directory that each guest has in `dir`. */
  to: string;
}
export interface CopyRequest {
  targets: Target[];
  /** Out of the guests, each into a directory of its own here; absent: into the guests. */
  dir?: string;
  files: CopyFile[];
  jobs: number;
  timeout_s: number;
}

/** Guests as they run, into a directory of this host. */
export interface SaveRequest {
  targets: Target[];
  dir: string;
  jobs: number;
}

/** What became of one guest. Errors say {id} for its name, so that neighbours with the same error fold. */
export interface GuestLine {
  kind: "guest";
  id: string;
  state?: GuestState;
  error?: MtError;
}
export interface ListLine {
  kind: "list";
  guest: Guest;
  /** As in UpRequest. */
  text?: string;
  /** How often it was started again after it had been where it was wanted, as this supervisor knows. */
  restarts: number;
}
export interface StatsLine {
  kind: "stats";
  guests: number;
  /** Of them, how many are clones, and how long one took from its start to its template's state: the median. */
  forked: number;
  restored_ms?: number;
  /** Means over guests that were looked at. */
  rss_mib?: number;
  pss_mib?: number;
  /** Processor time that the supervisor itself has used since it started. */
  supervisor_cpu_s: number;
}
/** Sent while nothing else is, so that a silent supervisor is told from a busy one. */
export interface TickLine {
  kind: "tick";
}
export interface DoneLine {
  kind: "done";
  /** Guests that are left. */
  left: number;
}
export type ReplyLine = GuestLine | ListLine | StatsLine | TickLine | DoneLine | Exit;

export const TICK_MS = 5_000;
/** A supervisor that has sent nothing for so long is lost. */
export const SILENCE_S = 15;

/** The guest's name where an error says {id}; the name may be a range's. */
export function nameGuest(error: MtError | undefined, id: string): MtError | undefined {
  return error && { ...error, message: error.message.replaceAll("{id}", id) };
}
