import { evictBeyond, newSession } from "../testing/contract/sessions/fixtures.js";
import { SqliteSessionStore } from "./sqlite-session-store.js";

// Opens a file and creates a number of sessions in it, one after the other.

const [path = "", sessions = "0"] = process.argv.slice(2);
const store = await SqliteSessionStore.open({ path });
for (let i = 0; i < Number(sessions); i++) {
  const { evictedIds } = await store.create(newSession(), evictBeyond(10));
  for (const id of evictedIds) process.stdout.write(`evicted ${id}\n`);
}
await store.close();
