import { Cluster } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { leftoversOf } from "../processes/leftovers.js";
import { type RedisCluster, startRedisCluster } from "./redis-cluster.js";
import { withRedis } from "./with-redis.js";

let cluster: RedisCluster;
beforeAll(async () => {
  cluster = await startRedisCluster({ args: ["--appendonly", "yes"] });
});
afterAll(() => cluster.stop());

let client: Cluster;
beforeEach(() => {
  client = new Cluster(addresses(cluster));
  return () => client.disconnect();
});

function addresses({ nodes }: RedisCluster) {
  return nodes.map(({ port }) => ({ host: "127.0.0.1", port }));
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** Another of the nodes that started as primaries. */
function otherThan(node: { port: number }) {
  const [other] = cluster.nodes.slice(0, 3).filter(({ port }) => port !== node.port);
  if (other === undefined) throw new Error("expected another primary");
  return other;
}

test("a started cluster is healthy and serves keys of all slots", async () => {
  expect(cluster.url).toBe(
    `redis+cluster://${cluster.nodes.map(({ port }) => `127.0.0.1:${port}`).join(",")}`,
  );
  await cluster.waitUntilHealthy(0);
  for (let i = 0; i < 20; i++) expect(await client.set(`key ${i}`, i)).toBe("OK");
});

test("the primary of a key is the node that has it", async () => {
  await client.set("somewhere", "here");
  const { port } = await cluster.primaryOf("somewhere");
  expect(await withRedis(port, (redis) => redis.get("somewhere"))).toBe("here");
  const other = otherThan({ port });
  await expect(withRedis(other.port, (redis) => redis.get("somewhere"))).rejects.toThrow("MOVED");
});

test("a slot moves in batches, and keys are found on both nodes meanwhile", async () => {
  const keys = Array.from({ length: 5 }, (_, i) => `{moving}${i}`);
  for (const key of keys) await client.set(key, `value of ${key}`);
  const from = await cluster.primaryOf("{moving}");
  const to = otherThan(from);
  const slot = await cluster.slotOf("{moving}");
  const seen: (readonly [moved: number, kept: number])[] = [];
  await cluster.moveSlot(slot, to, {
    keysPerBatch: 2,
    betweenBatches: async (movedKeys) => {
      const kept = await withRedis(from.port, (redis) => redis.cluster("COUNTKEYSINSLOT", slot));
      seen.push([movedKeys, kept]);
      for (const key of keys) expect(await client.get(key)).toBe(`value of ${key}`);
    },
  });
  expect(seen).toEqual([
    [0, 5],
    [2, 3],
    [4, 1],
    [5, 0],
  ]);
  await cluster.waitUntilHealthy();
  expect(await cluster.primaryOf("{moving}")).toBe(to);
  for (const key of keys) expect(await client.get(key)).toBe(`value of ${key}`);
});

test("a move that fails half way goes on when it is made again", async () => {
  const keys = Array.from({ length: 3 }, (_, i) => `{stuck}${i}`);
  for (const key of keys) await client.set(key, key);
  const from = await cluster.primaryOf("{stuck}");
  const to = otherThan(from);
  const slot = await cluster.slotOf("{stuck}");
  const betweenBatches = async (movedKeys: number) => {
    if (movedKeys > 0) throw new Error("half way");
  };
  const stuck = cluster.moveSlot(slot, to, { keysPerBatch: 1, betweenBatches });
  await expect(stuck).rejects.toThrow("half way");
  expect(await cluster.primaryOf("{stuck}")).toBe(from);
  await cluster.moveSlot(slot, to);
  expect(await cluster.primaryOf("{stuck}")).toBe(to);
  for (const key of keys) expect(await client.get(key)).toBe(key);
});

test("a replica takes over from a killed primary, which comes back as its replica", async () => {
  const first = await cluster.primaryOf("fought over");
  const [id, pid] = [first.nodeId(), first.pid];
  await first.kill();
  expect(isRunning(pid)).toBe(false);
  await expect(cluster.waitUntilHealthy(0)).rejects.toThrow("slots");
  await cluster.waitUntilHealthy();
  const second = await cluster.primaryOf("fought over");
  expect(second).not.toBe(first);

  await first.restart();
  expect(first.pid).not.toBe(pid);
  await cluster.waitUntilHealthy();
  expect(await cluster.primaryOf("fought over")).toBe(second);
  const role = await withRedis(first.port, (redis) => redis.role());
  expect(role.slice(0, 3)).toEqual(["slave", "127.0.0.1", second.port]);
  expect(await withRedis(first.port, (redis) => redis.cluster("MYID"))).toBe(id);
});

test("a replica takes over from a frozen primary, which gives way once it goes on", async () => {
  const first = await cluster.primaryOf("frozen");
  first.pause();
  await cluster.waitUntilHealthy();
  const second = await cluster.primaryOf("frozen");
  expect(second).not.toBe(first);
  first.resume();
  await cluster.waitUntilHealthy();
  expect(await cluster.primaryOf("frozen")).toBe(second);
});

test("a restarted node has what it persisted", async () => {
  await client.set("kept", "still here");
  const node = await cluster.primaryOf("kept");
  await node.restart();
  await cluster.waitUntilHealthy();
  expect(await client.get("kept")).toBe("still here");
});

test("a cluster that cannot be formed leaves nothing behind", async () => {
  const user = ["--user", "default", "on", "nopass", "~*", "&*", "+@all", "-cluster|replicate"];
  const leftovers = await leftoversOf(async () => {
    await expect(startRedisCluster({ primaries: 1, args: user })).rejects.toThrow("NOPERM");
  });
  expect(leftovers).toEqual({ files: [], processes: 0 });
});

test("a stopped cluster is gone, even with a frozen node, and may be stopped again", async () => {
  const leftovers = await leftoversOf(async () => {
    const small = await startRedisCluster({ primaries: 1, replicasPerPrimary: 0 });
    small.nodes[0]?.pause();
    await small.stop();
    await small.stop();
  });
  expect(leftovers).toEqual({ files: [], processes: 0 });
});
