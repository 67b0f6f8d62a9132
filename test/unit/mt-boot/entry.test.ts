/** An entry's transitions: what each changes and leaves, and what holds after any sequence of them. No QEMU, no clock. */
import { describe, expect, test } from "vitest";
import { mtError } from "../../../shared/errors.ts";
import type { Guest, Image } from "../../../shared/records/index.ts";
import type { Machine } from "../../../tools/mt-boot/machine/machine.ts";
import type { LedgerRow } from "../../../tools/mt-boot/persist/ledger.ts";
import { Entry, type Wish } from "../../../tools/mt-boot/supervisor/entry.ts";
import { lineOf, rowOf } from "../../../tools/mt-boot/supervisor/entry-lines.ts";

const record: Guest = {
  ...{ kind: "guest", id: "g0", host: "h", index: 0, image: "tux", cores: 1, mem_mib: 64 },
  interfaces: [],
};
const image: Image = { kind: "image", id: "tux", os: "linux", fork: true };
const wish: Wish = {
  ...{ record, image, accel: "auto", boot_mode: "auto" },
  ...{ ready_timeout_s: 9, answer_timeout_s: 7, until_full: false },
};
const row: LedgerRow = { ...wish, wanted: undefined, state: "planned" };
const error = mtError("failed", "Cannot boot {id}: x");
/** Only compared, never used. */
const machineOf = (pid: number) => ({ pid }) as Machine;
const processOf = (pid: number, forked = false) => ({ pid, forked, howEnded: async () => "ended" });

const planned = (tries = 3) => new Entry(row, "/g/g0", tries);
function ready(): Entry {
  const entry = planned();
  entry.requested(wish, "ready");
  entry.spawned(processOf(5));
  entry.connected(machineOf(5));
  entry.accepted();
  entry.becameReady();
  entry.arrived(1_000);
  return entry;
}
/** All fields, for what must not have changed. */
const fields = (entry: Entry) => ({ ...entry });
/** The fields that the work changes. */
function changed(entry: Entry, work: (entry: Entry) => void): Record<string, unknown> {
  const before: Record<string, unknown> = fields(entry);
  work(entry);
  return Object.fromEntries(Object.entries(fields(entry)).filter(([name, value]) => value !== before[name]));
}

describe("on its way up", () => {
  test("planned, spawned, connected, ready: reached only at its end, and with its machine", () => {
    const entry = planned();
    expect(entry).toMatchObject({ state: "planned", astray: false, reached: false, begun: false });
    entry.requested(wish, "ready");
    expect(entry.astray).toBe(true);
    expect(changed(entry, (e) => e.spawned(processOf(5)))).toMatchObject({ state: "running", pid: 5 });
    expect(changed(entry, (e) => e.connected(machineOf(5)))).toEqual({ machine: machineOf(5) });
    expect([entry.reached, entry.known]).toEqual([false, false]);
    expect(changed(entry, (e) => e.becameReady())).toEqual({ state: "ready", known: true });
    expect([entry.reached, entry.astray]).toEqual([true, false]);
  });

  test("paused is reached where paused is wanted, and ready counts as well", () => {
    const entry = planned();
    entry.requested(wish, "paused");
    entry.spawned(processOf(5, true));
    entry.connected(machineOf(5));
    expect(entry.reached).toBe(false);
    expect(changed(entry, (e) => e.stateRestored(30))).toEqual({ state: "paused", restored_ms: 30 });
    expect(entry.reached).toBe(true);
    expect(changed(entry, (e) => e.resumeRequested(4))).toEqual({ wanted: "ready", ready_timeout_s: 4 });
    expect(entry.reached).toBe(false);
    entry.wentOn();
    entry.becameReady();
    expect(changed(entry, (e) => e.requested(wish, "paused"))).toEqual({ ready_timeout_s: 9 });
    expect(entry.wanted).toBe("ready");
    entry.pauseRequested();
    expect([entry.wanted, entry.reached]).toEqual(["paused", true]);
    // A new process is not the one that we are connected to.
    entry.spawned(processOf(6));
    expect([entry.pid, entry.machine, entry.reached]).toEqual([6, undefined, false]);
  });

  test("only a clone's restore is timed", () => {
    const entry = planned();
    entry.spawned(processOf(5));
    entry.stateRestored(30);
    expect(entry.restored_ms).toBeUndefined();
  });

  test("one that goes on from a file knows what the saved guest knew, and is fresh when it is ready", () => {
    for (const known of [true, false]) {
      const entry = planned();
      entry.requested(wish, "ready", { file: "/s", known });
      expect(entry.forks_next).toBe(false);
      entry.spawned(processOf(5));
      expect([entry.known, entry.restored]).toEqual([known, known]);
      entry.connected(machineOf(5));
      entry.becameReady();
      expect([entry.known, entry.restored]).toEqual([true, false]);
      // It dies before it is noted as arrived: it goes on from the file again.
      entry.disconnected();
      entry.spawned(processOf(6));
      expect([entry.known, entry.restored]).toEqual([known, known]);
      entry.becameReady();
      expect([entry.arrived(1), entry.arrived(2), entry.saved]).toEqual([true, false, undefined]);
      entry.spawned(processOf(7));
      expect([entry.known, entry.restored]).toEqual([false, false]);
    }
  });
});

