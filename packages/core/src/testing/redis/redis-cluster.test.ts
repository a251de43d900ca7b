import type { Cluster } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { connectToCluster } from "./connect-to.js";
import { type RedisCluster, startRedisCluster } from "./redis-cluster.js";
import { withRedis } from "./with-redis.js";

let cluster: RedisCluster;
beforeAll(async () => {
  cluster = await startRedisCluster();
});
afterAll(() => cluster.stop());

let client: Cluster;
beforeEach(async () => {
  client = await connectToCluster(cluster);
  return () => client.disconnect();
});

/** Another of the nodes that started as primaries. */
function otherThan(node: { port: number }) {
  const [other] = cluster.nodes.slice(0, 3).filter(({ port }) => port !== node.port);
  if (other === undefined) throw new Error("expected another primary");
  return other;
}

test("a started cluster is healthy, and the primary of a key is the node that has it", async () => {
  const hosts = cluster.nodes.map(({ port }) => `127.0.0.1:${port}`).join(",");
  expect(cluster.url).toBe(`redis+cluster://${hosts}`);
  await cluster.waitUntilHealthy(0);
  for (let i = 0; i < 20; i++) expect(await client.set(`key ${i}`, i)).toBe("OK");
  const { port } = await cluster.primaryOf("key 7");
  expect(await withRedis(port, (redis) => redis.get("key 7"))).toBe("7");
  const elsewhere = withRedis(otherThan({ port }).port, (redis) => redis.get("key 7"));
  await expect(elsewhere).rejects.toThrow("MOVED");
});

test("a slot moves in batches, keys are found meanwhile, and a move that failed goes on", async () => {
  const keys = Array.from({ length: 5 }, (_, i) => `{moving}${i}`);
  for (const key of keys) await client.set(key, key);
  const from = await cluster.primaryOf("{moving}");
  const to = otherThan(from);
  const slot = await cluster.slotOf("{moving}");
  const seen: (readonly [moved: number, kept: number])[] = [];
  const options = {
    keysPerBatch: 2,
    betweenBatches: async (movedKeys: number) => {
      const kept = await withRedis(from.port, (redis) => redis.cluster("COUNTKEYSINSLOT", slot));
      seen.push([movedKeys, kept]);
      for (const key of keys) expect(await client.get(key)).toBe(key);
      if (seen.length === 2) throw new Error("half way");
    },
  };
  await expect(cluster.moveSlot(slot, to, options)).rejects.toThrow("half way");
  expect(await cluster.primaryOf("{moving}")).toBe(from);
  await cluster.moveSlot(slot, to, options);
  expect(seen).toEqual([
    [0, 5],
    [2, 3],
    [0, 3],
    [2, 1],
    [3, 0],
  ]);
  await cluster.waitUntilHealthy();
  expect(await cluster.primaryOf("{moving}")).toBe(to);
});
