import { evictBeyond, newSession } from "../testing/contract/sessions/fixtures.js";
import { SqliteSessionStore } from "./sqlite-session-store.js";

// Creates and revokes sessions until it is killed, and says on its standard output what it is
// about to do and what was acknowledged. The limit makes every creation a change of two rows.

const [path = ""] = process.argv.slice(2);
const store = await SqliteSessionStore.open({ path });

function say(...words: readonly string[]): void {
  process.stdout.write(`${words.join(" ")}\n`);
}

async function work(userId: string): Promise<never> {
  for (let i = 0; ; i++) {
    const created = await store.create(newSession({ userId }), evictBeyond(3));
    say("created", created.session.id, userId);
    for (const id of created.evictedIds) say("revoked", id);
    if (i % 4 === 3) {
      const { key } = newSession({ userId, id: created.session.id });
      say("revoking", key.id);
      await store.revoke(key, "logout");
      say("revoked", key.id);
    }
  }
}

await Promise.all(["ann", "bob", "carol"].map(work));
