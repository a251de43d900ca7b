import { copyFile, mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { StoredSession } from "../sessions/session-store.js";
import { addSession, keyOf } from "../testing/contract/sessions/fixtures.js";
import { SqliteSessionStore } from "./sqlite-session-store.js";

let dir: string;
let path: string;
let store: SqliteSessionStore;
let session: StoredSession;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "sessiond-"));
  path = join(dir, "sessions.db");
  store = await SqliteSessionStore.open({ path });
  session = await addSession(store);
});
afterEach(async () => {
  await store.close();
  await rm(dir, { recursive: true, force: true });
});

/** What an operator, or a script, may do to the files of a server that runs. */
const ACCIDENTS: Readonly<Record<string, () => Promise<void>>> = {
  "that was deleted": () => rm(path),
  "that was moved away": () => rename(path, `${path}.old`),
  "whose directory was deleted": () => rm(dir, { recursive: true }),
  "whose WAL was deleted": () => rm(`${path}-wal`),
  "whose shared memory was deleted": () => rm(`${path}-shm`),
  async "that a backup has replaced"() {
    await copyFile(path, `${path}.backup`);
    await rename(`${path}.backup`, path);
  },
};

for (const [what, happen] of Object.entries(ACCIDENTS)) {
  test(`a database ${what} acknowledges nothing more, and says so`, async () => {
    await happen();
    const why = {
      reason: "STORE_UNAVAILABLE",
      message: expect.stringContaining("was deleted or replaced"),
    };
    // Also the first write, at once.
    const outcomes = await Promise.allSettled([
      addSession(store),
      store.revoke(keyOf(session), "logout"),
    ]);
    for (const outcome of outcomes) expect(outcome).toMatchObject({ reason: why });
    await expect(store.check()).rejects.toMatchObject(why);
    await sleep(100);
    await expect(store.get(keyOf(session))).rejects.toMatchObject(why);
    await expect(store.count()).rejects.toMatchObject(why);
  });
}

test("a database that was moved away and is back is used again", async () => {
  await rename(path, `${path}.old`);
  await expect(store.check()).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
  await rename(`${path}.old`, path);
  await store.check();
  expect(await store.revoke(keyOf(session), "logout")).toBe(true);
});
