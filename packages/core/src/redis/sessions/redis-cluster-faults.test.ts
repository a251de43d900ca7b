import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type Partition, partitionOfUser } from "../../sessions/session-id.js";
import type {
  ListCursor,
  NewSession,
  SessionKey,
  StoredSession,
} from "../../sessions/session-store.js";
import {
  LIMIT,
  newSession,
  orUnavailable,
  PromisedLoad,
} from "../../testing/contract/promised-load.js";
import { freePort } from "../../testing/network/free-port.js";
import { type RedisCluster, startRedisCluster } from "../../testing/redis/redis-cluster.js";
import { withRedis } from "../../testing/redis/with-redis.js";
import { connectRedis } from "../connection/connect-redis.js";
import { Primaries } from "../connection/primaries.js";
import { type Durability, RedisSessionStore } from "./redis-session-store.js";

const NODE_TIMEOUT_MS = 1_000;
/** Twenty in `pnpm soak:failover`, which takes some minutes. */
const FAILOVERS = Number(process.env["SESSIOND_FAILOVERS"] ?? 2);

const RESHARDING = {
  reason: "STORE_UNAVAILABLE",
  message: expect.stringContaining("Redis is resharding"),
};

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
  await expectSoundIndexes(store);
});

// To a script that follows a slot to its new node, a key that has not arrived there looked
// like one that there is not: sessions were spared, and entries taken out of the indexes or put in twice.
test.each<{
  readonly change: string;
  readonly behind: string;
  readonly make: (store: RedisSessionStore, key: SessionKey) => Promise<unknown>;
}>([
  {
    change: "revoking a user's sessions",
    behind: "session:",
    make: (store) => store.revokeUser("half", ""),
  },
  {
    change: "revoking a session",
    behind: "user_sessions:",
    make: (store, key) => store.revoke(key, ""),
  },
  {
    change: "refreshing a session",
    behind: "user_sessions:",
    make: (store, key) => store.touch(key),
  },
  {
    change: "rotating a token",
    behind: "user_sessions:",
    make: (store, key) => store.rotateToken(key, newSession("half").tokenHash, Buffer.of(1)),
  },
])(
  "$change with $behind… still to be moved is refused, and can be repeated after",
  {
    timeout: 60_000,
  },
  async ({ behind, make }) => {
    const store = await openStore("local");
    const sessions = Array.from({ length: 3 }, () => newSession("half"));
    const key = sessions[0]?.key as SessionKey;
    for (const session of sessions) await store.create(session, LIMIT);
    const before = await store.getMany(sessions.map((session) => session.key));
    await halfMove("half", behind, async () => {
      await expect(make(store, key)).rejects.toMatchObject(RESHARDING);
    });
    expect(facts(await store.getMany(sessions.map((session) => session.key)))).toEqual(
      facts(before),
    );
    await expectSoundIndexes(store);
    expect(await make(store, key)).toBeTruthy();
    await expectSoundIndexes(store);
    await store.revokeUser("half", "");
  },
);

// The indexes of a slot that is being moved are each with one node or the other, and neither
// node needs to know the scripts that read them.
test.each(["sessions", "sessions:", "session:"])(
  "all sessions are counted and listed with %s… still to be moved",
  { timeout: 60_000 },
  async (behind) => {
    const store = await openStore("local");
    for (let i = 0; i < 5; i++) await store.create(newSession("counted"), LIMIT);
    const ids = await listIds(store);
    await halfMove("counted", behind, async () => {
      for (const { port } of cluster.nodes) {
        await withRedis(port, (redis) => redis.script("FLUSH"));
      }
      expect(await store.count()).toBe(ids.length);
      expect(await listIds(store)).toEqual(ids);
    });
    await store.revokeUser("counted", "");
  },
);

test("a sweep that comes upon a slot half moved takes no session out of the indexes", {
  timeout: 60_000,
}, async () => {
  const store = await openStore("local");
  const sessions = Array.from({ length: 5 }, () => newSession("swept"));
  for (const session of sessions) await store.create(session, LIMIT);
  let refused = 0;
  await halfMove("swept", "session:", async () => {
    // As many as it takes to come by every primary.
    for (let i = 0; i < 6; i++) {
      await store.sweep(1).catch((error: unknown) => {
        expect(error).toMatchObject(RESHARDING);
        refused++;
      });
    }
  });
  expect(refused).toBeGreaterThan(0);
  expect(await store.count("swept")).toBe(5);
  await expectSoundIndexes(store);
});

// WAIT stands for a write before it on the same connection, and that write was one which a
// slot that is being moved does not take.
test("a revocation is confirmed by a replica while its slot is open, too", {
  timeout: 60_000,
}, async () => {
  const store = await openStore("auto");
  const session = newSession("open");
  await store.create(session, LIMIT);
  const key = `sessions:{${session.key.partition}}`;
  const to = await otherPrimary(session.key.partition, (await cluster.primaryOf(key)).port);
  let revoked: boolean | undefined;
  await cluster.moveSlot(await cluster.slotOf(key), to, {
    keysPerBatch: 1_000,
    betweenBatches: async (movedKeys) => {
      if (movedKeys === 0) revoked = await store.revoke(session.key, "");
    },
  });
  expect(revoked).toBe(true);
  expect(await store.get(session.key)).toBeUndefined();
});

