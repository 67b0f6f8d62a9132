/**
 * What a supervisor that is started again must know: each guest's record, its image, what is wanted of it and its last
 * state. One SQLite file, beside the guests' directories.
 */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ok, type Result } from "neverthrow";
import { fail, type MtError, toMtError } from "../../../shared/errors.ts";
import { experimentDir } from "../../../shared/host/names.ts";
import { openDatabase } from "../../../shared/host/sqlite.ts";
import type { GuestState } from "../../../shared/records/guest.ts";
import type { Guest, Image } from "../../../shared/records/index.ts";
import { fromKept, keptText } from "../client/came-as.ts";

/** What a guest is wanted to be; undefined where it is given up until somebody asks again. */
export type Wanted = "paused" | "ready" | undefined;
export type AcceleratorWish = "auto" | "kvm" | "tcg";
/** How a guest is booted: `auto` forks it from a template where its image allows that, and boots it cold where that fails. */
export type BootMode = "auto" | "fork" | "cold";

/** What a saved guest goes on from. */
export interface SavedState {
  file: string;
  /** Whether it had its identity when it was saved. */
  known: boolean;
  /** A copy of its disk's overlay, where it has one. */
  disk?: string;
}

export interface LedgerRow {
  record: Guest;
  image: Image;
  accel: AcceleratorWish;
  boot_mode: BootMode;
  ready_timeout_s: number;
  answer_timeout_s?: number;
  wanted: Wanted;
  state: GuestState;
  error?: MtError;
  saved?: SavedState;
  /** Whether the guest in its QEMU has its identity. */
  known?: boolean;
  /** Whether it went on from a file, and has not yet made anew what other copies of that file may have too. */
  restored?: boolean;
}

/** A row as it is stored; `text` is the record's line, where JSON would lose some of it. */
type Stored = LedgerRow & { text?: string };

export interface Ledger {
  rows(): LedgerRow[];
  /** The experiment and host that it was made for: directory names may be shortened. */
  about(): { experiment: string; host: string } | undefined;
  put(row: LedgerRow): void;
  drop(ids: readonly string[]): void;
  close(): void;
}

const ledgerFile = (experiment: string) => join(experimentDir(experiment), "boot.sqlite");
export const hasLedger = (experiment: string) => existsSync(ledgerFile(experiment));

/** @param about makes the file where it is not there */
export async function openLedger(experiment: string, about?: { host: string }): Promise<Ledger> {
  const database = await openDatabase(ledgerFile(experiment));
  database.exec(`
    CREATE TABLE IF NOT EXISTS about (experiment TEXT NOT NULL, host TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS guests (id TEXT PRIMARY KEY, seq INTEGER NOT NULL, row TEXT NOT NULL) WITHOUT ROWID;`);
  if (about && !database.get("SELECT 1 FROM about"))
    database.run("INSERT INTO about (experiment, host) VALUES (?, ?)", experiment, about.host);
  return {
    rows: () =>
      database
        .all("SELECT row FROM guests ORDER BY seq")
        .map(({ row }) => JSON.parse(row as string) as Stored)
        .map(({ text, ...row }) => ({ ...row, record: fromKept(row.record, text) })),
    about: () =>
      database.get("SELECT experiment, host FROM about") as { experiment: string; host: string } | undefined,
    put: (row) =>
      database.run(
        "INSERT INTO guests (id, seq, row) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, row = excluded.row",
        row.record.id,
        row.record.index,
        JSON.stringify({ ...row, text: keptText(row.record) } satisfies Stored),
      ),
    drop: (ids) =>
      database.transaction(() => {
        for (const id of ids) database.run("DELETE FROM guests WHERE id = ?", id);
      }),
    close: () => database.close(),
  };
}

/** The guests of the experiment on this host by name, also where no supervisor runs. */
export async function guestsKnown(experiment: string): Promise<Set<string>> {
  if (!hasLedger(experiment)) return new Set();
  const ledger = await openLedger(experiment);
  const ids = ledger.rows().map(({ record }) => record.id);
  ledger.close();
  return new Set(ids);
}

/**
 * Removes guests from the ledger, whatever state it is in; gives whether others remain. A ledger that cannot be read
 * counts as empty. It is an error only where others remain and the ledger cannot be written.
 */
export async function dropFromLedger(
  experiment: string,
  ids: readonly string[],
): Promise<Result<boolean, MtError>> {
  if (!hasLedger(experiment)) return ok(false);
  let others = false;
  let ledger: Ledger | undefined;
  try {
    ledger = await openLedger(experiment);
    const going = new Set(ids);
    others = ledger.rows().some(({ record }) => !going.has(record.id));
    // Without others the caller removes the whole file.
    if (others) ledger.drop(ids);
    return ok(others);
  } catch (thrown) {
    const { code, message, hint } = toMtError(thrown);
    if (others)
      return fail(code, `Cannot note what was taken down in ${ledgerFile(experiment)}: ${message}`, hint);
    return ok(false);
  } finally {
    ledger?.close();
  }
}

export function removeLedger(experiment: string): void {
  for (const end of ["", "-wal", "-shm"]) rmSync(`${ledgerFile(experiment)}${end}`, { force: true });
}
