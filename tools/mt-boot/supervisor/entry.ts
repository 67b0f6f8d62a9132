/** One guest as the supervisor has it: what it is wanted to be, what it is, and who works on it. */
import type { MtError } from "../../../shared/errors.ts";
import type { GuestState } from "../../../shared/records/guest.ts";
import type { Guest, Image } from "../../../shared/records/index.ts";
import { keptText } from "../client/came-as.ts";
import type { Machine } from "../machine/machine.ts";
import type { AcceleratorWish, LedgerRow, SavedState, Wanted, Way } from "../persist/ledger.ts";
import type { GuestLine, ListLine } from "../protocol.ts";

/** As --answer-timeout has it; for rows of a ledger that know nothing of it. */
const ANSWER_TIMEOUT_S = 60;

export interface Entry {
  record: Guest;
  image: Image;
  accel: AcceleratorWish;
  way: Way;
  ready_timeout_s: number;
  /** How long it may owe an answer once it is ready; 0: for ever. */
  answer_timeout_s: number;
  /** It stands still for a moment although it is ready: it is being saved. */
  stopped?: boolean;
  wanted: Wanted;
  state: GuestState;
  error?: MtError;
  /** Whether the guest that runs now was told who it is: one that was ready and is paused need not be told again. */
  known?: boolean;
  restored?: boolean;
  dir: string;
  pid?: number;
  machine?: Machine;
  /** Says how its process ended, once it has. */
  howEnded?: () => Promise<string>;
  /** Set while somebody brings it to where it is wanted. */
  driving?: Promise<void>;
  /** How often it may still be tried before it is given up. */
  tries_left: number;
  /** Failures in a row; the back-off grows with them. */
  failures: number;
  /** How often it failed as a clone. */
  forks_failed: number;
  /** Whether it is one now, and how long its memory and devices took to be there. */
  forked: boolean;
  restored_ms?: number;
  /** How often it was started again after it had been where it was wanted. */
  restarts: number;
  /** How often in a row QEMU refused its command line. */
  refusals: number;
  well_since: number;
  /** Cuts the back-off short. */
  wake?: () => void;
  /** Has its turn, or had it: an interrupted request leaves it alone. */
  begun: boolean;
  /** What it goes on from when it is started next. */
  saved?: SavedState;
  /** Where there is no room for it, it is planned, and no failure. */
  until_full: boolean;
  /** Taken out: whoever still works on it lets it be. */
  dropped: boolean;
}

/** @param tries how often it may be tried again before it is given up */
export const newEntry = (row: LedgerRow, dir: string, tries: number): Entry => ({
  answer_timeout_s: ANSWER_TIMEOUT_S,
  ...row,
  dir,
  tries_left: tries,
  failures: 0,
  forks_failed: 0,
  forked: false,
  restarts: 0,
  refusals: 0,
  well_since: 0,
  begun: false,
  until_full: false,
  dropped: false,
});

/** Whether it is where it is wanted. One that is ready is not wanted any less. */
export const reached = (entry: Entry) =>
  entry.machine !== undefined && (entry.state === "ready" || entry.state === entry.wanted);

export const lineOf = ({ record, state, error }: Entry): GuestLine => ({
  kind: "guest",
  id: record.id,
  state,
  ...(error === undefined ? {} : { error }),
});

/** Its record as it is now. */
export function listLineOf({ record, state, error, restarts }: Entry): ListLine {
  const { state: _state, error: _error, ...rest } = record;
  const guest = { ...rest, state, ...(error === undefined ? {} : { error: { by: "mt-boot", ...error } }) };
  return { kind: "list", restarts, guest, text: keptText(guest) };
}

/** What a running guest cannot change. */
export function definition(guest: Guest, image: Image): string {
  const nics = guest.interfaces.map(({ segment, ip, gateway }) => [segment, ip, gateway]);
  return JSON.stringify([
    guest.index,
    guest.image,
    image.files?.kernel,
    image.files?.initrd,
    image.files?.disk,
    guest.cores,
    guest.mem_mib,
    nics,
  ]);
}

/** What the ledger keeps of it. */
export const rowOf = ({
  record,
  image,
  accel,
  way,
  ready_timeout_s,
  answer_timeout_s,
  wanted,
  state,
  error,
  saved,
  known,
  restored,
}: Entry): LedgerRow => ({
  record,
  image,
  accel,
  way,
  ready_timeout_s,
  answer_timeout_s,
  wanted,
  state,
  known,
  restored,
  ...(error === undefined ? {} : { error }),
  ...(saved === undefined ? {} : { saved }),
});
