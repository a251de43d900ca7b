import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describeSessionStore } from "../testing/index.js";
import { SqliteSessionStore } from "./sqlite-session-store.js";

describeSessionStore("SQLite in memory", async (options) => ({
  store: await SqliteSessionStore.open({ path: ":memory:", ...options }),
}));

describeSessionStore("SQLite on disk", async (options) => {
  const dir = await mkdtemp(join(tmpdir(), "sessiond-"));
  const path = join(dir, "sessions.db");
  return {
    store: await SqliteSessionStore.open({ path, ...options }),
    peer: await SqliteSessionStore.open({ path, ...options }),
    leftovers: async () => {
      using db = new DatabaseSync(path);
      const counts = ["sessions", "session_events", "requests", "session_fences"].map(
        (table) => db.prepare(`SELECT count(*) AS count FROM ${table}`).get()?.["count"],
      );
      return counts.reduce<number>((sum, count) => sum + Number(count), 0);
    },
    dispose: () => rm(dir, { recursive: true }),
  };
});
