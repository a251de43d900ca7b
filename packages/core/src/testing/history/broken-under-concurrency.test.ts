import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { overriding } from "../proofs/broken-store.js";
import { brokenUnderConcurrency } from "./broken-under-concurrency.js";
import { type FaultyStores, runUnderFaults } from "./fault-run.js";
import { startFaultyRedis } from "./faulty-redis.js";

/** A run ends with the first violation, which takes a second or so. */
const MAX_DURATION_MS = 40_000;
const TIMEOUT_MS = 60_000;

let faulty: FaultyStores;
beforeAll(async () => {
  faulty = await startFaultyRedis();
});
afterAll(() => faulty[Symbol.asyncDispose]());

describe("a run finds a store that", () => {
  for (const { fault, needsFaults, differ } of brokenUnderConcurrency) {
    test(
      fault,
      async () => {
        const report = await runUnderFaults({
          stores: faulty.stores.map((store) => overriding(store, differ(store))),
          faults: needsFaults ? faulty.faults : [],
          seed: Date.now() % 2 ** 32,
          durationMs: MAX_DURATION_MS,
        });
        expect(report.violation).toMatch(/^no order explains these \d+ of \d+ calls/);
        expect(report.violation).toContain(`Seed: ${report.seed}`);
      },
      TIMEOUT_MS,
    );
  }
});
