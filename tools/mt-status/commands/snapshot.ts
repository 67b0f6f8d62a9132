/** `mt-status snapshot`: what is on this machine now, as one `sample`; `left` reads it again. */
import { readFileSync } from "node:fs";
import { ok, type Result } from "neverthrow";
import { hostOf } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { EXIT, fail, type MtError } from "../../../shared/errors.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import { lookAtMachine, type Machine } from "../left/machine.ts";
import type { spec } from "../spec.ts";

export const SNAPSHOT_ID = "machine";

export type Snapshot = Machine & { kind: "sample"; id: string; time: string };

export const snapshot: Run<typeof spec, "snapshot"> = async (invocation) => {
  const writer = new LineWriter();
  const record = {
    kind: "sample",
    id: SNAPSHOT_ID,
    host: hostOf(invocation),
    time: new Date().toISOString(),
  };
  writer.line(JSON.stringify({ ...record, ...lookAtMachine() }));
  writer.flush();
  return EXIT.ok;
};

export function readSnapshot(file: string): Result<Snapshot, MtError> {
  const bad = (why: string) =>
    fail<Snapshot>("data", `Cannot read snapshot ${file}: ${why}`, `mt-status snapshot >${file}`);
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (thrown) {
    return bad(String((thrown as NodeJS.ErrnoException).code));
  }
  try {
    const record = JSON.parse(text) as Partial<Snapshot>;
    const lists = [record.processes, record.namespaces, record.links, record.mounts, record.run_files];
    const whole =
      record.id === SNAPSHOT_ID && lists.every(Array.isArray) && typeof record.settings === "object";
    if (!whole || Number.isNaN(Date.parse(record.time ?? ""))) return bad("it is no snapshot");
    return ok(record as Snapshot);
  } catch {
    return bad("it is no JSON");
  }
}
