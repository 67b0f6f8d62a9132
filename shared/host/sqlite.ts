/**
 * SQLite: bun:sqlite in Bun and in the binaries, better-sqlite3 in Node, node:sqlite in Deno. What differs between them
 * (a missing row is null or undefined) is hidden here; a blob is a Uint8Array (in Node a Buffer, which is one).
 */
import { closeSync } from "node:fs";
import { MtFailure, mtError, naming, onFile } from "../errors.ts";
import { checkOwn, openOwn } from "../own-place.ts";

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

const BUSY_MS = 5000;

/** Opens a database file of ours, 0600, and makes it if it is missing. Every call waits up to 5 s for another writer, and throws SQLite's error with the file's path. */
export async function openDatabase(path: string): Promise<Database> {
  // SQLite would follow a symbolic link. Its journal files get the mode of the database.
  closeSync(openOwn(path, "append"));
  for (const beside of ["-journal", "-wal", "-shm"]) checkOwn(path + beside);
  const driver = await open(path);
  try {
    driver.exec(`PRAGMA busy_timeout = ${BUSY_MS}; PRAGMA synchronous = NORMAL;`);
    await goOverToWal(driver);
  } catch (thrown) {
    throw naming(path, thrown);
  }
  const statements = new Map<string, Statement>();
  const prepare = (sql: string) => {
    let statement = statements.get(sql);
    if (!statement) statements.set(sql, (statement = driver.prepare(sql)));
    return statement;
  };
  return {
    // SQLite's own errors name no file.
    exec: (sql) => void onFile(path, () => driver.exec(sql)),
    run: (sql, ...values) => void onFile(path, () => prepare(sql).run(...values)),
    get: (sql, ...values) =>
      onFile(path, () => prepare(sql).get(...values) as Row | null | undefined) ?? undefined,
    all: (sql, ...values) => onFile(path, () => prepare(sql).all(...values) as Row[]),
    transaction: (work) => onFile(path, () => driver.transaction(work)()),
    close: () => {
      statements.clear();
      driver.close();
    },
  };
}

/** Two processes that switch to WAL at once would deadlock: SQLite fails one of them at once, whatever the busy timeout. So try again. */
async function goOverToWal(driver: Driver): Promise<void> {
  const end = Date.now() + BUSY_MS;
  for (;;) {
    try {
      return void driver.exec("PRAGMA journal_mode = WAL;");
    } catch (thrown) {
      const busy = /^SQLITE_BUSY|database is locked/.test(`${(thrown as { code?: string }).code ?? thrown}`);
      if (!busy || Date.now() > end) throw thrown;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

async function open(path: string): Promise<Driver> {
  if (process.versions.bun) {
    const bunSqlite = "bun:sqlite";
    const { Database } = (await import(bunSqlite)) as { Database: new (path: string) => Driver };
    return new Database(path);
  }
  if (process.versions.deno) return openInDeno(path);
  try {
    const { default: Better } = await import("better-sqlite3");
    return new Better(path) as unknown as Driver;
  } catch (thrown) {
    // An error of SQLite has its code; any other means that the module did not load.
    if ((thrown as { code?: string }).code?.startsWith("SQLITE_")) throw thrown;
    throw new MtFailure(
      mtError(
        "unavailable",
        `Cannot open ${path}: better-sqlite3 is not built for Node ${process.versions.node}`,
        "npm rebuild better-sqlite3",
      ),
    );
  }
}

/** Deno cannot load better-sqlite3's binary, and has SQLite itself. */
async function openInDeno(path: string): Promise<Driver> {
  const nodeSqlite = "node:sqlite";
  const { DatabaseSync } = (await import(nodeSqlite)) as {
    DatabaseSync: new (path: string) => Omit<Driver, "transaction">;
  };
  const db = new DatabaseSync(path);
  return {
    exec: (sql) => db.exec(sql),
    prepare: (sql) => db.prepare(sql),
    transaction: (work) => () => {
      db.exec("BEGIN");
      try {
        work();
        db.exec("COMMIT");
      } catch (thrown) {
        db.exec("ROLLBACK");
        throw thrown;
      }
    },
    close: () => db.close(),
  };
}
