import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import {
  addSession,
  evictBeyond,
  keyOf,
  newSession,
} from "../../testing/contract/sessions/fixtures.js";
import { connectTo } from "../../testing/redis/connect-to.js";
import { type RedisServer, startRedisServer } from "../../testing/redis/redis-server.js";
import { SessionWatches } from "../../watch/session-watch.js";
import { RedisSessionStore } from "../sessions/redis-session-store.js";

/** What is commonly given to an application; since Redis 7 that includes no channel. */
const USER = { username: "app", password: "pw" };
const RULES = ["on", `>${USER.password}`, "~*", "+@all"];

let server: RedisServer;
let admin: Redis;
let store: RedisSessionStore;

beforeAll(async () => {
  server = await startRedisServer();
  admin = new Redis(server.url);
  await admin.call("ACL", "SETUSER", USER.username, ...RULES);
});
afterAll(async () => {
  admin.disconnect();
  await server.stop();
});
beforeEach(async () => {
  store = new RedisSessionStore({ redis: await connectTo({ port: server.port, ...USER }) });
});
afterEach(() => store.close());

// The hint that there are new events failed a script half way: the call was an error, the
// session was changed all the same, and there was no event, nor anything of the request.
test("without permission for any channel, every change is made whole, with its event", async () => {
  const ada = { userId: "ada" };
  const start = await store.events.end("ada");
  const session = await addSession(store, ada);
  const { key, tokenHash } = { key: keyOf(session), ...session };
  const request = { key: "request", record: Buffer.of(1), keptForMs: 60_000 };
  const second = newSession(ada);
  const once = () => store.createOnce(request, second, evictBeyond(2));
  expect(await once()).toMatchObject({ evictedIds: [] });
  expect(await once()).toMatchObject({ session: { id: second.key.id } });
  expect(await store.replaceRecord(key, 1, Buffer.of(2))).toMatchObject({ version: 2 });
  expect(await store.touch(key)).toMatchObject({ version: 2 });
  expect(await store.rotateToken(key, tokenHash, Buffer.of(3))).toMatchObject({ version: 3 });
  const third = await store.create(newSession(ada), evictBeyond(2));
  expect(third.evictedIds).toEqual([key.id]);
  expect(await store.revoke(second.key, "")).toBe(true);
  expect(await store.revokeUser("ada", "")).toBe(1);

  expect(await store.count("ada")).toBe(0);
  const page = await store.events.read(start, 100);
  expect(page !== "lost" && page.events.map(({ type }) => type)).toEqual([
    ...["created", "created", "updated", "token_rotated", "evicted", "created"],
    ...["revoked", "revoked"],
  ]);
  expect(await store.sweep(10)).toEqual({ expired: 0, reclaimed: 0, healed: 0, more: false });
});

// Subscribing was tried again at once, on a new connection, hundreds of times in a second.
test("without permission for any channel, watchers hear of changes, and do not besiege Redis", async () => {
  const watch = new SessionWatches(store.events).watch({ userId: "bob" });
  expect((await watch.next()).value).toMatchObject({ kind: "checkpoint" });
  const before = await countReceivedConnections();
  const next = watch.next();
  await addSession(store, { userId: "bob" });
  let message = (await next).value;
  while (message?.kind === "checkpoint") message = (await watch.next()).value;
  expect(message).toMatchObject({ kind: "events", events: [{ type: "created" }] });

  await sleep(1_000);
  expect((await countReceivedConnections()) - before).toBeLessThan(5);
  await watch.return(undefined as never);
});

async function countReceivedConnections(): Promise<number> {
  return Number(/^total_connections_received:(\d+)/m.exec(await admin.info("stats"))?.[1]);
}
