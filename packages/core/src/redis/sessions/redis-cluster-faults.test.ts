import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { PARTITIONS, partitionOfUser } from "../../sessions/session-id.js";
import type { NewSession, SessionKey } from "../../sessions/session-store.js";
import {
  ACTIVE,
  addSession,
  addSessions,
  comparable,
  idsOf,
  keyOf,
  listAll,
  NO_LIMIT,
  newSession,
} from "../../testing/contract/sessions/fixtures.js";
import { orUnavailable, PromisedLoad } from "../../testing/history/promised-load.js";
import { freePort } from "../../testing/network/free-port.js";
import { parseClusterNodes } from "../../testing/redis/cluster-view.js";
import { connectToCluster } from "../../testing/redis/connect-to.js";
import type { MoveSlotOptions } from "../../testing/redis/move-slot.js";
import {
  type RedisCluster,
  type RedisClusterNode,
  startRedisCluster,
} from "../../testing/redis/redis-cluster.js";
import { withRedis } from "../../testing/redis/with-redis.js";
import { connectRedis } from "../connection/connect-redis.js";
import { Primaries } from "../connection/primaries.js";
import { RedisSessionStore } from "./redis-session-store.js";
import { SessionKeys } from "./session-keys.js";
import { toStoredSession } from "./stored-session.js";
import type { Durability } from "./whole-store.js";

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
});
afterAll(() => cluster.stop());
afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.close()));
});

async function openStore(durability: Durability): Promise<RedisSessionStore> {
  const redis = await connectToCluster(cluster);
  const store = new RedisSessionStore({ redis, durability });
  stores.push(store);
  return store;
}

/** The key by whose slot everything of a user is found. */
function slotKeyOf(userId: string): string {
  return `sessions:{${partitionOfUser(userId)}}`;
}

test("a slot that is stuck half way answers for what it can, changes nothing by halves, and is whole after", async () => {
  const store = await openStore("local");
  const keys = (await addSessions(store, 30, { userId: "stuck" })).map(keyOf);
  let revoked = 0;
  await moveSlotOf("stuck", {
    keysPerBatch: 7,
    betweenBatches: async () => {
      const found = await store.getMany(keys);
      expect(found.filter((session) => session !== undefined)).toHaveLength(30 - revoked);
      if (await orUnavailable(store.revoke(keys[revoked] as SessionKey, ""))) revoked++;
    },
  });
  expect(await store.count("stuck")).toBe(30 - revoked);
  expect(await store.revokeUser("stuck", "")).toBe(30 - revoked);
  await expectSoundIndexes(store);
});

type Change = (
  store: RedisSessionStore,
  key: SessionKey,
  tokenHash: Uint8Array,
) => Promise<unknown>;

// To a script that follows a slot to its new node, a key that has not arrived there looked
// like one that does not exist: sessions were spared, and index entries removed or put in twice.
test.each<[change: string, behind: string, make: Change]>([
  ["revoking a user's sessions", "session:", (store) => store.revokeUser("half", "")],
  ["revoking a session", "user_sessions:", (store, key) => store.revoke(key, "")],
  ["refreshing a session", "user_sessions:", (store, key) => store.touch(key)],
  [
    "rotating a token",
    "user_sessions:",
    (store, key, tokenHash) => store.rotateToken(key, tokenHash, Buffer.of(1)),
  ],
])(
  "%s with %s… still to be moved is refused, and can be repeated after",
  async (_, behind, make) => {
    const store = await openStore("local");
    const sessions = await addSessions(store, 3, { userId: "half" });
    const [first] = sessions;
    if (first === undefined) throw new Error("expected a session");
    const change = () => make(store, keyOf(first), first.tokenHash);
    await halfMove("half", behind, async () => {
      await expect(change()).rejects.toMatchObject(RESHARDING);
    });
    const found = await store.getMany(sessions.map(keyOf));
    expect(found.map((session) => session && comparable(session))).toEqual(
      sessions.map(comparable),
    );
    await expectSoundIndexes(store);
    expect(await change()).toBeTruthy();
    await expectSoundIndexes(store);
    await store.revokeUser("half", "");
  },
);

// The indexes of a slot that is being moved are each with one node or the other, and neither
// node needs to know the scripts that read them.
test.each(["sessions", "sessions:", "session:"])(
  "all sessions are counted and listed with %s… still to be moved",
  async (behind) => {
    const store = await openStore("local");
    await addSessions(store, 5, { userId: "counted" });
    const list = async () => idsOf(await listAll(store, { ...ACTIVE, limit: 100 }));
    const ids = await list();
    await halfMove("counted", behind, async () => {
      for (const { port } of cluster.nodes) {
        await withRedis(port, (redis) => redis.script("FLUSH"));
      }
      expect(await store.count()).toBe(ids.length);
      expect(await list()).toEqual(ids);
    });
    await store.revokeUser("counted", "");
  },
);

