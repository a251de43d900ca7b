import fc from "fast-check";
import { SqliteDatabase } from "../../sqlite/sqlite-database.js";
import { SqliteRateLimitStore } from "../../sqlite/sqlite-rate-limit-store.js";
import { SqliteSessionStore } from "../../sqlite/sqlite-session-store.js";
import { rateLimitStoreChecks } from "../contract/rate-limits/rate-limit-checks.js";
import { runRateLimitStoreCheck } from "../contract/rate-limits/rate-limit-store-check.js";
import { brokenRateLimitStores } from "./broken-rate-limit-stores.js";
import { describeProofs } from "./broken-store.js";

// The seed is always the same: a fault that only some of all histories show is seen every time.
fc.configureGlobal({ endOnFailure: true, seed: 1 });

describeProofs({
  checks: rateLimitStoreChecks,
  run: runRateLimitStoreCheck,
  openCorrect: async ({ now }) => {
    const database = await SqliteDatabase.open({ path: ":memory:", now });
    const sessions = new SqliteSessionStore(database);
    const count = database.db.prepare("SELECT count(*) AS count FROM rate_limit_attempts");
    return {
      store: new SqliteRateLimitStore(database),
      entries: async () => Number(count.get()?.["count"]),
      reclaim: () => sessions.sweep(1_000),
      dispose: () => sessions.close(),
    };
  },
  brokenStores: brokenRateLimitStores,
});
