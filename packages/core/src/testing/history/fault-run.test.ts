import { describe, expect, test } from "vitest";
import { type FaultRunReport, runUnderFaults } from "./fault-run.js";
import { startFaultyRedis } from "./faulty-redis.js";
import { startFaultySqlite } from "./faulty-sqlite.js";

const DURATION_MS = 10_000;
const TIMEOUT_MS = 60_000;
/** Other faults each time; a report of what was found says the seed. */
const SEED = Date.now() % 2 ** 32;

function expectCorrect(report: FaultRunReport): void {
  expect(report.violation ?? "none").toBe("none");
  expect(report).toMatchObject({ undecided: 0 });
  expect(report.calls).toBeGreaterThan(100);
  expect(report.unknownChanges).toBeGreaterThan(0);
  expect(Object.keys(report.faults).length).toBeGreaterThan(1);
}

describe("however calls meet and whatever fails, the sessions of a user change one call at a time", () => {
  test(
    "in Redis, with its server frozen and killed",
    async () => {
      await using faulty = await startFaultyRedis();
      const options = { ...faulty, seed: SEED, durationMs: DURATION_MS };
      const report = await runUnderFaults(options);
      expectCorrect(report);
    },
    TIMEOUT_MS,
  );

  test(
    "in SQLite, with its processes frozen and killed",
    async () => {
      await using faulty = await startFaultySqlite();
      const report = await runUnderFaults({ ...faulty, seed: SEED, durationMs: DURATION_MS });
      expectCorrect(report);
    },
    TIMEOUT_MS,
  );
});