describe("failures", () => {
  test("a failed try costs one; the last is followed by giving up, and a new request begins anew", () => {
    const entry = planned(1);
    entry.requested(wish, "ready");
    entry.tryBegan();
    expect(changed(entry, (e) => e.tryFailed(error))).toEqual({
      ...{ state: "failed", error, failures: 1, tries_left: 0, forks_failed: 1 },
    });
    expect(entry.astray).toBe(true);
    entry.refused();
    expect(changed(entry, (e) => e.gaveUp(error, false))).toEqual({ wanted: undefined, begun: false });
    expect([entry.astray, lineOf(entry).error]).toEqual([false, error]);
    entry.requested(wish, "ready");
    expect(changed(entry, (e) => e.triesGranted(2))).toEqual({
      ...{ tries_left: 2, failures: 0, refusals: 0, forks_failed: 0 },
    });
  });

  test("where there is no room it is planned, with the reason", () => {
    const entry = planned();
    entry.requested(wish, "ready");
    entry.gaveUp(error, true);
    expect(entry).toMatchObject({ state: "planned", wanted: undefined, error });
  });

  test("after two tries as a clone it boots cold, but for one that may only be forked", () => {
    const entry = planned();
    entry.requested(wish, "ready");
    const seen = [0, 1, 2].map(() => {
      const next = entry.forks_next;
      entry.tryFailed(error);
      return next;
    });
    expect(seen).toEqual([true, true, false]);
    // A failure that was not a clone's is none of the template's.
    expect(entry.forks_failed).toBe(2);
    entry.triesGranted(3);
    entry.forkRuledOut();
    expect(entry.forks_next).toBe(false);
    entry.requested({ ...wish, boot_mode: "fork" }, "ready");
    expect(entry.forks_next).toBe(true);
    entry.requested({ ...wish, boot_mode: "cold" }, "ready");
    expect(entry.forks_next).toBe(false);
  });

  test("one that died is tried for as long as it is wanted; its back-off begins anew after a good minute", () => {
    const entry = ready();
    entry.disconnected();
    expect([entry.state, entry.reached, entry.pid]).toEqual(["ready", false, 5]);
    entry.discarded();
    entry.died(error, 2_000);
    expect(entry).toMatchObject({ state: "failed", error, restarts: 1, failures: 1, lasting: true });
    entry.died(error, 3_000);
    expect(entry.failures).toBe(2);
    entry.died(error, 1_000 + 60_001);
    expect([entry.failures, entry.restarts]).toEqual([1, 3]);
    entry.tryFailed(error);
    expect([entry.tries_left, entry.failures]).toEqual([Infinity, 2]);
  });

  test("one that its disk stopped keeps its QEMU and what it was told", () => {
    const entry = ready();
    expect(Object.keys(changed(entry, (e) => e.stalled(error))).sort()).toEqual(
      ["error", "failures", "state", "tries_left"].sort(),
    );
    expect([entry.machine, entry.known, entry.astray]).toEqual([machineOf(5), true, true]);
  });

  test("the back-off is cut short by hurry and by drop, and by nothing once it has ended", () => {
    const entry = planned();
    let ended = 0;
    entry.backOffBegan(() => ended++);
    entry.hurry();
    entry.backOffEnded();
    entry.hurry();
    expect(ended).toBe(1);
    entry.backOffBegan(() => ended++);
    entry.drop();
    expect(ended).toBe(2);
  });
});

test("an adopted QEMU is as it says that it is; what its guest was told comes from the ledger", () => {
  for (const known of [true, undefined]) {
    const noted: LedgerRow = { ...row, wanted: "ready", state: "failed", error, known };
    const entry = new Entry(noted, "/g/g0", Infinity);
    entry.found(processOf(8, true));
    entry.connected(machineOf(8));
    entry.adopted("paused", 9);
    expect(lineOf(entry)).toEqual({ kind: "guest", id: "g0", state: "paused" });
    expect(entry).toMatchObject({ begun: true, forked: true, known: known === true });
    expect(entry).toMatchObject({ well_since: 9, lasting: true, reached: false, astray: true });
  }
});

