/**
 * What the script mt-launch asks of the records on stdin, as text on stdout:
 * `mt --id` the id of the experiment that a plan begins with; `mt --failed` a line for each record that failed;
 * `mt --unheard` the hosts, as a node set, whose records mt-tree failed because it had no word from them.
 * Nothing where there is none. Lines that are no records are passed over.
 */

import { plain } from "../../shared/cli/plain.ts";
import { complain } from "../../shared/cli/start.ts";
import { EXIT, toMtError } from "../../shared/errors.ts";
import { foldNodes } from "../../shared/nodeset/fold.ts";
import type { Line } from "../../shared/records/line.ts";
import { linesFrom } from "../../shared/stream/lines.ts";
import { readRecord } from "../../shared/stream/record-line.ts";
import { stdinChunks } from "../../shared/stream/stdin.ts";
import { StdoutClosed, writeAll } from "../../shared/stream/writer.ts";

interface Failure {
  by?: unknown;
  message?: unknown;
}

async function* recordsOnStdin(): AsyncGenerator<Line> {
  for await (const line of linesFrom(stdinChunks())) {
    const read = readRecord(line);
    if (read !== undefined && "line" in read) yield read.line;
  }
}

const print = (text: string) => writeAll(1, Buffer.from(`${text}\n`));

const ANSWERS: Record<string, () => Promise<void>> = {
  "--id": async () => {
    let first: Line | undefined;
    for await (const record of recordsOnStdin()) first ??= record;
    if (first?.kind === "experiment") print(first.id);
  },
  "--failed": async () => {
    for await (const { kind, id, state, error } of recordsOnStdin())
      if (state === "failed")
        print(plain(`${kind} ${id}: ${(error as Failure | undefined)?.message ?? "it failed"}`));
  },
  "--unheard": async () => {
    const hosts = new Set<string>();
    for await (const { kind, id, host, state, error } of recordsOnStdin())
      if (state === "failed" && (error as Failure | undefined)?.by === "mt-tree") {
        const name = kind === "host" ? id : host;
        if (name !== undefined) hosts.add(name);
      }
    if (hosts.size > 0) print(foldNodes(hosts));
  },
};

export async function answer(flag: string): Promise<number> {
  try {
    await ANSWERS[flag]!();
    return EXIT.ok;
  } catch (thrown) {
    return thrown instanceof StdoutClosed ? EXIT.ok : complain("mt-launch", toMtError(thrown));
  }
}
