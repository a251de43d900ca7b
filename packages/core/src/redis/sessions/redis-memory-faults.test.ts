import { expect, test } from "vitest";
import type { SessionKey } from "../../sessions/session-store.js";
import { FakeClock } from "../../testing/contract/fake-clock.js";
import {
  addSession,
  keyOf,
  NO_LIMIT,
  newSession,
} from "../../testing/contract/sessions/fixtures.js";
import { connectTo } from "../../testing/redis/connect-to.js";
import { startRedisServer } from "../../testing/redis/redis-server.js";
import { RedisSessionStore } from "./redis-session-store.js";

const RETENTION_MS = 60_000;
const FULL = { reason: "OVERLOADED", message: "the session store is full" };

test("a Redis out of memory takes no new sessions, but ends, verifies and reclaims those it has", async () => {
  await using server = await startRedisServer({ args: ["--maxmemory", "8mb"] });
  const redis = await connectTo(server);
  const clock = new FakeClock();
  const store = new RedisSessionStore({ redis, retentionMs: RETENTION_MS, now: clock.now });
  const keys: SessionKey[] = [];
  const tokenHash = Buffer.alloc(32, 2);
  const fill = async () => {
    for (let n = 0; ; n++) {
      const spec = { userId: `user-${n % 50}`, tokenHash, record: Buffer.alloc(16_000, n) };
      keys.push(keyOf(await addSession(store, spec)));
    }
  };
  await expect(fill()).rejects.toMatchObject(FULL);
  const [one, two, three] = keys as [SessionKey, SessionKey, SessionKey];
  const chosen = newSession({ userId: "ann", id: "jti" });
  const request = { key: "request", record: Buffer.of(1), keptForMs: 60_000 };
  for (const call of [
    () => store.create(chosen, NO_LIMIT),
    () => store.createOnce(request, newSession({ userId: "ann" }), NO_LIMIT),
    () => store.replaceRecord(one, 1, Buffer.of(1)),
  ]) {
    await expect(call()).rejects.toMatchObject(FULL);
  }

  expect(await store.get(one)).toMatchObject({ version: 1 });
  expect(await store.touch(one)).toMatchObject({ version: 1 });
  const rotated = await store.rotateToken(one, tokenHash, Buffer.alloc(32, 3));
  expect(rotated).toMatchObject({ version: 2 });
  const start = await store.events.end();
  expect(await store.revoke(two, "")).toBe(true);
  expect(await store.get(two)).toBeUndefined();
  const owner = (await store.get(three))?.userId ?? "";
  expect(await store.revokeUser(owner, "")).toBeGreaterThan(0);
  expect(await store.count(owner)).toBe(0);
  // Watchers are told of it all the same.
  expect(await store.events.read(start, 1_000)).toMatchObject({
    events: expect.arrayContaining([expect.objectContaining({ sessionId: two.id })]),
  });

  for (let n = 0; n < 50; n++) await store.revokeUser(`user-${n}`, "");
  clock.advance(RETENTION_MS + 1);
  expect((await store.sweep(10_000)).reclaimed).toBe(keys.length);
  expect(await store.create(chosen, NO_LIMIT)).toMatchObject({ session: { id: "jti" } });
  await store.close();
});
