import { defineConfig } from "vitest/config";

/**
 * Tests that stop, cut off and kill servers. They tell a slow answer from none, so
 * they run one at a time, when all others are done and leave the machine to them.
 */
const FAULTS = [
  "packages/core/src/redis/sessions/*-faults.test.ts",
  "packages/core/src/testing/{history/{fault-run,broken-under-concurrency},redis/{redis-cluster,redis-sentinel}}.test.ts",
  "apps/server/src/e2e/{store-outage,watch-faults,near-cache-faults,canary,prometheus,rolling-restart,workers}*.test.ts",
  "apps/server/src/e2e/attacks/*.test.ts",
  "packages/web/src/e2e/*.test.ts",
];

export default defineConfig({
  test: {
    testTimeout: 30_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: {
          name: "tests",
          include: ["{packages,apps}/*/src/**/*.test.ts", "scripts/*.test.ts"],
          exclude: ["**/node_modules/**", ...FAULTS],
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "faults",
          include: FAULTS,
          testTimeout: 60_000,
          sequence: { groupOrder: 1 },
          // Connections of slow clients wait for the same timeout side by side.
          maxConcurrency: 20,
          fileParallelism: false,
        },
      },
    ],
  },
});
