import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { leftoversOf } from "../processes/leftovers.js";
import { type RedisSentinels, startRedisSentinels } from "./redis-sentinel.js";
import { withRedis } from "./with-redis.js";

let redis: RedisSentinels;
beforeAll(async () => {
  redis = await startRedisSentinels();
});
afterAll(() => redis.stop());

test("a client that asks the sentinels writes to the primary, and every replica has it", async () => {
  const sentinels = redis.sentinels.map(({ port }) => ({ host: "127.0.0.1", port }));
  const hosts = sentinels.map(({ host, port }) => `${host}:${port}`).join(",");
  expect(redis.url).toBe(`redis+sentinel://${hosts}/mymaster`);
  const client = new Redis({ sentinels, name: "mymaster" });
  await client.set("key", "value");
  expect(await client.wait(2, 5_000)).toBe(2);
  client.disconnect();
  for (const { port } of redis.nodes) {
    expect(await withRedis(port, (node) => node.get("key"))).toBe("value");
  }
});

test("a replica takes over from a killed primary without one of the sentinels, and stays it", async () => {
  const first = await redis.primary();
  expect(first).toBe(redis.nodes[0]);
  await redis.sentinels[0]?.kill();
  await first.kill();
  await expect(redis.waitUntilHealthy(0)).rejects.toThrow("0 primaries");
  await redis.waitUntilHealthy();
  const second = await redis.primary();
  expect(second).not.toBe(first);
  for (const back of [redis.sentinels[0], first]) await back?.restart();
  await redis.waitUntilHealthy();
  expect(await redis.primary()).toBe(second);
});

test("sentinels that cannot be started leave nothing behind, not even the primary", async () => {
  const leftovers = await leftoversOf(async () => {
    const starting = startRedisSentinels({ replicas: 0, downAfterMs: 0 });
    await expect(starting).rejects.toThrow("negative or zero time");
  });
  expect(leftovers).toEqual({ files: [], processes: 0 });
});