test("a ledger's row gives the same entry again, without its process", () => {
  const entry = ready();
  entry.stalled(error);
  const again = new Entry(JSON.parse(JSON.stringify(rowOf(entry))), entry.dir, Infinity);
  expect(rowOf(again)).toEqual(rowOf(entry));
  expect(again).toMatchObject({ state: "failed", wanted: "ready", known: true, restarts: 0 });
  expect([again.pid, again.machine, again.begun]).toEqual([undefined, undefined, false]);
});

test("whatever happens in whatever order: the machine is its process's, errors stand where they belong, dropped is final", () => {
  let pid = 100;
  /** Each with what must be so for the driver and the supervisor to call it. */
  const steps: [string, (e: Entry) => boolean, (e: Entry) => void][] = [
    ["requested ready", (e) => !e.dropped, (e) => e.requested(wish, "ready")],
    ["requested paused", (e) => !e.dropped, (e) => e.requested(wish, "paused")],
    ["resumed", (e) => e.wanted !== undefined, (e) => e.resumeRequested(3)],
    ["paused", (e) => e.wanted !== undefined, (e) => e.pauseRequested()],
    ["granted", (e) => !e.dropped, (e) => e.triesGranted(2)],
    ["began", () => true, (e) => e.tryBegan()],
    ["spawned", (e) => e.pid === undefined, (e) => e.spawned(processOf(++pid, pid % 2 === 0))],
    ["connected", (e) => e.pid !== undefined, (e) => e.connected(machineOf(e.pid!))],
    ["restored", (e) => e.machine !== undefined, (e) => e.stateRestored(1)],
    ["ready", (e) => e.machine !== undefined, (e) => e.becameReady()],
    ["went on", (e) => e.machine !== undefined, (e) => e.wentOn()],
    ["became paused", (e) => e.machine !== undefined, (e) => e.becamePaused()],
    ["arrived", (e) => e.reached, (e) => void e.arrived(1)],
    ["lost", () => true, (e) => e.disconnected()],
    ["discarded", () => true, (e) => e.discarded()],
    ["failed", (e) => e.tries_left > 0, (e) => e.tryFailed(error)],
    ["given up", () => true, (e) => e.gaveUp(error, pid % 3 === 0)],
    ["died", (e) => e.pid === undefined, (e) => e.died(error, 1)],
    ["stalled", (e) => e.machine !== undefined, (e) => e.stalled(error)],
    ["reset", (e) => e.pid === undefined, (e) => e.reset()],
    ["stopped", (e) => e.pid === undefined, (e) => e.stopped()],
    ["dropped", () => pid % 50 === 0, (e) => e.drop()],
  ];
  let seed = 7;
  const draw = () => (seed = (seed * 48271) % 0x7fffffff) / 0x7fffffff;
  const taken = new Set<string>();
  const reached = new Set<string>();
  for (let round = 0; round < 400; round++) {
    const entry = planned();
    const story: string[] = [];
    for (let n = 0; n < 40; n++) {
      const [name, may, step] = steps[Math.floor(draw() * steps.length)]!;
      if (!may(entry)) continue;
      const [dropped, wanted] = [entry.dropped, entry.wanted];
      step(entry);
      story.push(name);
      taken.add(name);
      const told = story.join(", ");
      if (entry.machine) expect(entry.machine.pid, told).toBe(entry.pid);
      expect(entry.error === undefined || ["failed", "planned"].includes(entry.state), told).toBe(true);
      if (entry.state === "failed") expect(entry.error, told).toBe(error);
      if (entry.state === "ready") expect([entry.known, entry.restored], told).toEqual([true, false]);
      if (dropped) expect([entry.dropped, entry.wanted], told).toEqual([true, undefined]);
      if (entry.reached) {
        reached.add(`${entry.wanted} ${entry.state}`);
        expect(entry.machine, told).toBeDefined();
        expect(entry.astray, told).toBe(false);
      }
      if (wanted === "ready" && name === "requested paused") expect(entry.wanted, told).toBe("ready");
    }
  }
  expect(taken.size).toBe(steps.length);
  expect([...reached]).toEqual(expect.arrayContaining(["ready ready", "paused ready", "paused paused"]));
});
