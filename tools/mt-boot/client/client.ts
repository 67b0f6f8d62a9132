/**
 * How a command talks to the supervisor: asks the one that runs, starts one where none does (two commands never start
 * two), and asks again where it died in between.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError, mtError } from "../../../shared/errors.ts";
import { lock, readHolder } from "../../../shared/host/lock.ts";
import { experimentDir, runDir, shortName, supervisorSocket } from "../../../shared/host/names.ts";
import { cleanEnv, startDaemon, toolCommand, waitFor } from "../../../shared/host/process.ts";
import { ownDir } from "../../../shared/own-place.ts";
import { askUnix } from "../http.ts";
import { superviseArgv } from "../machine/processes.ts";
import { supervisorLock, supervisorLog } from "../persist/files.ts";
import { hasLedger, openLedger } from "../persist/ledger.ts";
import { type DoneLine, type ReplyLine, SILENCE_S } from "../protocol.ts";
import { fromKept } from "./came-as.ts";

/** A supervisor listens within a second; a busy machine takes longer. */
const START_S = 30;
const ASK_AGAIN = 3;

export interface Asking {
  experiment: string;
  host: string;
  signal?: AbortSignal;
  /** How long the supervisor may send nothing; default SILENCE_S. */
  silence_s?: number;
}

/**
 * Asks the experiment's supervisor; `each` gets the lines of its answer.
 * Where it dies or falls silent before it is done it is asked again, and started first where it does not run: requests
 * are safe to repeat, or say that they are not.
 */
export async function ask(
  { experiment, host, signal, silence_s = SILENCE_S }: Asking,
  name: string,
  body: unknown,
  each: (line: ReplyLine) => void,
  repeat = true,
): Promise<Result<DoneLine, MtError>> {
  let last: Result<DoneLine, MtError> = fail("lost", `Cannot hear from the supervisor of ${experiment}`);
  for (let attempt = 0; attempt < ASK_AGAIN && !signal?.aborted; attempt++) {
    last = await askOnce({ experiment, signal, silence_s }, name, body, each);
    if (last.isOk()) return last;
    const { code } = last.error;
    if (code !== "unavailable" && !((code === "lost" || code === "timeout") && repeat)) break;
    const there = await startSupervisor(experiment, host);
    if (there.isErr()) return err(there.error);
  }
  return last;
}

/** Asks the supervisor that runs, where one does; starts none. */
export async function askOnce(
  { experiment, signal, silence_s = SILENCE_S }: Pick<Asking, "experiment" | "signal" | "silence_s">,
  name: string,
  body: unknown,
  each: (line: ReplyLine) => void,
): Promise<Result<DoneLine, MtError>> {
  let done: DoneLine | undefined;
  const take = (line: ReplyLine) => {
    if (line.kind === "done") done = line;
    else if (line.kind === "list") each({ ...line, guest: fromKept(line.guest, line.text) });
    else if (line.kind !== "tick") each(line);
  };
  const heard = await askUnix(supervisorSocket(experiment), name, body, take, {
    timeout_s: silence_s,
    signal,
  });
  if (heard.isErr()) return err(heard.error);
  if (done) return ok(done);
  return fail(
    "lost",
    `Cannot hear from the supervisor of ${experiment}: it ended before its answer`,
    `${supervisorLog(experiment)} may say why`,
  );
}

/** The error of a guest whose supervisor could not be asked, or whose command was interrupted. */
export const because = (verb: string, error: MtError, signal: AbortSignal): MtError =>
  signal.aborted
    ? mtError("failed", `Cannot ${verb} {id}: interrupted`)
    : { ...error, message: `Cannot ${verb} {id}: ${error.message}` };

/** Starts the supervisor where none answers. */
async function startSupervisor(experiment: string, host: string): Promise<Result<void, MtError>> {
  const dir = ownDir(experimentDir(experiment));
  const unlock = await lock(
    join(dir, "boot.start"),
    `starting the supervisor of ${experiment}`,
    START_S + 10,
  );
  if (unlock.isErr()) return err(unlock.error);
  try {
    if (await answers(experiment)) return ok(undefined);
    const [file, ...args] = toolCommand("mt-boot");
    const log = supervisorLog(experiment);
    // MT_RUN is always set, also to its default: livingSupervisors finds it by that.
    const env = cleanEnv({ MT_RUN: runDir() });
    const started = startDaemon(file!, [...args, ...superviseArgv(host, experiment)], { log, env });
    if (started.isErr()) return err(started.error);
    if (await waitFor(async () => ((await answers(experiment)) ? true : undefined), START_S, 20))
      return ok(undefined);
    return fail(
      "failed",
      `Cannot start the supervisor of ${experiment}: no answer in ${START_S} s${lastLine(log)}`,
    );
  } finally {
    unlock.value();
  }
}

/** The supervisor listens before it has adopted its guests; it answers a ping after that. */
async function answers(experiment: string): Promise<boolean> {
  const pong = await askUnix(supervisorSocket(experiment), "ping", undefined, () => {}, {
    timeout_s: SILENCE_S,
  });
  return pong.isOk();
}

/** The living supervisor's pid. */
export const supervisorPid = (experiment: string): number | undefined =>
  readHolder(supervisorLock(experiment))?.pid;

/** The experiments that mt-boot has guests of on this host. */
export async function experimentsHere(): Promise<string[]> {
  let names: string[];
  try {
    names = readdirSync(join(runDir(), "experiments")).sort();
  } catch {
    return [];
  }
  const ids: string[] = [];
  for (const name of names) {
    // Others are no experiment's: a directory's name is its own short name.
    if (shortName(name) !== name || !hasLedger(name)) continue;
    const ledger = await openLedger(name);
    ids.push(ledger.about()?.experiment ?? name);
    ledger.close();
  }
  return ids;
}

/** The experiment that is named, else the only one that has guests here. */
export async function theExperiment(named: string | undefined): Promise<Result<string, MtError>> {
  if (named) return ok(named);
  const ids = await experimentsHere();
  if (ids.length === 1) return ok(ids[0]!);
  if (ids.length === 0)
    return fail("failed", "Cannot find the guests: no experiment has any on this host", "mt-boot up");
  return fail(
    "usage",
    `Cannot tell which experiment is meant: ${ids.join(", ")} run here`,
    `--experiment ${ids[0]}`,
  );
}

function lastLine(file: string): string {
  try {
    const line = readFileSync(file, "utf8").trim().split("\n").pop();
    return line ? `: ${line}` : "";
  } catch {
    return "";
  }
}
