/** mt-ksm's controller, without a kernel: what it decides for given counters. */
import { describe, expect, it } from "vitest";
import {
  begin,
  type Control,
  EASY_PASS_S,
  HARD_PASS_S,
  type ProcessPages,
  type Reading,
  SLOWEST_PASS_S,
  step,
} from "../../../tools/mt-ksm/merging/controller.ts";
import { ksmStat } from "../../../tools/mt-ksm/merging/processes.ts";
import { rateOf } from "../../../tools/mt-ksm/merging/steer.ts";

const GAIN = 0.01;
const processes = (...pages: ProcessPages[]) => new Map(pages.map((p, n) => [100 + n, p]));
const QUIET = processes({ anonymous: 50_000, merging: 10_000 });
const first: Reading = {
  time_s: 0,
  pages_sharing: 0,
  pages_shared: 1000,
  pages_unshared: 2000,
  pages_volatile: 3000,
  full_scans: 10,
  pages_scanned: 0,
  ksmd_cpu_s: 5,
  processes: QUIET,
};
/** Gives the controller one reading after another; each has only what differs from the one before. */
function run(control: Control, ...changes: Partial<Reading>[]): Control {
  for (const change of changes)
    control = step(
      control,
      {
        ...control.last,
        time_s: control.last.time_s + 0.5,
        pages_scanned: control.last.pages_scanned! + 1,
        ...change,
      },
      GAIN,
    );
  return control;
}
/** Full speed until two passes gained nothing. */
const rested = () => run(begin(first), { pages_sharing: 100_000, full_scans: 12 }, { full_scans: 14 });

describe("scans hard", () => {
  it("from the start, until two passes gain less than asked for", () => {
    let c = begin(first);
    expect(c).toMatchObject({ hard: true, order: { pass_s: HARD_PASS_S } });
    c = run(c, { pages_sharing: 50_000, full_scans: 12 }, { pages_sharing: 50_100, full_scans: 13 });
    expect(c).toMatchObject({ hard: true });
    expect(c.rest).toBeUndefined();
    c = run(c, { pages_sharing: 50_200, full_scans: 14 });
    expect(c).toMatchObject({ hard: false, rest: "settled", order: { pass_s: EASY_PASS_S } });
  });

  it("not through a slow pass that has not ended yet", () => {
    expect(run(begin(first), ...Array(100).fill({}))).toMatchObject({ hard: true });
  });

  it("while guests get fresh pages, though passes gain nothing yet", () => {
    let c = begin(first);
    for (let n = 1; n <= 11; n++)
      c = run(c, {
        full_scans: 10 + n,
        processes: processes({ anonymous: 50_000 + n * 5000, merging: 10_000 }),
      });
    expect(c.hard).toBe(true);
  });

  it("not for long for fresh pages that are alike with none, and each time for them later", () => {
    let c = begin(first);
    let n = 0;
    const hard: number[] = [];
    for (; n < 1200; n++) {
      const guest = processes({ anonymous: 50_000 + n * 5000, merging: 10_000 });
      c = run(c, { full_scans: 10 + n, pages_sharing: 100_000, processes: guest });
      if (c.hard) hard.push(n);
    }
    expect(hard.length).toBeLessThan(150);
    expect(Math.max(...hard)).toBeGreaterThan(900);
    // A gain takes effect at once.
    while (c.hard) c = run(c, { full_scans: 10 + n++ });
    c = run(
      c,
      { full_scans: 10 + n++, pages_sharing: 200_000 },
      { full_scans: 10 + n++, pages_sharing: 300_000 },
    );
    c = run(
      c,
      { full_scans: 10 + n++, pages_sharing: 400_000 },
      { full_scans: 10 + n, pages_sharing: 500_000 },
    );
    expect(c.hard).toBe(true);
  });

  it("again when a guest starts, though another ends", () => {
    let c = rested();
    expect(c.hard).toBe(false);
    c = run(c, { processes: new Map([[200, { anonymous: 50_000, merging: 0 }]]) });
    expect(c).toMatchObject({ hard: true, order: { pass_s: HARD_PASS_S } });
    expect(c.rest).toBeUndefined();
  });

  it("again for fresh pages that trickle in, once they are worth a pass", () => {
    let c = rested();
    for (let n = 1; n <= 9; n++)
      c = run(c, { processes: processes({ anonymous: 50_000 + n * 100, merging: 10_000 }) });
    expect(c.hard).toBe(false);
    c = run(c, { processes: processes({ anonymous: 51_100, merging: 10_000 }) });
    expect(c.hard).toBe(true);
  });

  it("not where nothing may be merged, and says so after three seconds without a page looked at", () => {
    const idle = { pages_scanned: 0 };
    let c = run(begin(first), ...Array(5).fill(idle));
    expect(c.hard).toBe(true);
    c = run(c, idle);
    expect(c).toMatchObject({ hard: false, rest: "nothing to merge" });
  });
});

