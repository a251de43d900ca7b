import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type Partition, partitionOfUser } from "../session-id.js";
import type { SessionKey } from "../session-store.js";
import { LIMIT, newSession, orUnavailable, PromisedLoad } from "../testing/promised-load.js";
import { type RedisCluster, startRedisCluster } from "../testing/redis-cluster.js";
import { withRedis } from "../testing/with-redis.js";
import { connectRedis } from "./connect-redis.js";
import { type Durability, RedisSessionStore } from "./redis-session-store.js";

const NODE_TIMEOUT_MS = 1_000;
/** Twenty in `pnpm soak:failover`, which takes some minutes. */
const FAILOVERS = Number(process.env["SESSIOND_FAILOVERS"] ?? 2);

let cluster: RedisCluster;
const stores: RedisSessionStore[] = [];
beforeAll(async () => {
  cluster = await startRedisCluster({ nodeTimeoutMs: NODE_TIMEOUT_MS });
}, 60_000);
afterAll(() => cluster.stop());
afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.close()));
});

async function openStore(durability: Durability): Promise<RedisSessionStore> {
  const nodes = cluster.nodes.map(({ port }) => ({ host: "127.0.0.1", port }));
  const redis = connectRedis({ kind: "redis-cluster", nodes, tls: false }, () => {});
  await once(redis, "ready");
  const store = new RedisSessionStore({ redis, durability });
  stores.push(store);
  return store;
}

test("slots move under load, and no call notices", { timeout: 60_000 }, async () => {
  const store = await openStore("local");
  const load = new PromisedLoad(store, 8);
  await sleep(500);
  const partitions = new Set([...load.active.values()].map(({ partition }) => partition));
  for (const partition of [...partitions].slice(0, 20)) {
    const key = `sessions:{${partition}}`;
    const from = await cluster.primaryOf(key);
    const to = await otherPrimary(partition, from.port);
    await cluster.moveSlot(await cluster.slotOf(key), to, { keysPerBatch: 5 });
  }
  await load.stop();
  expect(load.unavailable).toBe(0);
  expect(load.active.size).toBeGreaterThan(100);
  expect(await load.broken(store)).toEqual([]);
  expect(await store.count()).toBe(load.active.size);
  expect(await store.sweep(1)).toMatchObject({ healed: 0 });
});

test("a slot that is stuck half way answers for what it can, changes nothing by halves, and is whole after", {
  timeout: 60_000,
}, async () => {
  const store = await openStore("local");
  const sessions = Array.from({ length: 30 }, () => newSession("stuck"));
  for (const session of sessions) await store.create(session, LIMIT);
  const partition = partitionOfUser("stuck");
  const key = `sessions:{${partition}}`;
  const to = await otherPrimary(partition, (await cluster.primaryOf(key)).port);
  let revoked = 0;
  await cluster.moveSlot(await cluster.slotOf(key), to, {
    keysPerBatch: 7,
    betweenBatches: async () => {
      const found = await store.getMany(sessions.map((session) => session.key));
      expect(found.filter((session) => session !== undefined)).toHaveLength(30 - revoked);
      const key = sessions[revoked]?.key as SessionKey;
      if ((await orUnavailable(store.revoke(key, ""))) === true) revoked++;
    },
  });
  const left = sessions.length - revoked;
  expect(await store.count("stuck")).toBe(left);
  expect(await store.revokeUser("stuck", "")).toBe(left);
  for (let i = 0; i < 20; i++) expect(await store.sweep(1)).toMatchObject({ healed: 0 });
});

