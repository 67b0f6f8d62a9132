/**
 * `mt-boot log`: prints what guests have written to their consoles; with several guests, each line begins with a name.
 * For guests of records on stdin, which pass through, it writes an `exit` record each with the text as stdout.
 */

import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Invocation, Run } from "../../../shared/cli/invocation.ts";
import { plainLines } from "../../../shared/cli/plain.ts";
import { warn } from "../../../shared/cli/stderr.ts";
import { EXIT, type MtError, mtError, orThrow } from "../../../shared/errors.ts";
import { guestDir } from "../../../shared/host/names.ts";
import { expandSet } from "../../../shared/nodeset/ranges.ts";
import type { Exit } from "../../../shared/records/index.ts";
import { printed } from "../../../shared/records/output.ts";
import { isTerminal } from "../../../shared/stream/descriptors.ts";
import { writeAll } from "../../../shared/stream/writer.ts";
import { theExperiment } from "../client/client.ts";
import { failedExit, type Group, overGuests } from "../client/targets.ts";
import { whoIsHere } from "../client/who-is-here.ts";
import { ConsoleFile, lastLines } from "../guest/console-file.ts";
import { guestFiles } from "../machine/guest-files.ts";
import { guestsKnown } from "../persist/ledger.ts";
import type { spec } from "../spec.ts";

/** Most of a guest's console that a record holds. */
const OUTPUT_BYTES_MAX = 256 * 1024;
const LOOK_MS = 200;

const consoleFile = (experiment: string, id: string) => guestFiles(guestDir(experiment, id)).console;

export const log: Run<typeof spec, "log"> = async (invocation) => {
  const { args } = invocation;
  const { set = "", lines } = args;
  if (set !== "") return logSet(invocation, set, lines);
  return overGuests(invocation, {
    set,
    changes: false,
    example: "mt-boot log 'g[0-3]'",
    work: async (group) => {
      const known = await guestsKnown(group.experiment);
      const exits = group.targets.map(({ id }) => exitOf(group, id, known, lines));
      for (const exit of exits) group.emit(exit);
      return exits.every((exit) => exit.state !== "failed") ? EXIT.ok : EXIT.failed;
    },
  });
};

function exitOf({ experiment, host }: Group, id: string, known: ReadonlySet<string>, lines?: number): Exit {
  const why = notThere(experiment, id, known);
  if (why) return failedExit(id, host, why);
  const text = lastLines(consoleFile(experiment, id), lines);
  const cut = text.length > OUTPUT_BYTES_MAX;
  const output = printed("stdout", text.subarray(-OUTPUT_BYTES_MAX), cut);
  return { kind: "exit", id, host, guest: id, code: 0, ...output, ...(cut ? { truncated: true } : {}) };
}

/** Why a guest's console cannot be read. */
function notThere(experiment: string, id: string, known: ReadonlySet<string>): MtError | undefined {
  const cannot = (why: string, hint: string) =>
    mtError("failed", `Cannot read the console of ${id}: ${why}`, hint);
  if (!known.has(id)) return cannot("the guest is not there", whoIsHere(id, known));
  if (!existsSync(consoleFile(experiment, id))) return cannot("it was not started yet", "mt-boot up");
  return undefined;
}

async function logSet(
  { args, signal }: Invocation<typeof spec, "log">,
  set: string,
  lines?: number,
): Promise<number> {
  const ids = orThrow(expandSet(set));
  const experiment = orThrow(await theExperiment(args.experiment));
  const known = await guestsKnown(experiment);
  const errors = ids.flatMap((id) => notThere(experiment, id, known) ?? []);
  for (const error of errors) warn(error);
  const there = ids.filter((id) => known.has(id));
  const out = new Map(there.map((id) => [id, new GuestText(ids.length > 1 ? `${id}: ` : "")]));
  const code = errors.length === 0 ? EXIT.ok : EXIT.failed;
  const followed = new Map<string, ConsoleFile>();
  for (const [id, text] of out) {
    const file = consoleFile(experiment, id);
    if (args.follow === true) followed.set(id, new ConsoleFile(file, Number.POSITIVE_INFINITY));
    text.write(lastLines(file, lines));
    if (args.follow !== true) text.end();
  }
  while (followed.size > 0 && !signal.aborted) {
    let quiet = true;
    const gone: string[] = [];
    for (const [id, reader] of followed) {
      const bytes = reader.read();
      if (bytes === undefined) gone.push(id);
      else if (bytes.length > 0) {
        quiet = false;
        out.get(id)!.write(bytes);
      }
    }
    // A guest that is being restarted has no file for a moment; one that was taken down gets none.
    if (gone.length > 0) {
      const left = await guestsKnown(experiment);
      for (const id of gone) if (!left.has(id)) followed.delete(id);
    }
    if (quiet) await sleep(LOOK_MS, undefined, { signal }).catch(() => {});
  }
  for (const text of out.values()) text.end();
  return code;
}

/** Prints a guest's text without carriage returns, each line behind its name where there are several guests. */
class GuestText {
  readonly #prefix: string;
  /** The part of the last line that has come. */
  #rest = "";
  readonly #decoder = new TextDecoder();

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  write(bytes: Uint8Array): void {
    const text = this.#rest + readable(this.#decoder.decode(bytes, { stream: true }));
    // The prompt of a single guest is shown at once; with several guests a line is printed when it is complete.
    const whole = this.#prefix === "" ? text.length : text.lastIndexOf("\n") + 1;
    this.#rest = text.slice(whole);
    const lines = text.slice(0, whole);
    put(this.#prefix === "" ? lines : lines.replaceAll(/[^\n]*\n/g, (line) => this.#prefix + line));
  }

  end(): void {
    if (this.#rest !== "") put(`${this.#prefix}${this.#rest}\n`);
    this.#rest = "";
  }
}

function put(text: string): void {
  if (text !== "") writeAll(1, Buffer.from(text));
}

/** On a terminal, control characters that a guest writes are left out. */
function readable(text: string): string {
  const lines = text.replaceAll("\r", "");
  return isTerminal(1) ? plainLines(lines) : lines;
}
