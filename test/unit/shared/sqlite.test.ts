/** One script for both drivers: bun:sqlite under Bun, better-sqlite3 under Node where its binary was built. */

import { readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openDatabase } from "../../../shared/host/sqlite.ts";
import { bunScript, ROOT, tempDir } from "./fixtures.ts";

/** What the adapter promises, tried on a new file. */
async function exercise(path: string) {
  const db = await openDatabase(path);
  db.exec("CREATE TABLE t (id TEXT PRIMARY KEY, n INTEGER, x REAL, b BLOB)");
  db.run("INSERT INTO t VALUES (?, ?, ?, ?)", "a", 1, 1.5, new Uint8Array([1, 2, 255]));
  db.run("INSERT INTO t VALUES (?, ?, ?, ?)", "'; DROP TABLE t; --", 2, null, null);
  const b = db.get("SELECT b FROM t WHERE id = ?", "a")!.b as Uint8Array;
  let undone: unknown;
  try {
    db.transaction(() => {
      db.run("DELETE FROM t");
      throw new Error("no");
    });
  } catch (thrown) {
    undone = (thrown as Error).message;
  }
  db.transaction(() => db.run("UPDATE t SET n = n + 10 WHERE id = ?", "a"));
  let refused = "";
  try {
    db.run("INSERT INTO t (id) VALUES (?)", "a");
  } catch (thrown) {
    refused = (thrown as Error).message;
  }
  const out = {
    missing: db.get("SELECT * FROM t WHERE id = ?", "nobody") === undefined,
    row: db.get("SELECT id, n, x FROM t WHERE id = ?", "a"),
    blob: [b instanceof Uint8Array, ...b],
    ids: db.all("SELECT id FROM t ORDER BY n").map((r) => r.id),
    undone,
    refused: /UNIQUE/.test(refused),
  };
  db.close();
  const again = await openDatabase(path);
  const kept = again.get("SELECT count(*) AS n FROM t")!.n;
  again.close();
  return { ...out, kept };
}
const EXPECTED = {
  missing: true,
  row: { id: "a", n: 11, x: 1.5 },
  blob: [true, 1, 2, 255],
  ids: ["'; DROP TABLE t; --", "a"],
  undone: "no",
  refused: true,
  kept: 2,
};

/** Why better-sqlite3 does not load here, or undefined. */
function whyNot(): string | undefined {
  try {
    const Better = createRequire(join(ROOT, "package.json"))("better-sqlite3");
    new Better(":memory:").close();
    return undefined;
  } catch (thrown) {
    return (thrown as Error).message.split("\n")[0];
  }
}

describe("SQLite", () => {
  test("under Bun", async () => {
    const path = join(tempDir(), "sub/t.db");
    const own = readFileSync(import.meta.filename, "utf8");
    const body = own.slice(own.indexOf("async function exercise"), own.indexOf("const EXPECTED"));
    const script = bunScript(
      `import { openDatabase } from "shared/host/sqlite.ts";\n${body}\nconsole.log(JSON.stringify(await exercise(process.argv[2]!)));`,
      [path],
    );
    const ended = await script.ended;
    expect(ended.stderr).toBe("");
    expect(JSON.parse(ended.stdout)).toEqual(EXPECTED);
    expect(statSync(join(path, "..")).mode & 0o777).toBe(0o700);
  });

  const reason = whyNot();
  if (reason !== undefined)
    console.log(
      `skipped: better-sqlite3 does not load under Node: ${reason} (npm rebuild better-sqlite3 compiles it)`,
    );
  test.skipIf(reason !== undefined)("under Node", async () => {
    expect(await exercise(join(tempDir(), "sub/t.db"))).toEqual(EXPECTED);
  });

  test("two processes write to one file without losing a row", async () => {
    const path = join(tempDir(), "t.db");
    const source = `
import { openDatabase } from "shared/host/sqlite.ts";
const db = await openDatabase(process.argv[2]!);
db.exec("CREATE TABLE IF NOT EXISTS t (n)");
for (let i = 0; i < 200; i++) db.transaction(() => db.run("INSERT INTO t VALUES (?)", i));
console.log(String(db.get("SELECT count(*) AS n FROM t")!.n));
db.close();`;
    const ended = await Promise.all([bunScript(source, [path]).ended, bunScript(source, [path]).ended]);
    expect(ended.map((e) => e.stderr)).toEqual(["", ""]);
    expect(Math.max(...ended.map((e) => Number(e.stdout)))).toBe(400);
  });
});