test(`of ${FAILOVERS} primaries killed under load each is replaced in time, and no promise is broken`, {
  timeout: 60_000 + FAILOVERS * 30_000,
}, async () => {
  const [local, replicated] = [await openStore("local"), await openStore("replicated")];
  const load = new PromisedLoad(replicated, 6);
  for (let n = 0; n < FAILOVERS; n++) {
    await sleep(1_000);
    const userId = `victim-${n}`;
    const victim = await cluster.primaryOf(`sessions:{${partitionOfUser(userId)}}`);
    await victim.kill();
    const killedMs = performance.now();
    while ((await orUnavailable(local.create(newSession(userId), LIMIT))) === undefined) {
      await sleep(20);
    }
    const recoveryMs = performance.now() - killedMs;
    console.log(`failover ${n + 1}: writes were back after ${Math.round(recoveryMs)} ms`);
    expect(recoveryMs).toBeLessThan(NODE_TIMEOUT_MS + 5_000);
    await victim.restart();
    await cluster.waitUntilHealthy(30_000);
    expect(await load.broken(local)).toEqual([]);
  }
  await load.stop();
  expect(load.unavailable).toBeGreaterThan(0);
  expect(load.revoked.size).toBeGreaterThan(50);
  expect(await load.broken(local)).toEqual([]);
});

test("a replica promoted without the last revocation is told of it again, and readers of events start anew", {
  timeout: 60_000,
}, async () => {
  const store = await openStore("local");
  const session = newSession("unlucky");
  await store.create(session, LIMIT);
  const cursor = await store.events.end("unlucky");
  const primary = await cluster.primaryOf(`sessions:{${session.key.partition}}`);
  const replica = await replicaOf(primary.nodeId());
  await sleep(100);
  // What was sent to a stopped replica would wait in its socket; to one that was cut off it is not sent.
  replica.pause();
  await withRedis(primary.port, (redis) => redis.call("client", "kill", "type", "replica"));
  expect(await store.revoke(session.key, "")).toBe(true);
  await primary.kill();
  replica.resume();
  await expect
    .poll(() => cluster.primaryOf(`sessions:{${session.key.partition}}`), { timeout: 10_000 })
    .toBe(replica);

  // Another server finds the session alive, until this one has noticed.
  const other = await openStore("local");
  const seen: string[] = [];
  const look = async () => {
    const found = await other.get(session.key).then(Boolean, () => undefined);
    if (found !== undefined) seen.push(found ? "alive" : "revoked");
    return seen.at(-1);
  };
  await expect.poll(look, { timeout: 10_000, interval: 5 }).toBe("revoked");
  expect(seen[0]).toBe("alive");
  const read = () => store.events.read(cursor, 10).catch(() => "unavailable");
  await expect.poll(read, { timeout: 5_000 }).toBe("lost");
  await primary.restart();
  await cluster.waitUntilHealthy(30_000);
});

test("a cluster that has lost its majority answers unavailable at once", {
  timeout: 60_000,
}, async () => {
  const store = await openStore("local");
  const victims = cluster.nodes.slice(0, 5);
  await Promise.all(victims.map((node) => node.kill()));
  await expect
    .poll(async () => {
      const startMs = performance.now();
      const answer = await orUnavailable(store.create(newSession("down"), LIMIT));
      expect(performance.now() - startMs).toBeLessThan(2_000);
      return answer;
    })
    .toBeUndefined();
  for (const node of victims) await node.restart();
  await cluster.waitUntilHealthy(30_000);
  await expect
    .poll(() => orUnavailable(store.create(newSession("up"), LIMIT)), { timeout: 10_000 })
    .toBeDefined();
});

async function otherPrimary(partition: Partition, port: number) {
  for (let i = 0; i < 256; i++) {
    const node = await cluster.primaryOf(`sessions:{${i.toString(16).padStart(2, "0")}}`);
    if (node.port !== port) return node;
  }
  throw new Error(`no other primary than that of ${partition}`);
}

async function replicaOf(primaryId: string) {
  for (const node of cluster.nodes) {
    const view = await withRedis(node.port, (redis) => redis.cluster("NODES")).then(String);
    const line = view
      .split("\n")
      .find((text) => text.includes("slave") && text.includes(` ${primaryId} `));
    const id = line?.split(" ")[0];
    const replica = cluster.nodes.find((other) => other.nodeId() === id);
    if (replica) return replica;
  }
  throw new Error("the primary has no replica");
}
