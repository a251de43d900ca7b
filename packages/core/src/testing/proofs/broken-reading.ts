import { sessionNotFound } from "../../errors.js";
import type { SessionKey, StoredSession } from "../../sessions/session-store.js";
import { type BrokenSessionStore, broken } from "./broken-session-store.js";

const OWN_PARTITION = "a session is found in its own partition only";
const AWKWARD_USERS = "users with awkward ids have their own sessions and nobody else's";

/** Stores that go wrong where sessions are read, or their values kept. */
export const brokenReading: readonly BrokenSessionStore[] = [
  broken(
    "fails where there is no session",
    ["a session that does not exist is undefined, not an error"],
    ({ store }) => ({
      async get(key) {
        const session = await store.get(key);
        if (session === undefined) throw sessionNotFound();
        return session;
      },
    }),
  ),
  broken(
    "makes a session of a change to one that is not there",
    ["a failed call leaves nothing behind"],
    ({ store }) => ({
      async touch(key, tokenHash = new Uint8Array(32)) {
        const touched = await store.touch(key, tokenHash);
        if (touched !== undefined) return touched;
        const timeouts = { idleTimeoutMs: 1_000, lifetimeMs: 1_000 };
        const fragment = { key, userId: "", record: new Uint8Array(), tokenHash, ...timeouts };
        await store.create(fragment, { maxSessionsPerUser: 10, policy: "reject" });
        return undefined;
      },
    }),
  ),
  broken(
    "leaves out of many sessions those that are not there",
    [
      "many sessions are answered in the order of their keys, with gaps for those that are not there",
    ],
    ({ store }) => ({
      getMany: async (keys) => (await store.getMany(keys)).filter((found) => found !== undefined),
    }),
  ),
  broken(
    "answers many sessions in an order of its own",
    [
      "many sessions are answered in the order of their keys, with gaps for those that are not there",
    ],
    ({ store }) => ({ getMany: async (keys) => (await store.getMany(keys)).toReversed() }),
  ),
  broken(
    "reads five hundred sessions at most",
    ["a thousand sessions are read at once"],
    ({ store }) => ({ getMany: (keys) => store.getMany(keys.slice(0, 500)) }),
  ),
  broken("finds a session in any partition", [OWN_PARTITION], ({ store }) => ({
    async get({ id, partition }) {
      return store.get({ id, partition: (await store.partitionOf(id)) ?? partition });
    },
  })),
  broken("revokes a session in any partition", [OWN_PARTITION], ({ store }) => ({
    async revoke({ id, partition }, reason, tokenHash) {
      const key: SessionKey = { id, partition: (await store.partitionOf(id)) ?? partition };
      return store.revoke(key, reason, tokenHash);
    },
  })),
  broken(
    "remembers the partition of a session for ever",
    ["the partition of a chosen id is known as long as its session exists"],
    ({ store }) => {
      const partitions = new Map<string, string>();
      return {
        async partitionOf(id) {
          const partition = (await store.partitionOf(id)) ?? partitions.get(id);
          if (partition !== undefined) partitions.set(id, partition);
          return partition;
        },
      };
    },
  ),
  broken(
    "serves what it has read before",
    [
      "what is written through one server is read through another at once",
      "a session can be read a millisecond before its deadline, and not at it",
    ],
    ({ store }) => {
      const cache = new Map<string, StoredSession>();
      return {
        async get(key) {
          const session = cache.get(key.id) ?? (await store.get(key));
          if (session !== undefined) cache.set(key.id, session);
          return session;
        },
        async create(session, limit) {
          const created = await store.create(session, limit);
          const { record, tokenHash } = session;
          cache.set(session.key.id, { ...created.session, record, tokenHash });
          return created;
        },
      };
    },
  ),
  broken(
    "takes records for text",
    ["records of any bytes come back unchanged, up to 20 KiB"],
    ({ store }) => ({
      create: (session, limit) => {
        const text = Buffer.from(session.record).toString();
        return store.create({ ...session, record: Buffer.from(text) }, limit);
      },
    }),
  ),
  broken(
    "keeps the start of the buffer that a record is a view into",
    ["a record and a token hash may be views into larger buffers"],
    ({ store }) => ({
      create: (session, limit) => {
        const record = new Uint8Array(session.record.buffer, 0, session.record.length);
        return store.create({ ...session, record }, limit);
      },
    }),
  ),
  broken("takes user ids for patterns", [AWKWARD_USERS], ({ store, everything, activeOf }) => ({
    async count(userId) {
      if (userId === undefined) return store.count();
      if (!userId.endsWith("*")) return (await activeOf(userId)).length;
      const prefix = userId.slice(0, -1);
      return (await everything()).filter((session) => session.userId.startsWith(prefix)).length;
    },
  })),
  broken("ignores the case of user ids", [AWKWARD_USERS], ({ store }) => ({
    create: (session, limit) =>
      store.create({ ...session, userId: session.userId.toLowerCase() }, limit),
  })),
  broken("normalizes user ids", [AWKWARD_USERS], ({ store }) => ({
    create: (session, limit) =>
      store.create({ ...session, userId: session.userId.normalize() }, limit),
  })),
  broken(
    "keeps user ids in one byte per character",
    ["users may be called anything in Unicode"],
    ({ store }) => ({
      create: (session, limit) => {
        const userId = Buffer.from(session.userId, "latin1").toString("latin1");
        return store.create({ ...session, userId }, limit);
      },
    }),
  ),
  broken(
    "ignores the case of session ids",
    ["chosen ids may have any of the characters that are allowed in them"],
    ({ store }) => ({
      create: (session, limit) => {
        const key = { ...session.key, id: session.key.id.toLowerCase() };
        return store.create({ ...session, key }, limit);
      },
    }),
  ),
  broken("never checks out", ["an open store checks out"], () => ({
    async check() {
      throw new Error("not today");
    },
  })),
  broken(
    "reads on after it was closed, and finds nothing",
    ["a closed store is unavailable, and may be closed again"],
    ({ store }) => ({ get: (key) => store.get(key).catch(() => undefined) }),
  ),
  broken(
    "fails to close twice",
    ["a closed store is unavailable, and may be closed again"],
    ({ store }) => {
      let open = true;
      return {
        async close() {
          await store.close();
          if (!open) throw new Error("it is closed already");
          open = false;
        },
      };
    },
  ),
  broken(
    "drops calls under way with an error of its own when it is closed",
    ["calls under way when the store is closed end, by success or as unavailable"],
    ({ store }) => {
      let close = () => {};
      const closed = new Promise<never>((_, reject) => {
        close = () => reject(new Error("socket hang up"));
      });
      closed.catch(() => {});
      return {
        create: (session, limit) => Promise.race([store.create(session, limit), closed]),
        async close() {
          close();
          await store.close();
        },
      };
    },
  ),
];
