/**
 * Projects: unit tests and tests of compiled tools, two files at a time; end-to-end runs, two at a time, whose waits
 * overlap; those that own the machine (they count what is left on it, or fill its memory), one at a time; and what repeats
 * that many times, `make soak`.
 */
import { defineConfig } from "vitest/config";

const limits = { testTimeout: 60_000, hookTimeout: 120_000 };
/** Guests boot under translation, several at a time on two cores. */
const e2eLimits = { testTimeout: 240_000, hookTimeout: 240_000 };

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/unit/**/*.test.ts", "test/binaries/**/*.test.ts"],
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
          ...limits,
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/e2e/*.test.ts"],
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
          ...e2eLimits,
        },
      },
      {
        test: {
          name: "alone",
          include: ["test/e2e/alone/*.test.ts"],
          maxWorkers: 1,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
          ...e2eLimits,
        },
      },
      {
        test: {
          name: "soak",
          include: ["test/soak/**/*.test.ts", "test/e2e/alone/lost.test.ts"],
          maxWorkers: 1,
          fileParallelism: false,
          sequence: { groupOrder: 3 },
          ...e2eLimits,
        },
      },
    ],
  },
});