describe("at rest", () => {
  it("each fruitless pass takes twice as long as the last, down to next to nothing", () => {
    let c = rested();
    const times: number[] = [];
    for (let n = 15; n < 24; n++) {
      c = run(c, { full_scans: n });
      times.push(c.order.pass_s);
    }
    expect(times).toEqual([16, 32, 64, 128, 256, 512, 512, 512, 512]);
    expect(SLOWEST_PASS_S).toBe(512);
    expect(c.rest).toBe("settled");
    expect(rateOf({ pass_s: 512, pages: 1_000_000 }, false)).toEqual({
      pages_to_scan: 391,
      sleep_millisecs: 200,
    });
  });

  it("a pass that gains makes the next one faster, and then hard", () => {
    let c = run(rested(), { full_scans: 15 }, { full_scans: 16 }, { full_scans: 17 });
    expect(c.order.pass_s).toBe(64);
    c = run(c, { full_scans: 18, pages_sharing: 102_000 });
    expect(c).toMatchObject({ hard: false, order: { pass_s: 16 } });
    c = run(c, { full_scans: 19, pages_sharing: 104_000 });
    expect(c).toMatchObject({ hard: true });
  });

  it("a loss is looked into, but never hard: pages that are written all the time cannot be won for long", () => {
    let c = run(rested(), { full_scans: 15 }, { full_scans: 16 }, { full_scans: 17 });
    for (let n = 1; n < 20; n++) {
      c = run(c, { full_scans: 17 + n, pages_sharing: 100_000 - n * 3000 });
      expect(c.hard).toBe(false);
    }
    expect(c.order.pass_s).toBe(EASY_PASS_S);
  });

  it("what went with guests that ended is no loss", () => {
    const c = run(rested(), { processes: new Map(), pages_sharing: 90_000 }, { full_scans: 15 });
    expect(c).toMatchObject({ hard: false, order: { pass_s: 2 * EASY_PASS_S } });
  });

  it("the fastest pass costs 1 % of a core, however much memory there is", () => {
    const c = run(
      begin(first),
      { pages_sharing: 9_000_000, full_scans: 12, ksmd_cpu_s: 11 },
      { full_scans: 14, ksmd_cpu_s: 17 },
    );
    expect(c.order.pass_s).toBeCloseTo(300);
  });

  it("bookkeeping counts against the gain, where the kernel tells it", () => {
    const c = run(
      begin({ ...first, profit: 0 }),
      { pages_sharing: 100_000, profit: 95_000, full_scans: 12 },
      { pages_sharing: 102_000, profit: 95_100, full_scans: 14 },
    );
    expect(c.hard).toBe(false);
  });
});

it("a hard order is never less than the first one, for memory that nobody has looked at yet", () => {
  expect(rateOf({ pass_s: 0.5, pages: 0 }, true)).toEqual({ pages_to_scan: 5000, sleep_millisecs: 10 });
  expect(rateOf({ pass_s: 0.5, pages: 1_000_000 }, true)).toEqual({
    pages_to_scan: 20_000,
    sleep_millisecs: 10,
  });
});

it("reads what the kernel says of a process, as older ones say it too", () => {
  const now =
    "ksm_rmap_items 21054\nksm_zero_pages 0\nksm_merging_pages 14431\nksm_process_profit 57761920\nksm_merge_any: no\nksm_mergeable: yes\n";
  expect(ksmStat(now)).toEqual({ mergeable: true, known: 21054, merging: 14431, profit: 57761920 });
  expect(ksmStat("ksm_rmap_items 0\nksm_merge_any: no\nksm_mergeable: no\n").mergeable).toBe(false);
  expect(ksmStat("ksm_rmap_items 0\nksm_merge_any: yes\nksm_mergeable: no\n").mergeable).toBe(true);
  expect(ksmStat("ksm_rmap_items 7\n").mergeable).toBe(true);
});
