/** Templates as files: what `gc` removes, and what it leaves to whoever makes one or waits for it. */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { lock } from "../../../shared/host/lock.ts";
import { removeUnused } from "../../../tools/mt-boot/persist/template.ts";
import { tempDir } from "../shared/fixtures.ts";

const OLD = "0".repeat(24);
const MADE = "a".repeat(24);
const saved = process.env.MT_CACHE;
let dir: string;

beforeEach(() => {
  process.env.MT_CACHE = tempDir();
  dir = join(process.env.MT_CACHE, "templates");
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  process.env.MT_CACHE = join(dir, "..");
});
afterEach(() => {
  if (saved === undefined) delete process.env.MT_CACHE;
  else process.env.MT_CACHE = saved;
});

const make = (name: string) => {
  mkdirSync(join(dir, name), { mode: 0o700 });
  writeFileSync(join(dir, name, "ram"), Buffer.alloc(2 * 1024 * 1024, 1));
};

test("a template in the making is left, and so is whoever waits for it", async () => {
  for (const name of [OLD, `${MADE}.new`]) make(name);
  const path = join(dir, `${MADE}.lock`);
  const unlock = (await lock(path, "making it", 5))._unsafeUnwrap();
  const waiter = lock(path, "making it too", 20);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(await removeUnused()).toMatchObject({ removed: [OLD], used: [`${MADE}.new`], freed_mib: 2 });
  unlock();
  // Its own file beside the lock is still there, so that it gets its turn.
  (await waiter)._unsafeUnwrap()();
  expect(existsSync(join(dir, `${MADE}.new`, "ram"))).toBe(true);
});

test("what a killed maker left is removed, lock or not", async () => {
  make(`${MADE}.new`);
  const dead = { pid: 2 ** 22 - 1, started: "1", since: "then", what: "making it" };
  writeFileSync(join(dir, `${MADE}.lock`), JSON.stringify(dead), { mode: 0o600 });
  writeFileSync(join(dir, `${MADE}.lock.${dead.pid}.0`), JSON.stringify(dead), { mode: 0o600 });
  expect(await removeUnused()).toMatchObject({ removed: [`${MADE}.new`], used: [] });
  expect(readdirSync(dir)).toEqual([]);
});
