import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fail } from "../../../shared/errors.ts";
import { acquireLease, leaseHolders, releaseLease } from "../../../shared/host/lease.ts";
import { bunScript, tempDir, withEnv } from "./fixtures.ts";

/** A machine with two settings, as files, and a place for leases. */
function machine() {
  const dir = tempDir();
  withEnv({ MT_LEASES: join(dir, "leases") });
  const a = join(dir, "a");
  const b = join(dir, "b");
  writeFileSync(a, "1\n");
  writeFileSync(b, "60\n");
  const now = () => [readFileSync(a, "utf8").trim(), readFileSync(b, "utf8").trim()];
  return { dir, a, b, now, leases: join(dir, "leases") };
}
const take = async (holder: string, wanted: Record<string, string>) =>
  (await acquireLease("ksm", holder, wanted))._unsafeUnwrap();
const give = async (holder: string) => (await releaseLease("ksm", (h) => h === holder))._unsafeUnwrap();

describe("a lease", () => {
  test("the first holder saves, the last one puts back, and nothing is left", async () => {
    const m = machine();
    await take("kn1:a", { [m.a]: "2" });
    await take("kn2:a", { [m.a]: "3", [m.b]: "90" });
    expect(m.now()).toEqual(["3", "90"]);
    expect(leaseHolders("ksm")).toEqual(["kn1:a", "kn2:a"]);
    expect(await give("kn1:a")).toBe(false);
    expect(m.now()).toEqual(["3", "90"]);
    expect(await give("kn2:a")).toBe(true);
    expect(m.now()).toEqual(["1", "60"]);
    expect(existsSync(m.leases)).toBe(false);
  });

  test("the same holder may come again, and one release is enough", async () => {
    const m = machine();
    await take("x", { [m.a]: "2" });
    await take("x", { [m.a]: "5" });
    expect(await give("x")).toBe(true);
    expect(m.now()[0]).toBe("1");
  });

  test("given back twice, or by one that never held it, changes nothing", async () => {
    const m = machine();
    expect(await give("x")).toBe(false);
    await take("x", { [m.a]: "2" });
    expect(await give("y")).toBe(false);
    expect(m.now()[0]).toBe("2");
    expect(await give("x")).toBe(true);
    writeFileSync(m.a, "7\n");
    expect(await give("x")).toBe(false);
    expect(m.now()[0]).toBe("7");
  });

  test("of one that was killed while it held it is restored by whoever releases it", async () => {
    const m = machine();
    const script = bunScript(
      `import { acquireLease } from "shared/host/lease.ts";
       await acquireLease("ksm", "kn1:a", { [process.argv[2]!]: "9" });
       console.log("has it"); setInterval(() => {}, 1000);`,
      [m.a],
      { MT_LEASES: m.leases },
    );
    await script.printed("has it");
    script.child.kill("SIGKILL");
    await script.ended;
    expect(m.now()[0]).toBe("9");
    expect(await give("kn1:a")).toBe(true);
    expect(m.now()[0]).toBe("1");
  });

  test("a crash between noting and setting costs nothing: what was there is noted first", async () => {
    const m = machine();
    // The second setting cannot be set, as if the machine had stopped there.
    const odd = join(m.dir, "odd");
    writeFileSync(odd, "old");
    const { chmodSync, mkdirSync, rmSync } = await import("node:fs");
    await take("x", { [odd]: "new" });
    rmSync(odd);
    mkdirSync(odd);
    chmodSync(odd, 0o700);
    expect((await acquireLease("ksm", "x", { [m.a]: "2", [odd]: "3" })).isErr()).toBe(true);
    rmSync(odd, { recursive: true });
    writeFileSync(odd, "between");
    expect(await give("x")).toBe(true);
    expect([m.now()[0], readFileSync(odd, "utf8")]).toEqual(["1", "old"]);
  });

  test("a setting that the kernel does not have makes no holder", async () => {
    const m = machine();
    expect((await acquireLease("ksm", "x", { [join(m.dir, "no/such")]: "1" }))._unsafeUnwrapErr().code).toBe(
      "unavailable",
    );
    expect(leaseHolders("ksm")).toEqual([]);
  });

  test("where what comes before putting back fails, the lease stays and can be given back again", async () => {
    const m = machine();
    await take("x", { [m.a]: "2" });
    expect(
      (
        await releaseLease(
          "ksm",
          () => true,
          async () => fail<void>("failed", "no"),
        )
      ).isErr(),
    ).toBe(true);
    expect(m.now()[0]).toBe("2");
    expect((await releaseLease("ksm", () => true))._unsafeUnwrap()).toBe(true);
    expect(m.now()[0]).toBe("1");
  });

  test("eight processes take and give: the machine is as it was", async () => {
    const m = machine();
    const scripts = Array.from({ length: 8 }, (_, i) =>
      bunScript(
        `import { acquireLease, releaseLease } from "shared/host/lease.ts";
         const me = process.argv[3]!;
         for (let i = 0; i < 40; i++) {
           (await acquireLease("ksm", me, { [process.argv[2]!]: me }))._unsafeUnwrap();
           (await releaseLease("ksm", (h) => h === me))._unsafeUnwrap();
         }
         console.log("done");`,
        [m.a, String(100 + i)],
        { MT_LEASES: m.leases },
      ),
    );
    const ended = await Promise.all(scripts.map((s) => s.ended));
    expect(ended.map((e) => e.stdout.trim() || e.stderr)).toEqual(Array(8).fill("done"));
    expect(m.now()).toEqual(["1", "60"]);
    expect(existsSync(m.leases)).toBe(false);
  });
});
