import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { lock, readHolder, startTime } from "../../../shared/host/lock.ts";
import { bunScript, tempDir } from "./fixtures.ts";

const HOLD = `
import { lock } from "shared/host/lock.ts";
const got = await lock(process.argv[2]!, "holding it", 5);
console.log(got.isOk() ? "held" : "busy");
setInterval(() => {}, 1000);`;

describe("a lock", () => {
  test("is held by one process; another waits, and says who has it when its time is up", async () => {
    const path = join(tempDir(), "l");
    const holder = bunScript(HOLD, [path]);
    await holder.printed("held");
    const refused = (await lock(path, "me", 0.2))._unsafeUnwrapErr();
    expect(refused).toMatchObject({
      code: "busy",
      message: expect.stringContaining(`holding it (pid ${holder.child.pid})`),
    });
    expect(readHolder(path)?.pid).toBe(holder.child.pid);
  });

  test("of one that was killed is taken over at once", async () => {
    const path = join(tempDir(), "l");
    const holder = bunScript(HOLD, [path]);
    await holder.printed("held");
    const waiting = lock(path, "me", 20);
    holder.child.kill("SIGKILL");
    await holder.ended;
    const release = (await waiting)._unsafeUnwrap();
    expect(readHolder(path)?.pid).toBe(process.pid);
    release();
    expect(existsSync(path)).toBe(false);
  });

  test("of a process whose pid was given to another is dead", async () => {
    const path = join(tempDir(), "l");
    const note = { pid: process.pid, started: "1", since: "2026-11-22T17:00:00Z", what: "gone" };
    writeFileSync(path, JSON.stringify(note));
    expect(readHolder(path)).toBeUndefined();
    (await lock(path, "me", 5))._unsafeUnwrap()();
    // The same with this process's own start time is alive.
    writeFileSync(path, JSON.stringify({ ...note, started: startTime(process.pid) }));
    expect((await lock(path, "me", 0.1)).isErr()).toBe(true);
  });

  test("that is rubbish is taken over", async () => {
    const path = join(tempDir(), "l");
    writeFileSync(path, "{");
    expect((await lock(path, "me", 5)).isOk()).toBe(true);
  });

  test("orders the calls of one process too", async () => {
    const path = join(tempDir(), "l");
    let inside = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        const release = (await lock(path, "one of eight"))._unsafeUnwrap();
        most = Math.max(most, ++inside);
        await new Promise((r) => setTimeout(r, 5));
        inside--;
        release();
      }),
    );
    expect(most).toBe(1);
  });

  test("holds among processes that die with it: never two inside, and nothing is left over", async () => {
    const dir = tempDir();
    const script = `
import { closeSync, openSync, rmSync } from "node:fs";
import { lock } from "shared/host/lock.ts";
const [path, inside, dies] = process.argv.slice(2);
for (let i = 0; i < 60; i++) {
  const release = (await lock(path!, "stress", 30))._unsafeUnwrap();
  try { closeSync(openSync(inside!, "wx")); } catch { console.log("two inside"); }
  rmSync(inside!, { force: true });
  if (i === Number(dies)) process.kill(process.pid, "SIGKILL");
  release();
}
console.log("done");`;
    const scripts = [0, 9, 21, 33, 59, 99, 99].map((dies) =>
      bunScript(script, [join(dir, "l"), join(dir, "inside"), String(dies)]),
    );
    const ended = await Promise.all(scripts.map((s) => s.ended));
    expect(ended.map((e) => e.stdout.trim() || e.signal)).toEqual([
      ...Array(5).fill("SIGKILL"),
      "done",
      "done",
    ]);
    // At most the lock of the last dead process may be there; the next one takes it over.
    (await lock(join(dir, "l"), "me", 5))._unsafeUnwrap()();
    expect(readdirSync(dir)).toEqual([]);
  });
});

test("start times tell processes apart", () => {
  expect(startTime(process.pid)).toMatch(/^\d+$/);
  expect(startTime(2 ** 22 + 1)).toBeUndefined();
  expect(readFileSync("/proc/self/stat", "utf8").split(" ")).toContain(startTime(process.pid));
});
