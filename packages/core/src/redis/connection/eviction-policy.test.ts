import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { startRedisServer } from "../../testing/redis/redis-server.js";
import { readEvictionPolicies } from "./eviction-policy.js";

test("the eviction policy of Redis is known, so that a dangerous one can be warned of", async () => {
  await using server = await startRedisServer({ args: ["--maxmemory-policy", "allkeys-lru"] });
  const redis = new Redis(server.url);
  expect(await readEvictionPolicies(redis)).toEqual(["allkeys-lru"]);
  await redis.config("SET", "maxmemory-policy", "noeviction");
  expect(await readEvictionPolicies(redis)).toEqual(["noeviction"]);
  redis.disconnect();
});
