/**
 * `mt-boot watch`: the guests of an experiment as they are, and then each change, as guest records; until the
 * last of them is gone. Where the supervisor dies it is started again, and nothing that it then finds is missed.
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
  /** What was told of each, so that a list that comes again tells only what is new. */
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
    // Told by the supervisor itself that there is nothing left to see.
    if (asked.isOk() || asked.error.code !== "lost" || !hasLedger(experiment)) break;
  }
  if (error && !signal.aborted && hasLedger(experiment)) throw new MtFailure(error);
  return EXIT.ok;
};
