import { defineConfig } from "vitest/config";

/** Whole systems at work for long: much of it is waiting, so two of them share the machine. */
const SCENARIOS = [
  "apps/server/src/e2e/{watch-faults,near-cache-faults,canary,prometheus,rolling-restart,workers}*.test.ts",
  "apps/server/src/e2e/{attacks,console}/*.test.ts",
  "packages/web/src/e2e/*.test.ts",
];

/**
 * Tests that stop, cut off and kill stores. They tell a slow answer from none, so
 * they run one at a time, when all others are done and leave the machine to them.
 */
const FAULTS = [
  "packages/core/src/redis/sessions/*-faults.test.ts",
  "packages/core/src/testing/{history/{fault-run,broken-under-concurrency},redis/{redis-cluster,redis-sentinel}}.test.ts",
  "apps/server/src/e2e/store-outage*.test.ts",
];

export default defineConfig({
  test: {
    testTimeout: 30_000,
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: {
          name: "tests",
          include: ["{packages,apps}/*/src/**/*.test.ts", "scripts/{,*/}*.test.ts"],
          exclude: ["**/node_modules/**", ...SCENARIOS, ...FAULTS],
          // One more than our machines have cores: many tests wait for a while.
          maxWorkers: 3,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "scenarios",
          include: SCENARIOS,
          testTimeout: 60_000,
          maxWorkers: 2,
          // Connections of slow clients wait for the same timeout side by side.
          maxConcurrency: 20,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: "faults",
          include: FAULTS,
          testTimeout: 60_000,
          sequence: { groupOrder: 2 },
          fileParallelism: false,
        },
      },
    ],
  },
});