test("a sweep that comes upon a slot half moved takes no session out of the indexes", async () => {
  const store = await openStore("local");
  await addSessions(store, 5, { userId: "swept" });
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
test("a revocation is confirmed by a replica while its slot is open, too", async () => {
  const store = await openStore("auto");
  const key = keyOf(await addSession(store, { userId: "open" }));
  let revoked: boolean | undefined;
  await moveSlotOf("open", {
    keysPerBatch: 1_000,
    betweenBatches: async (movedKeys) => {
      if (movedKeys === 0) revoked = await store.revoke(key, "");
    },
  });
  expect(revoked).toBe(true);
  expect(await store.get(key)).toBeUndefined();
});

// One write goes before the WAIT that they share, and it was made in the slot of the first.
test("a slot half moved keeps no revocation in another from being confirmed", async () => {
  const store = await openStore("auto");
  const moving = await addSession(store, { userId: "moving" });
  const primary = await cluster.primaryOf(slotKeyOf("moving"));
  const neighbour = await newSessionBeside("moving", primary);
  await store.create(neighbour, NO_LIMIT);
  await store.revoke({ ...keyOf(moving), id: "none" }, "");
  await halfMove("moving", "session:", async () => {
    const first = expect(store.revoke(keyOf(moving), "")).rejects.toMatchObject(RESHARDING);
    expect(await store.revoke(neighbour.key, "")).toBe(true);
    await first;
  });
});

test("a session that must be replicated needs a replica to confirm the claim on its id, too", async () => {
  const store = await openStore("replicated");
  const session = await newSessionWithIdElsewhere("ann");
  const claimed = await cluster.primaryOf(`session_ref:${session.key.id}`);
  const replica = await replicaOf(claimed.nodeId());
  replica.pause();
  expect(await orUnavailable(store.create(session, NO_LIMIT))).toBeUndefined();
  replica.resume();
  const create = () => orUnavailable(store.create(session, NO_LIMIT));
  await expect.poll(create, { timeout: 10_000 }).toBeDefined();
});

// Each one that came had all that waited grouped by node again, until it was too late for any.
test("thousands of revocations at once all come to their turn", async () => {
  const store = await openStore("auto");
  const keys = Array.from({ length: 4_000 }, (_, i) => newSession({ userId: `crowd-${i}` }).key);
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

test("slots move under load, and no call notices", async () => {
  const store = await openStore("local");
  const load = new PromisedLoad(store, 8);
  await sleep(500);
  const partitions = new Set([...load.active.values()].map(({ partition }) => partition));
  for (const partition of [...partitions].slice(0, 20)) {
    const key = `sessions:{${partition}}`;
    const { port } = await cluster.primaryOf(key);
    const to = cluster.nodes.slice(0, 3).find((node) => node.port !== port);
    if (to) await cluster.moveSlot(await cluster.slotOf(key), to, { keysPerBatch: 5 });
  }
  await load.stop();
  expect(load.unavailable).toBe(0);
  expect(load.active.size).toBeGreaterThan(100);
  expect(await load.broken(store)).toEqual([]);
  await expectSoundIndexes(store);
});

test(`of ${FAILOVERS} primaries killed under load each is replaced in time, and no promise is broken`, {
  timeout: 60_000 + FAILOVERS * 30_000,
}, async () => {
  const [local, replicated] = [await openStore("local"), await openStore("replicated")];
  const load = new PromisedLoad(replicated, 6);
  for (let n = 0; n < FAILOVERS; n++) {
    await sleep(1_000);
    const userId = `victim-${n}`;
    const victim = await cluster.primaryOf(slotKeyOf(userId));
    await victim.kill();
    const killedMs = performance.now();
    while ((await orUnavailable(addSession(local, { userId }))) === undefined) await sleep(20);
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

test("a replica promoted without the last revocation is told of it again, and readers of events start over", async () => {
  const store = await openStore("local");
  const userId = "unlucky";
  const key = keyOf(await addSession(store, { userId }));
  const cursor = await store.events.end(userId);
  const primary = await cluster.primaryOf(slotKeyOf(userId));
  const replica = await replicaOf(primary.nodeId());
  await sleep(100);
  // What was sent to a stopped replica would wait in its socket; to one that was cut off it is not sent.
  replica.pause();
  await withRedis(primary.port, (redis) => redis.call("client", "kill", "type", "replica"));
  expect(await store.revoke(key, "")).toBe(true);
  await primary.kill();
  replica.resume();
  await withRedis(replica.port, async (redis) => {
    await redis.readonly();
    const bytes = await redis.getBuffer(new SessionKeys("").session(key));
    const found = toStoredSession(key.id, bytes ?? Buffer.of(), 0);
    expect(found).toMatchObject({ version: 1 });
    expect(found).not.toHaveProperty("revokeTimeMs");
  });
  const timeout = 10_000;
  await expect.poll(() => cluster.primaryOf(slotKeyOf(userId)), { timeout }).toBe(replica);

  // Another server, which knows nothing of it, finds the session ended soon after.
  const other = await openStore("local");
  await expect.poll(() => other.get(key).catch(() => "unavailable"), { timeout }).toBeUndefined();
  const read = () => store.events.read(cursor, 10).catch(() => "unavailable");
  await expect.poll(read, { timeout }).toBe("lost");
  await primary.restart();
  await cluster.waitUntilHealthy(30_000);
});

test("a cluster that has lost its majority answers unavailable at once", async () => {
  const store = await openStore("local");
  const victims = cluster.nodes.slice(0, 5);
  await Promise.all(victims.map((node) => node.kill()));
  const create = async () => {
    const startMs = performance.now();
    const answer = await orUnavailable(addSession(store));
    expect(performance.now() - startMs).toBeLessThan(2_000);
    return answer;
  };
  // The node that is left serves its slots until it has missed the others for their node timeout.
  await expect.poll(create, { timeout: 10_000 }).toBeUndefined();
  for (const node of victims) await node.restart();
  await cluster.waitUntilHealthy(30_000);
  await expect.poll(create, { timeout: 10_000 }).toBeDefined();
});

/** Moves a user's slot to another primary. */
async function moveSlotOf(userId: string, options?: MoveSlotOptions): Promise<void> {
  const slot = await cluster.slotOf(slotKeyOf(userId));
  await cluster.moveSlot(slot, await otherPrimary(userId), options);
}

/**
 * Moves a user's slot to another primary: what is `behind` only after `act`, all else before it.
 */
async function halfMove(userId: string, behind: string, act: () => Promise<void>): Promise<void> {
  const slot = await cluster.slotOf(slotKeyOf(userId));
  const from = await cluster.primaryOf(slotKeyOf(userId));
  const to = await otherPrimary(userId);
  await withRedis(to.port, (target) => target.cluster("SETSLOT", slot, "IMPORTING", from.nodeId()));
  await withRedis(from.port, async (source) => {
    await source.cluster("SETSLOT", slot, "MIGRATING", to.nodeId());
    const keys = (await source.callBuffer("CLUSTER", "GETKEYSINSLOT", slot, 1_000)) as Buffer[];
    const first = keys.filter((key) => !key.toString("latin1").startsWith(behind));
    await source.call("MIGRATE", "127.0.0.1", to.port, "", 0, 1_000, "KEYS", ...first);
  });
  try {
    await act();
  } finally {
    // Goes on with what is left, or the tests that follow would meet an open slot.
    await cluster.moveSlot(slot, to);
  }
}

/** Checks all keys of all primaries, which are some thousand, some hundred at a time. */
async function expectSoundIndexes(store: RedisSessionStore): Promise<void> {
  for (let i = 0; i < 12; i++) expect(await store.sweep(1)).toMatchObject({ healed: 0 });
}

/** A primary that does not serve a user's slot. */
async function otherPrimary(userId: string): Promise<RedisClusterNode> {
  const { port } = await cluster.primaryOf(slotKeyOf(userId));
  for (const partition of PARTITIONS) {
    const node = await cluster.primaryOf(`sessions:{${partition}}`);
    if (node.port !== port) return node;
  }
  throw new Error(`no other primary than that of ${userId}`);
}

/** A session that is with a primary, in another partition than a user's. */
async function newSessionBeside(userId: string, { port }: RedisClusterNode): Promise<NewSession> {
  for (let i = 0; ; i++) {
    const session = newSession({ userId: `neighbour-${i}` });
    const primary = await cluster.primaryOf(slotKeyOf(session.userId));
    const isBeside = session.key.partition !== partitionOfUser(userId);
    if (primary.port === port && isBeside) return session;
  }
}

/** A session of a user, with an id that another primary than the user's keeps unique. */
async function newSessionWithIdElsewhere(userId: string): Promise<NewSession> {
  const { port } = await cluster.primaryOf(slotKeyOf(userId));
  for (let i = 0; ; i++) {
    const id = `jti-${i}`;
    const primary = await cluster.primaryOf(`session_ref:${id}`);
    if (primary.port !== port) return newSession({ userId, id });
  }
}

async function replicaOf(primaryId: string): Promise<RedisClusterNode> {
  for (const node of cluster.nodes) {
    const reply = String(await withRedis(node.port, (redis) => redis.cluster("NODES")));
    const replica = parseClusterNodes(reply).find((member) => member.primaryId === primaryId);
    const found = cluster.nodes.find((other) => other.nodeId() === replica?.id);
    if (found) return found;
  }
  throw new Error("the primary has no replica");
}
