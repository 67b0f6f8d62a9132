/**
 * What `exec` and `copy` do in one guest, in the supervisor. Each gives an `exit` record, whatever happens.
 */
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError } from "../../../shared/errors.ts";
import type { Exit } from "../../../shared/records/index.ts";
import { whoIsHere } from "../client/who-is-here.ts";
import type { Machine } from "../machine/machine.ts";
import { type CopyRequest, type ExecRequest, nameGuest, type Target } from "../protocol.ts";
import type { Entry } from "../supervisor/entry.ts";
import { runInGuest } from "./agent.ts";
import { copyIn, copyOut } from "./copy.ts";
import { fillFields } from "./fields.ts";
import type { CopyLimits } from "./file.ts";

/** How much is kept of a command's stdout, and of its stderr. */
const OUTPUT_BYTES_MAX = 256 * 1024;

/** The guests of this host, its name, and a signal that is aborted when the client has gone. */
export interface Asked {
  entries: ReadonlyMap<string, Entry>;
  host: string;
  gone: AbortSignal;
}

export const execIn = (asked: Asked, target: Target, request: ExecRequest): Promise<Exit> =>
  inGuest(asked, target, `run ${request.argv[0]} in`, async ({ machine, entry }) => {
    const words = request.literal
      ? ok(request.argv)
      : fillFields(request.argv, target.record ?? entry.record);
    if (words.isErr()) return err(words.error);
    const { timeout_s, stdin_base64 } = request;
    const done = await runInGuest(machine.agent, words.value, {
      timeout_s,
      stdin_base64,
      output_bytes_max: OUTPUT_BYTES_MAX,
      signal: asked.gone,
      session: true,
    });
    return done.map(({ code, signal, truncated, ...output }) => ({
      ...(code === undefined ? {} : { code }),
      ...(signal === undefined ? {} : { signal }),
      ...output,
      ...(truncated ? { truncated } : {}),
    }));
  });

/** All files are tried; the first error is the result's. */
export const copyWith = (asked: Asked, target: Target, request: CopyRequest): Promise<Exit> =>
  inGuest(asked, target, request.dir === undefined ? "copy into" : "copy out of", async ({ machine }) => {
    const limits: CopyLimits = { end: Date.now() + request.timeout_s * 1000, signal: asked.gone };
    let bytes = 0;
    let failure: MtError | undefined;
    for (const { from, to } of request.files) {
      const done: Result<number, MtError> =
        request.dir === undefined
          ? await copyIn(machine.agent, { from, to }, limits)
          : await copyOut(machine.agent, { from, to: `${request.dir}/${target.id}/${to}` }, limits);
      if (done.isErr()) failure ??= done.error;
      else bytes += done.value;
    }
    return failure ? err(failure) : ok({ code: 0, bytes });
  });

async function inGuest(
  { entries, host, gone }: Asked,
  { id }: Target,
  verb: string,
  work: (guest: { machine: Machine; entry: Entry }) => Promise<Result<Partial<Exit>, MtError>>,
): Promise<Exit> {
  const began = performance.now();
  const entry = entries.get(id);
  const machine = entry?.machine;
  const cannot = (why: string, hint?: string) => fail("failed", `Cannot ${verb} ${id}: ${why}`, hint);
  // The client may have gone while this guest waited for its turn: then nothing is begun.
  const done = gone.aborted
    ? cannot("interrupted")
    : !entry
      ? cannot("the guest is not there", whoIsHere(id, entries.keys()))
      : !machine || entry.state !== "ready"
        ? cannot(`the guest is ${entry.state}`, entry.state === "paused" ? "mt-boot resume" : "mt-boot up")
        : await work({ machine, entry });
  return {
    kind: "exit",
    id,
    host,
    guest: id,
    ...done.match<Partial<Exit>>(
      (did) => did,
      (error) => ({ state: "failed", error: { by: "mt-boot", ...nameGuest(error, id)! } }),
    ),
    seconds: Math.round(performance.now() - began) / 1000,
  };
}
