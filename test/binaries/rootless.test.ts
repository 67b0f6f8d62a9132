/** Tools as root of only a namespace or container: leases that cannot be taken, and the ARP table. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { acquireLease, heldLeases, releaseLease } from "../../shared/host/lease.ts";
import { neighboursOn } from "../../tools/mt-vnet/kernel/neighbours.ts";

/** A setting that the kernel lets nobody change. */
const FIXED = "/proc/sys/kernel/random/boot_id";

describe("a lease", () => {
  let dir: string;
  const before = process.env.MT_LEASES;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "mt-unit-"));
    process.env.MT_LEASES = join(dir, "leases");
  });
  afterEach(() => {
    if (before === undefined) delete process.env.MT_LEASES;
    else process.env.MT_LEASES = before;
    rmSync(dir, { recursive: true, force: true });
  });

  test("tells the first of its holders from the others", async () => {
    expect((await acquireLease("ksm-off", "a", {}))._unsafeUnwrap()).toBe(true);
    expect((await acquireLease("ksm-off", "b", {}))._unsafeUnwrap()).toBe(false);
    expect((await acquireLease("ksm-off", "a", {}))._unsafeUnwrap()).toBe(false);
    for (const holder of ["a", "b"]) await releaseLease("ksm-off", (h) => h === holder);
    expect((await acquireLease("ksm-off", "b", {}))._unsafeUnwrap()).toBe(true);
  });

  test("is not held where nothing could be set, so that nothing has to be put back", async () => {
    expect((await acquireLease("x", "a", { [FIXED]: "1" }))._unsafeUnwrapErr().code).toBe("permission");
    expect(heldLeases()).toEqual([]);
    expect((await releaseLease("x", () => true))._unsafeUnwrap()).toBe(false);
  });
});

describe("neighbours of a router on a segment", () => {
  const segment = (members: object[]) =>
    neighboursOn({ kind: "segment", id: "s", hosts: ["a"], vni: 1, members: members as never });

  test("are its guests and the other routers, on all hosts", () => {
    expect(
      segment([
        { host: "a", router: "r", index: 0, count: 4 },
        { host: "b", index: 4, count: 3 },
      ]),
    ).toBe(7);
    expect(
      segment([
        { host: "a", router: "r" },
        { host: "b", router: "q" },
      ]),
    ).toBe(1);
    expect(segment([])).toBe(0);
  });
});