// One write goes before the WAIT that they share, and it was made in the slot of the first.
test("a slot half moved keeps no revocation in another from being confirmed", {
  timeout: 60_000,
}, async () => {
  const store = await openStore("auto");
  const moving = newSession("moving");
  const { port } = await cluster.primaryOf(`sessions:{${moving.key.partition}}`);
  const neighbour = await newSessionOn(port, moving.key.partition);
  for (const session of [moving, neighbour]) await store.create(session, LIMIT);
  await store.revoke({ ...moving.key, id: "none" }, "");
  await halfMove("moving", "session:", async () => {
    const first = expect(store.revoke(moving.key, "")).rejects.toMatchObject(RESHARDING);
    expect(await store.revoke(neighbour.key, "")).toBe(true);
    await first;
  });
});

// Each one that came had all that waited grouped by node anew, until it was too late for any.
test("thousands of revocations at once all come to their turn", async () => {
  const store = await openStore("auto");
  const keys = Array.from({ length: 4_000 }, (_, i) => newSession(`crowd-${i}`).key);
  const revoked = await Promise.all(keys.map((key) => store.revoke(key, "")));
  expect(new Set(revoked)).toEqual(new Set([false]));
});

// No primary to ask was taken for none that has a replica, and revocations then waited for none.
test("whether there are replicas is not known before the cluster can be reached", async () => {
  const nodes = [{ host: "127.0.0.1", port: await freePort() }];
  const redis = connectRedis({ kind: "redis-cluster", nodes, tls: false }, () => {});
  const primaries = new Primaries(redis, async () => {});
  // First it has the nodes that it was told of, until these do not answer.
  await expect.poll(() => "nodes" in redis && redis.nodes().length).toBe(0);
  await expect(primaries.haveReplicas()).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
  redis.disconnect();
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
  await withRedis(replica.port, async (redis) => {
    await redis.readonly();
    const { partition, id } = session.key;
    // The first version, and no time of a revocation after the seven numbers.
    const facts = await redis.hget(`session:{${partition}}:${id}`, "facts");
    expect(facts).toMatch(/^1( \d+){6}$/);
  });
  await expect
    .poll(() => cluster.primaryOf(`sessions:{${session.key.partition}}`), { timeout: 10_000 })
    .toBe(replica);

  // Another server, which knows nothing of it, finds the session ended soon after.
  const other = await openStore("local");
  const look = () => other.get(session.key).catch(() => "unavailable");
  await expect.poll(look, { timeout: 10_000 }).toBeUndefined();
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

/**
 * Moves a user's slot to another primary: what is `behind` only after `act`, all else before it.
 */
async function halfMove(userId: string, behind: string, act: () => Promise<void>): Promise<void> {
  const partition = partitionOfUser(userId);
  const slot = await cluster.slotOf(`sessions:{${partition}}`);
  const from = await cluster.primaryOf(`sessions:{${partition}}`);
  const to = await otherPrimary(partition, from.port);
  await withRedis(to.port, (target) => target.cluster("SETSLOT", slot, "IMPORTING", from.nodeId()));
  await withRedis(from.port, async (source) => {
    await source.cluster("SETSLOT", slot, "MIGRATING", to.nodeId());
    const keys = await source.cluster("GETKEYSINSLOT", slot, 1_000);
    const first = keys.filter((key) => !key.startsWith(behind));
    await source.call("MIGRATE", "127.0.0.1", to.port, "", 0, 1_000, "KEYS", ...first);
  });
  try {
    await act();
  } finally {
    // Goes on with what is left, or the tests that follow would meet an open slot.
    await cluster.moveSlot(slot, to);
  }
}

/** The active sessions of all users, by page. */
async function listIds(store: RedisSessionStore): Promise<readonly string[]> {
  const query = { showExpired: false, showRevoked: false, order: "desc", limit: 100 } as const;
  const ids: string[] = [];
  for (let after: ListCursor | undefined; ; ) {
    const { sessions, next } = await store.list({ ...query, ...(after && { after }) });
    ids.push(...sessions.map(({ id }) => id));
    if (next === undefined) return ids;
    after = next;
  }
}

/** What a change of sessions would show in. */
function facts(sessions: readonly (StoredSession | undefined)[]) {
  return sessions.map((session) => session && { ...session, readTimeMs: 0 });
}

/** Checks all keys of all primaries, which are some thousand, some hundred at a time. */
async function expectSoundIndexes(store: RedisSessionStore): Promise<void> {
  for (let i = 0; i < 12; i++) expect(await store.sweep(1)).toMatchObject({ healed: 0 });
}

async function otherPrimary(partition: Partition, port: number) {
  for (let i = 0; i < 256; i++) {
    const node = await cluster.primaryOf(`sessions:{${i.toString(16).padStart(2, "0")}}`);
    if (node.port !== port) return node;
  }
  throw new Error(`no other primary than that of ${partition}`);
}

/** A session that is with a primary, in another partition than the one given. */
async function newSessionOn(port: number, partition: Partition): Promise<NewSession> {
  for (let i = 0; i < 1_000; i++) {
    const session = newSession(`neighbour-${i}`);
    const primary = await cluster.primaryOf(`sessions:{${session.key.partition}}`);
    if (primary.port === port && session.key.partition !== partition) return session;
  }
  throw new Error(`no user's sessions are with ${port}`);
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
