/**
 * SQLite, as bun:sqlite in Bun and in the binaries, better-sqlite3 in Node and Deno. Chosen here, once;
 * what differs (a missing row is null or undefined, a blob Uint8Array or Buffer) ends here.
 */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";

export type SqlValue = string | number | bigint | Uint8Array | null;
export type Row = Record<string, SqlValue>;

export interface Database {
  exec(sql: string): void;
  run(sql: string, ...values: SqlValue[]): void;
  get(sql: string, ...values: SqlValue[]): Row | undefined;
  all(sql: string, ...values: SqlValue[]): Row[];
  /** Runs `work` in a transaction: all of it or nothing. */
  transaction(work: () => void): void;
  close(): void;
}

interface Statement {
  run(...values: SqlValue[]): unknown;
  get(...values: SqlValue[]): unknown;
  all(...values: SqlValue[]): unknown[];
}
interface Driver {
  exec(sql: string): unknown;
  prepare(sql: string): Statement;
  transaction(work: () => void): () => void;
  close(): void;
}

/** Opens (and makes) a database file; its directory is 0700. Waits up to 5 s for another writer. */
export async function openDatabase(path: string): Promise<Database> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const driver = await open(path);
  // The time-out first: going over to WAL needs the lock too.
  driver.exec("PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;");
  const statements = new Map<string, Statement>();
  const prepare = (sql: string) => {
    let statement = statements.get(sql);
    if (!statement) statements.set(sql, (statement = driver.prepare(sql)));
    return statement;
  };
  return {
    exec: (sql) => void driver.exec(sql),
    run: (sql, ...values) => void prepare(sql).run(...values),
    get: (sql, ...values) => (prepare(sql).get(...values) as Row | null | undefined) ?? undefined,
    all: (sql, ...values) => prepare(sql).all(...values) as Row[],
    transaction: (work) => driver.transaction(work)(),
    close: () => {
      statements.clear();
      driver.close();
    },
  };
}

async function open(path: string): Promise<Driver> {
  if (process.versions.bun) {
    const bunSqlite = "bun:sqlite";
    const { Database } = (await import(bunSqlite)) as { Database: new (path: string) => Driver };
    return new Database(path);
  }
  const { default: Better } = await import("better-sqlite3");
  return new Better(path) as unknown as Driver;
}
