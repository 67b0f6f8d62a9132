/** An entry as lines of the protocol and as a row of the ledger. */
import type { Guest, Image } from "../../../shared/records/index.ts";
import { keptText } from "../client/came-as.ts";
import type { LedgerRow } from "../persist/ledger.ts";
import type { GuestLine, ListLine } from "../protocol.ts";
import type { Entry } from "./entry.ts";

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

/** The MTUs of its links as the plan has them: told anew where they are others. */
export const mtusOf = (guest: Guest) => JSON.stringify(guest.interfaces.map(({ mtu }) => mtu));

/** What the ledger keeps of it. */
export const rowOf = (entry: Entry): LedgerRow => {
  const { record, image, accel, boot_mode, ready_timeout_s, answer_timeout_s } = entry;
  const { wanted, state, error, saved, known, restored } = entry;
  return {
    ...{ record, image, accel, boot_mode, ready_timeout_s, answer_timeout_s },
    ...{ wanted, state, known, restored },
    ...(error === undefined ? {} : { error }),
    ...(saved === undefined ? {} : { saved }),
  };
};
