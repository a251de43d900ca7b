import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SqliteDatabase } from "../../sqlite/sqlite-database.js";
import { SqliteRateLimitStore } from "../../sqlite/sqlite-rate-limit-store.js";
import { SqliteSessionStore } from "../../sqlite/sqlite-session-store.js";
import { rateLimitStoreChecks } from "../contract/rate-limits/rate-limit-checks.js";
import {
  type OpenRateLimitStore,
  runRateLimitStoreCheck,
} from "../contract/rate-limits/rate-limit-store-check.js";
import { brokenRateLimitStores } from "./broken-rate-limit-stores.js";

// That a property fails is all that is asked here, not what its least counterexample is. The seed
// is always the same: a fault that only some of all histories show is then seen every time.
fc.configureGlobal({ endOnFailure: true, seed: 1 });

const openCorrect: OpenRateLimitStore = async ({ now }) => {
  const database = await SqliteDatabase.open({ path: ":memory:", now });
  const sessions = new SqliteSessionStore(database);
  const count = database.db.prepare("SELECT count(*) AS count FROM rate_limit_attempts");
  return {
    store: new SqliteRateLimitStore(database),
    entries: async () => Number(count.get()?.["count"]),
    reclaim: () => sessions.sweep(1_000),
    dispose: () => sessions.close(),
  };
};

test("each promise of the contract is checked under a title of its own", () => {
  const titles = rateLimitStoreChecks.map(({ title }) => title);
  expect(titles).toEqual([...new Set(titles)]);
});

test("for each check there is a broken store that it must see", () => {
  const proven = new Set(brokenRateLimitStores.flatMap(({ caughtBy }) => caughtBy));
  expect(proven).toEqual(new Set(rateLimitStoreChecks.map(({ title }) => title)));
});

describe("the suite sees a store that", () => {
  for (const { fault, caughtBy, open } of brokenRateLimitStores) {
    test.concurrent(fault, async () => {
      for (const title of caughtBy) {
        const check = rateLimitStoreChecks.find((one) => one.title === title);
        if (check === undefined) throw new Error(`there is no check that "${title}"`);
        await expect(runRateLimitStoreCheck(check, open(openCorrect)), title).rejects.toThrow();
      }
    });
  }
});
