/**
 * Every verdict that was given on this host, kept in one SQLite file under MT_STATE; `mt-status history` prints them.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Run } from "../../../shared/cli/invocation.ts";
import { warn } from "../../../shared/cli/stderr.ts";
import { EXIT, MtFailure, mtError } from "../../../shared/errors.ts";
import { stateDir } from "../../../shared/host/names.ts";
import { openDatabase } from "../../../shared/host/sqlite.ts";
import type { Verdict } from "../../../shared/records/index.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import type { spec } from "../spec.ts";

const file = () => join(stateDir(), "status.sqlite");
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS verdict (n INTEGER PRIMARY KEY, experiment TEXT NOT NULL, time TEXT NOT NULL, record TEXT NOT NULL);
  CREATE INDEX IF NOT EXISTS verdict_experiment ON verdict (experiment, n);
`;

/** Keeps a verdict. If that fails, stderr says so: the verdict itself is still true. */
export async function remember(verdict: Verdict): Promise<void> {
  try {
    const db = await openDatabase(file());
    db.exec(SCHEMA);
    const time = new Date().toISOString();
    db.run(
      "INSERT INTO verdict (experiment, time, record) VALUES (?, ?, ?)",
      verdict.id,
      time,
      JSON.stringify(verdict),
    );
    db.close();
  } catch (thrown) {
    warn(
      thrown instanceof MtFailure
        ? thrown.error
        : mtError(
            "io",
            `Cannot keep the verdict in ${file()}: ${(thrown as Error).message}`,
            "set MT_STATE to a directory that can be written",
          ),
    );
  }
}

export const history: Run<typeof spec, "history"> = async ({ args }) => {
  const { experiment, last } = args;
  if (!existsSync(file())) return EXIT.ok;
  const db = await openDatabase(file());
  db.exec(SCHEMA);
  const rows =
    experiment !== undefined
      ? db.all(
          "SELECT time, record FROM verdict WHERE experiment = ? ORDER BY n DESC LIMIT ?",
          experiment,
          last,
        )
      : db.all("SELECT time, record FROM verdict ORDER BY n DESC LIMIT ?", last);
  db.close();
  const writer = new LineWriter();
  for (const row of rows.reverse())
    writer.line(JSON.stringify({ ...JSON.parse(String(row.record)), time: row.time }));
  writer.flush();
  return EXIT.ok;
};
