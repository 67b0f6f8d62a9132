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
  /** How long a guest that is ready may leave a question unanswered before it is started again; 0: for ever. */
  answer_timeout_s: number;
  accel: AcceleratorWish;
  boot_mode: BootMode;
  /** MiB of this host's memory that its guests leave free. */
  reserve_mib: number;
  /** For a single guest: the state that it goes on from. */
  saved?: SavedState;
  /** Guests that this host has no room for come out planned, not failed. */
  until_full: boolean;
}
/** Waits until none of the guests is being driven any more, and gives their states then. */
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
  /** How long a guest that is being driven may take to get there. */
  ready_timeout_s: number;
}
/** A guest by name, with the record for {field}; absent: the supervisor's own record. */
export interface Target {
  id: string;
  record?: Guest;
}
export interface ExecRequest {
  targets: Target[];
  argv: string[];
  /** {field} in the arguments is not replaced. */
  literal: boolean;
  jobs: number;
  timeout_s: number;
  stdin_base64?: string;
}
/** One file to copy; the path on this host is absolute. */
export interface CopyFile {
  from: string;
  /** When copying out of guests: relative to the guest's directory in `dir`. */
  to: string;
}
export interface CopyRequest {
  targets: Target[];
  /** Copies out of the guests, each into its own directory below this one; absent: into the guests. */
  dir?: string;
  files: CopyFile[];
  jobs: number;
  timeout_s: number;
}

/** Saves running guests into a directory of this host. */
export interface SaveRequest {
  targets: Target[];
  dir: string;
  jobs: number;
}

/** A guest's state. Errors have {id} for its name, so that neighbours with the same error fold. */
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
  /** How often it was started again after it had been up, under this supervisor. */
  restarts: number;
}
export interface StatsLine {
  kind: "stats";
  guests: number;
  /** How many of them are clones, and the median time of one from its start until it had its template's state. */
  forked: number;
  restored_ms?: number;
  /** Means over a sample of the guests. */
  rss_mib?: number;
  pss_mib?: number;
  /** Processor time that the supervisor itself has used since it started. */
  supervisor_cpu_s: number;
}
/** Sent every TICK_MS, so that a busy supervisor is told from a lost one. */
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
/** A supervisor that has sent nothing for so long is asked again. */
export const SILENCE_S = 15;

/** Replaces {id} in an error by the guest's name, or a range's. */
export function nameGuest(error: MtError | undefined, id: string): MtError | undefined {
  return error && { ...error, message: error.message.replaceAll("{id}", id) };
}
