import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Keyring, Sessions } from "@sessiond/core";
import { connectRedis, type RedisLocation } from "@sessiond/core/redis";
import { startRedisServer } from "@sessiond/core/testing";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { StoreConfig } from "../config/config.js";
import { parseStoreLocation } from "../config/store-location.js";
import { inlineVerifier } from "../testing/inline-verifier.js";
import { type LogLine, recordLog } from "../testing/test-server.js";
import { Readiness } from "../transport/readiness.js";
import { openStores } from "./open-stores.js";

/** Where sessions are kept if they are kept at this URL. */
function storeAt(url: string, keyPrefix = "sessiond:"): StoreConfig {
  const store = parseStoreLocation(url);
  return { store, retentionMs: 60_000, durability: "auto", keyPrefix };
}

/** The warnings in the log about a Redis, once there is one. */
async function warningsOf(redisUrl: string): Promise<readonly LogLine[]> {
  const { logger, logs } = recordLog("warn");
  const stores = await openStores(storeAt(redisUrl), logger);
  stores.endStart();
  await vi.waitFor(() => expect(logs).not.toEqual([]), { timeout: 10_000 });
  await stores.close();
  return logs;
}

/** A relay to a Redis that makes it report version 6. */
async function startAgingRelay(port: number) {
  const server = createServer(async (client) => {
    const redis = connect(port, "127.0.0.1");
    const age = new Transform({
      transform: (chunk: Buffer, _, done) =>
        done(null, chunk.toString("latin1").replace(/redis_version:\d/, "redis_version:6")),
      defaultEncoding: "latin1",
    });
    await Promise.allSettled([pipeline(client, redis), pipeline(redis, age, client)]);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.dispose]: () => void server.close(),
  };
}

test("the log warns of a Redis that may evict sessions", async () => {
  await using redis = await startRedisServer({ args: ["--maxmemory-policy", "allkeys-lru"] });
  const warning = { level: 40, maxmemory_policy: "allkeys-lru" };
  expect(await warningsOf(redis.url)).toMatchObject([warning]);
});

test("the log names a Redis that is too old", async () => {
  await using redis = await startRedisServer();
  using relay = await startAgingRelay(Number(new URL(redis.url).port));
  expect(await warningsOf(relay.url)).toMatchObject([
    {
      level: 50,
      redis_version: expect.stringMatching(/^6\./),
      msg: "Redis is too old: calls will fail until it is version 7 or newer",
    },
  ]);
});

describe("a Redis that lets nobody in", () => {
  test.each([
    ["a wrong password", "redis://:wrong@", /WRONGPASS/],
    ["no password", "redis://", /NOAUTH/],
    ["a wrong password of a cluster", "redis+cluster://:wrong@", /^127\.0\.0\.1:\d+: WRONGPASS/],
  ])("is told once, by the start, with the cause: %s", async (_, prefix, cause) => {
    await using redis = await startRedisServer({ args: ["--requirepass", "right"] });
    const { host } = new URL(redis.url);
    await expectOneCause(prefix, host, cause);
  });

  test.each([
    ["redis://", "127.0.0.1:1", /ECONNREFUSED/],
    ["redis://", "nowhere.invalid:6379", /ENOTFOUND|EAI_AGAIN/],
    ["redis+cluster://", "127.0.0.1:1", /^no node of the cluster answers$/],
    ["redis+sentinel://", "127.0.0.1:1/main", /^All sentinels are unreachable/],
  ])("is told once, by the start, with the cause: %s%s", expectOneCause);

  async function expectOneCause(prefix: string, host: string, cause: RegExp): Promise<void> {
    const { logger, logs } = recordLog("debug");
    const failures: Error[] = [];
    const stores = await openStores(storeAt(prefix + host), logger, {
      onConnectionError: (e) => failures.push(e),
    });
    const readiness = new Readiness(stores.sessions, inlineVerifier(), logger);
    await readiness.start();
    expect(stores.endStart()).toMatch(cause);
    failures.length = 0;
    await vi.waitFor(() => expect(failures.length).toBeGreaterThan(3), { timeout: 10_000 });
    readiness.stop();
    await stores.close();
    expect(logs).toEqual([]);
  }
});

test("a Redis that goes away is told with address and cause, in one line for each cause", async () => {
  await using redis = await startRedisServer();
  const { logger, logs } = recordLog("warn");
  const failures: Error[] = [];
  const stores = await openStores(storeAt(redis.url), logger, {
    onConnectionError: (e) => failures.push(e),
  });
  expect(stores.endStart()).toBe(undefined);
  await redis.kill();
  await vi.waitFor(() => expect(failures.length).toBeGreaterThan(3), { timeout: 10_000 });
  await stores.close();
  const { host } = new URL(redis.url);
  // A connection that was just being made may be reset.
  const refusals = logs.filter(({ error }) => error === `connect ECONNREFUSED ${host}`);
  expect(refusals).toMatchObject([
    { store: expect.stringContaining(host), msg: "redis connection failed" },
  ]);
  expect(refusals[0]).not.toHaveProperty("err");
});

test("two environments with prefixes of their own share a Redis and see nothing of each other", async () => {
  await using redis = await startRedisServer();
  const { logger } = recordLog();
  const keyring = Keyring.parse(Keyring.generateKey());
  const sessionsAt = async (prefix: string) => {
    const { sessions: store } = await openStores(storeAt(redis.url, prefix), logger);
    onTestFinished(() => store.close());
    return new Sessions({ store, keyring });
  };
  const [production, staging] = [await sessionsAt("production:"), await sessionsAt("staging:")];
  const { session, token } = await production.create({ userId: "ann" });
  expect(await staging.count("ann")).toBe(0);
  await expect(staging.verify(token)).rejects.toMatchObject({ reason: "SESSION_NOT_FOUND" });
  expect((await production.verify(token)).id).toBe(session.id);
  const connection = connectRedis(parseStoreLocation(redis.url) as RedisLocation, () => {});
  await using _ = { [Symbol.asyncDispose]: async () => void connection.disconnect() };
  await once(connection, "ready");
  const keys = await connection.keys("*");
  expect(keys).not.toEqual([]);
  expect(keys.filter((key) => !key.startsWith("production:"))).toEqual([]);
});
