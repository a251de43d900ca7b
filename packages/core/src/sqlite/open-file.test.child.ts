import { newSession } from "../testing/contract/sessions/fixtures.js";
import { SqliteSessionStore } from "./sqlite-session-store.js";

// Opens a file and creates a number of sessions in it, one after the other.

const [path = "", sessions = "0"] = process.argv.slice(2);
const store = await SqliteSessionStore.open({ path });
process.stdout.write("opened\n");
for (let i = 0; i < Number(sessions); i++) {
  const limit = { maxSessionsPerUser: 10, policy: "evict_oldest" } as const;
  const { evictedIds } = await store.create(newSession(), limit);
  for (const id of evictedIds) process.stdout.write(`evicted ${id}\n`);
}
await store.close();
