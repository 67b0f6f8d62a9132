/** Rates, delays, losses and degrees as files write them: what is clear is read, anything else gives the reason why not. */
import { describe, expect, test } from "vitest";
import { degrees, delayMs, lossShare, rateMbit } from "../../../tools/mt-topo/formats/quantities.ts";

const read = (result: { isOk(): boolean }) => {
  const r = result as ReturnType<typeof lossShare>;
  return r.isOk() ? r.value : r.error;
};

describe("a rate", () => {
  test.each([
    [1e9, 1000],
    ["2500000000.0", 2500],
    [10_000_000_000n, 10_000],
    ["10 Gbps", 10_000],
    ["10Gbit/s", 10_000],
    ["10 gbits/sec", 10_000],
    ["10GE", 10_000],
    ["1 GigE", 1000],
    ["10GBASE-T", 10_000],
    ["100BASE-TX", 100],
    ["100M", 100],
    ["155 Mbit/s", 155],
    ["155mbps", 155],
    ["2,5 Gb/s", 2500],
    ["10,000,000 bps", 10],
    ["512 kbit", 0.512],
    ["1 MB/s", 8],
    ["1 MBps", 8],
    ["1 megabyte per second", 8],
    ["100 Megabit", 100],
    ["1.5e9 bit/s", 1500],
    ["OC-3", 155.52],
    ["OC192c", 9953.28],
    ["STM-16", 2488.32],
    ["E1", 2.048],
    ["DS-3", 44.736],
    ["Gigabit Ethernet", 1000],
    ["2x10G", 20_000],
    ["4 × 2.5 Gbps", 10_000],
  ])("%s is %d Mbit/s", (value, mbit) => {
    expect(read(rateMbit(value, 1))).toBe(mbit);
  });

  test.each([
    ["fast", "not understood"],
    ["10 parsec", "not understood"],
    ["1,000 Mbps", "not understood"],
    ["<10 Gbps", "not understood"],
    ["100 Mbps - 1 Gbps", "not understood"],
    ["10 Gbps 20 Gbps", "not understood"],
    [Number.NaN, "not understood"],
    [Number.POSITIVE_INFINITY, "not understood"],
    [{ line: 1, pairs: [], lines: [] }, "not understood"],
    ["0 Mbps", "not above 0"],
    [-5, "not above 0"],
    [10, "too slow to be meant in bit/s, and without a unit"],
    [1e30, "out of range"],
  ])("%s is none", (value, why) => {
    expect(read(rateMbit(value, 1))).toBe(why);
  });

  test("a number says nothing where its key has no unit", () => {
    expect(read(rateMbit(10, undefined))).toBe("without a unit");
    expect(read(rateMbit(10, 1e9))).toBe(10_000);
  });
});

describe("a delay", () => {
  test.each([
    [5.2, 5.2],
    ["5.2 ms", 5.2],
    ["5,2ms", 5.2],
    ["5200us", 5.2],
    ["5200 µs", 5.2],
    ["0.0052 s", 5.2],
    ["300ns", 0.0003],
    ["5 msec", 5],
    [0, 0],
  ])("%s is %d ms", (value, ms) => {
    expect(read(delayMs(value, 1))).toBe(ms);
  });
  test.each([
    ["fast", "not understood"],
    ["5 parsec", "not understood"],
    [Number.NaN, "not understood"],
    [-3, "negative"],
    ["-0.1 ms", "negative"],
    ["2 hours", "not understood"],
    ["1e99 ms", "out of range"],
  ])("%s is none", (value, why) => {
    expect(read(delayMs(value, 1))).toBe(why);
  });
});

test("a loss is a share below 1, or has a %", () => {
  const values = [0.01, "0.01", "1 %", "100%", 0, 1, 5, "-1 %", "101 %", "some"];
  expect(values.map((v) => read(lossShare(v)))).toEqual([
    ...[0.01, 0.01, 0.01, 1, 0],
    ...["neither below 1 nor with a %", "neither below 1 nor with a %"],
    ...["out of range", "out of range", "not understood"],
  ]);
});

describe("degrees", () => {
  test.each([
    [48.85, 90, 48.85],
    ["48,85", 90, 48.85],
    ["-74.00597", 180, -74.00597],
    ["48.85N", 90, 48.85],
    ["N 48.85", 90, 48.85],
    ["33.9 S", 90, -33.9],
    ["2,35° E", 180, 2.35],
    ["48°51'N", 90, 48.85],
    ["0°30'36\" W", 180, -0.51],
    ["1e1", 90, 10],
    [".5", 90, 0.5],
  ] as const)("%s is read", (value, most, n) => {
    expect(read(degrees(value, most))).toBeCloseTo(n, 9);
  });
  test.each([
    [100, 90, "out of range"],
    [-181, 180, "out of range"],
    ["4885", 90, "out of range"],
    [Number.NEGATIVE_INFINITY, 180, "out of range"],
    [Number.NaN, 180, "not understood"],
    ["48.85E", 90, "not understood"],
    ["-48.85N", 90, "not understood"],
    ["48°61'N", 90, "not understood"],
    ["Paris", 90, "not understood"],
    ["48.85, 2.35", 90, "not understood"],
  ] as const)("%s is none", (value, most, why) => {
    expect(read(degrees(value, most))).toBe(why);
  });
});
