/**
 * Starts guests in batches, with a command after each: so a host can be filled whose memory is merged in between. Guests
 * that find no room are tried again after the command; where a whole batch finds none, the host is full.
 */
import { delimiter, dirname } from "node:path";
import { inform } from "../../../shared/cli/stderr.ts";
import { mtError, orThrow } from "../../../shared/errors.ts";
import { cleanEnv, run, toolCommand } from "../../../shared/host/process.ts";
import type { Experiment, Guest } from "../../../shared/records/index.ts";
import { guestMembers } from "../../../shared/records/members.ts";
import { validate } from "../../../shared/records/validate.ts";
import type { FilterContext } from "../../../shared/stream/filter.ts";
import { foldGuests } from "../client/fold.ts";
import type { GuestLine } from "../protocol.ts";

const BETWEEN_S = 900;

interface How {
  batch: number;
  between: string | undefined;
  experiment: Experiment;
  /** The outcome of each guest, filled in here. */
  outcomes: Map<string, GuestLine>;
  context: FilterContext;
  boot(guest: Guest, context: FilterContext): Promise<void>;
}

/** @param records guests and ranges of them, in the order in which they are to be started */
export async function bootInBatches(records: readonly Guest[], how: How): Promise<void> {
  const { batch, between, experiment, outcomes, context } = how;
  const queue = records.flatMap((record) => orThrow(guestMembers(record)));
  const missed = (guest: Guest) => outcomes.get(guest.id)?.error?.code === "busy";
  while (queue.length > 0 && !context.signal.aborted) {
    const now = queue.splice(0, batch);
    for (const { id } of now) outcomes.delete(id);
    await Promise.all(foldGuests(now).map((guest) => how.boot(guest, context)));
    const refused = now.filter(missed);
    if (refused.length === now.length) {
      // The host is full: the others are not tried, and get the same outcome.
      const why = outcomes.get(refused[0]!.id)!;
      for (const { id } of queue) outcomes.set(id, { ...why, id });
      return;
    }
    const there = now.filter((guest) => !refused.includes(guest));
    if (between !== undefined) await runBetween(between, there, experiment, outcomes, context);
    queue.unshift(...refused);
  }
}

/** Runs the command with the batch as a plan on its stdin; its sample records go to our stdout. */
async function runBetween(
  command: string,
  guests: readonly Guest[],
  experiment: Experiment,
  outcomes: ReadonlyMap<string, GuestLine>,
  context: FilterContext,
): Promise<void> {
  const there = foldGuests(guests.map((guest) => ({ ...guest, state: outcomes.get(guest.id)?.state })));
  const end = { kind: "end", id: experiment.id, counts: { guest: guests.length } };
  const input = [experiment, ...there, end].map((line) => `${JSON.stringify(line)}\n`).join("");
  // The command finds our tools in the directory of this one.
  const PATH = `${process.env.PATH ?? ""}${delimiter}${dirname(toolCommand("mt-ksm")[0]!)}`;
  const done = await run("sh", ["-c", command], {
    input,
    env: cleanEnv({ PATH, MT_HOST: context.host }),
    timeout_s: BETWEEN_S,
    signal: context.signal,
  });
  if (done.isErr()) return context.note(done.error);
  for (const line of done.value.stdout.split("\n")) {
    if (!line.startsWith('{"kind":"sample"')) continue;
    const sample = validate("sample", parse(line));
    if (sample.isOk()) context.emit(sample.value);
  }
  const last = done.value.stderr.trim().split("\n").pop();
  if (done.value.code !== 0)
    context.note(
      mtError("failed", `Cannot run ${command}: ${last || `it ended with ${done.value.code}`}`, "--between"),
    );
  else if (last) inform(last);
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
