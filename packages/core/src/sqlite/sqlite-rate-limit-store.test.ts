import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeRateLimitStore } from "../testing/contract/rate-limits/describe-rate-limit-store.js";
import { SqliteDatabase } from "./sqlite-database.js";
import { SqliteRateLimitStore } from "./sqlite-rate-limit-store.js";
import { SqliteSessionStore } from "./sqlite-session-store.js";

async function open(path: string, now: () => number) {
  const database = await SqliteDatabase.open({ path, now });
  const sessions = new SqliteSessionStore(database);
  const count = database.db.prepare("SELECT count(*) AS count FROM rate_limit_attempts");
  return {
    store: new SqliteRateLimitStore(database),
    entries: async () => Number(count.get()?.["count"]),
    reclaim: () => sessions.sweep(1_000),
    dispose: () => sessions.close(),
  };
}

describeRateLimitStore("SQLite in memory", ({ now }) => open(":memory:", now));

describeRateLimitStore("SQLite on disk", async ({ now }) => {
  const dir = await mkdtemp(join(tmpdir(), "sessiond-"));
  const first = await open(join(dir, "sessiond.db"), now);
  const second = await open(join(dir, "sessiond.db"), now);
  return {
    ...first,
    peer: second.store,
    async dispose() {
      await first.dispose();
      await second.dispose();
      await rm(dir, { recursive: true });
    },
  };
});
