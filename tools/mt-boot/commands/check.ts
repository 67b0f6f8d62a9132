/** `mt-boot check`: writes the present state of the plan's guests of this host; changes nothing. */
import { runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { type MtError, mtError, orThrow } from "../../../shared/errors.ts";
import type { Guest } from "../../../shared/records/index.ts";
import { guestMembers, type Outcome } from "../../../shared/records/members.ts";
import { failedEarlier, withoutFailure } from "../../../shared/stages.ts";
import { ask, because, supervisorPid } from "../client/client.ts";
import { foldNamed } from "../client/fold.ts";
import { hasLedger } from "../persist/ledger.ts";
import type { spec } from "../spec.ts";

export const check: Run<typeof spec, "check"> = async (invocation) => {
  let experiment: string | undefined;
  /** The supervisor's list, asked for once: it notices the death of a guest at once, so the list is up to date. */
  let here: Promise<Map<string, Outcome> | MtError> | undefined;

  const list = async (host: string, signal: AbortSignal): Promise<Map<string, Outcome> | MtError> => {
    const found = new Map<string, Outcome>();
    if (experiment === undefined)
      return mtError("data", "Cannot check {id}: no experiment record came before it");
    if (!hasLedger(experiment) && supervisorPid(experiment) === undefined) return found;
    const asked = await ask({ experiment, host, signal }, "ls", undefined, (line) => {
      if (line.kind === "list")
        found.set(line.guest.id, { state: line.guest.state, error: line.guest.error });
    });
    return asked.isErr() ? because("check", asked.error, signal) : found;
  };

  const stateOf = (id: string, found: Map<string, Outcome> | MtError): Outcome => {
    const missing = mtError("failed", "Cannot check {id}: it is not there", "mt-boot up");
    const outcome = found instanceof Map ? found.get(id) : undefined;
    return (
      outcome ?? { state: "failed", error: { by: "mt-boot", ...(found instanceof Map ? missing : found) } }
    );
  };

  return runFilterCommand(invocation, {
    changes: false,
    reads: {
      experiment: (record) => {
        experiment = record.id;
      },
    },
    owns: {
      guest: async (record: Guest, context) => {
        if (failedEarlier(record, "mt-boot")) return undefined;
        const guest = withoutFailure(record);
        const members = guestMembers(guest);
        if (members.isErr()) return context.failed(guest, members.error);
        here ??= list(context.host, context.signal);
        const found = await here;
        return orThrow(
          foldNamed(
            guest,
            members.value.map(({ id }) => stateOf(id, found)),
          ),
        );
      },
    },
  });
};
