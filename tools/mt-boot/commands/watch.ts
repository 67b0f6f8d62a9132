/**
 * `mt-boot watch`: prints the guests of an experiment, then each change, as guest records, until the last guest is gone.
 * If the supervisor dies it is started again, and changes that it then finds are printed too.
 */
import { hostOf } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { EXIT, type MtError, MtFailure, mtError, orThrow } from "../../../shared/errors.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import { textOf } from "../client/came-as.ts";
import { ask, supervisorPid, theExperiment } from "../client/client.ts";
import { hasLedger } from "../persist/ledger.ts";
import { nameGuest } from "../protocol.ts";
import type { spec } from "../spec.ts";

export const watch: Run<typeof spec, "watch"> = async (invocation) => {
  const { args, signal } = invocation;
  const experiment = orThrow(await theExperiment(args.experiment));
  if (!hasLedger(experiment) && supervisorPid(experiment) === undefined)
    throw new MtFailure(mtError("failed", `Cannot watch ${experiment}: it has no guests here`, "mt-boot up"));
  const writer = new LineWriter();
  /** What was printed of each guest, so that a second list prints only changes. */
  const told = new Map<string, string>();
  let error: MtError | undefined;
  while (!signal.aborted) {
    const asked = await ask({ experiment, host: hostOf(invocation), signal }, "watch", undefined, (line) => {
      if (line.kind !== "list") return;
      const { guest } = line;
      const known = nameGuest(guest.error, guest.id);
      const record = { ...guest, ...(known === undefined ? {} : { error: known }), experiment };
      const text = JSON.stringify(record);
      if (told.get(guest.id) === text) return;
      told.set(guest.id, text);
      const { kind, id, ...rest } = record;
      writer.line(textOf({ kind, id, ...rest, time: new Date().toISOString() }));
      writer.flush();
    });
    if (asked.isErr()) error = asked.error;
    // The supervisor itself said that no guest is left.
    if (asked.isOk() || asked.error.code !== "lost" || !hasLedger(experiment)) break;
  }
  if (error && !signal.aborted && hasLedger(experiment)) throw new MtFailure(error);
  return EXIT.ok;
};
