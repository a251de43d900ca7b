import assert from "node:assert/strict";
import fc from "fast-check";
import { PARTITIONS, partitionOfUser } from "../../../sessions/session-id.js";
import type { SessionStore } from "../../../sessions/session-store.js";
import {
  ACTIVE,
  addSession,
  addSessions,
  assertRefused,
  assertSame,
  assertUntouched,
  EVERYTHING,
  hex,
  idsOf,
  inspect,
  keyOf,
  listAll,
  NO_LIMIT,
  newSession,
  sweepAll,
} from "./fixtures.js";
import type { SessionStoreCheck } from "./session-store-check.js";

const MAX_RECORD_BYTES = 20 * 1024;

/** User ids that have tripped up key patterns, SQL, or text encodings. */
const AWKWARD_USER_IDS = [
  "{}",
  "{00}",
  "}{",
  "a",
  "a:b",
  "a:",
  ":",
  "*",
  "?",
  "[a-z]",
  "%",
  "_",
  "A",
  "a ",
  " a",
  "'; DROP TABLE sessions; --",
  '"',
  "\\",
  "\u00e9",
  "e\u0301",
  "\u{1f600}",
  "\u202eevil",
  "\u2028",
  "\ufeffa",
  "__proto__",
  "null",
  "0",
  "-1",
  "\u{10ffff}".repeat(64),
  "x".repeat(256),
];

/** What users may be called: well-formed, and without control characters. */
const userIds = fc
  .string({ unit: "binary", minLength: 1, maxLength: 40, size: "max" })
  .filter((text) => text.isWellFormed() && !/\p{Cc}/u.test(text));

async function assertOwnSessionOnly(store: SessionStore, userId: string): Promise<void> {
  const own = await addSession(store, { userId });
  assert.equal(own.userId, userId);
  assert.equal((await store.get(keyOf(own)))?.userId, userId);
  assert.equal(await store.count(userId), 1);
  assert.deepEqual(idsOf(await listAll(store, { ...ACTIVE, userId })), [own.id]);
}

/** Reading by key, and the values that must come back unchanged. */
export const readChecks: readonly SessionStoreCheck[] = [
  {
    title: "a session that does not exist is undefined, not an error",
    async run({ store }) {
      const { key } = newSession();
      assert.equal(await store.get(key), undefined);
      assert.deepEqual(await store.getMany([key]), [undefined]);
      assert.equal(await store.touch(key), undefined);
      assert.equal(await store.replaceRecord(key, 1, new Uint8Array([1])), undefined);
      assert.equal(await store.rotateToken(key, new Uint8Array(32), new Uint8Array(32)), undefined);
      assert.equal(await store.revoke(key, ""), false);
      assert.equal(await store.revokeUser("nobody", ""), 0);
      assert.equal(await store.count("nobody"), 0);
      assert.deepEqual(await listAll(store, EVERYTHING), []);
    },
  },
  {
    title: "a failed call leaves nothing behind",
    async run({ store, leftovers }) {
      const { key } = newSession({ id: "jti-1" });
      await store.touch(key);
      await store.touch(key, new Uint8Array(32));
      await store.replaceRecord(key, 1, new Uint8Array([1]));
      await store.rotateToken(key, new Uint8Array(32), new Uint8Array(32));
      await store.revoke(key, "");
      await store.revokeUser("nobody", "");
      assert.equal(await store.get(key), undefined);
      assert.equal(await store.partitionOf("jti-1"), undefined);
      assert.deepEqual(await listAll(store, EVERYTHING), []);
      if (leftovers) assert.equal(await leftovers(), 0);
    },
  },
  {
    title:
      "many sessions are answered in the order of their keys, with gaps for those that are not there",
    async run({ store }) {
      const ann = await addSession(store, { userId: "ann" });
      const bob = await addSession(store, { userId: "bob" });
      const revoked = await addSession(store, { userId: "carol" });
      await store.revoke(keyOf(revoked), "");
      const found = await store.getMany([
        keyOf(bob),
        newSession().key,
        keyOf(ann),
        keyOf(revoked),
        keyOf(ann),
      ]);
      assert.deepEqual(
        found.map((session) => session?.id),
        [bob.id, undefined, ann.id, undefined, ann.id],
      );
      assertSame(found[2], ann);
      assert.deepEqual(await store.getMany([]), []);
    },
  },
  {
    title: "a thousand sessions are read at once",
    async run({ store }) {
      const sessions = (
        await Promise.all(
          Array.from({ length: 100 }, (_, i) => addSessions(store, 10, { userId: `user-${i}` })),
        )
      ).flat();
      const found = await store.getMany(sessions.map(keyOf));
      assert.deepEqual(
        found.map((session) => session?.id),
        idsOf(sessions),
      );
    },
  },
  {
    title: "a session is found in its own partition only",
    async run({ store }) {
      const session = await addSession(store, { userId: "ann", id: "jti-1" });
      const other = PARTITIONS.find((partition) => partition !== partitionOfUser("ann")) ?? "";
      const wrongKey = { partition: other, id: "jti-1" };
      assert.equal(await store.get(wrongKey), undefined);
      assert.deepEqual(await store.getMany([wrongKey]), [undefined]);
      assert.equal(await store.touch(wrongKey), undefined);
      assert.equal(await store.replaceRecord(wrongKey, 1, new Uint8Array([1])), undefined);
      const newHash = new Uint8Array(32);
      assert.equal(await store.rotateToken(wrongKey, session.tokenHash, newHash), undefined);
      assert.equal(await store.revoke(wrongKey, ""), false);
      await assertUntouched(store, session);
    },
  },
  {
    title: "the partition of a chosen id is known as long as its session exists",
    async run({ store, clock, retentionMs }) {
      assert.equal(await store.partitionOf("jti-1"), undefined);
      const session = await addSession(store, { userId: "ann", id: "jti-1" });
      assert.equal(await store.partitionOf("jti-1"), partitionOfUser("ann"));
      assert.equal(await store.partitionOf("jti-2"), undefined);
      await store.touch(keyOf(session));
      clock.advanceTo(session.expireTimeMs - 1);
      assert.equal(await store.partitionOf("jti-1"), partitionOfUser("ann"));
      clock.advance(1 + retentionMs);
      await sweepAll(store);
      assert.equal(await store.partitionOf("jti-1"), undefined);
    },
  },
  {
    title: "what is written through one server is read through another at once",
    async run({ store, peer }) {
      const session = await addSession(store, { id: "jti-1" });
      assertSame(await peer.get(keyOf(session)), session);
      assert.equal(await peer.partitionOf("jti-1"), keyOf(session).partition);
      assert.equal(await peer.revoke(keyOf(session), "by the other"), true);
      assert.equal(await store.get(keyOf(session)), undefined);
      assert.equal((await inspect(store, session))?.revokeReason, "by the other");
    },
  },
  {
    title: "records of any bytes come back unchanged, up to 20 KiB",
    async run({ store }) {
      const allBytes = Uint8Array.from({ length: MAX_RECORD_BYTES }, (_, i) => i % 256);
      const big = await addSession(store, { record: allBytes });
      assert.equal(hex((await store.get(keyOf(big)))?.record ?? new Uint8Array()), hex(allBytes));

      const anyBytes = fc.uint8Array({ minLength: 1, maxLength: 300, size: "max" });
      await fc.assert(
        fc.asyncProperty(anyBytes, anyBytes, async (first, second) => {
          const session = await addSession(store, { record: first });
          assert.equal(hex((await store.get(keyOf(session)))?.record ?? second), hex(first));
          const replaced = await store.replaceRecord(keyOf(session), 1, second);
          assert.ok(typeof replaced === "object");
          const [listed] = (await store.getMany([keyOf(session)])) ?? [];
          assert.equal(hex(listed?.record ?? first), hex(second));
        }),
        { numRuns: 30 },
      );
    },
  },
  {
    title: "a record and a token hash may be views into larger buffers",
    async run({ store }) {
      const buffer = Uint8Array.from({ length: 200 }, (_, i) => 255 - i);
      const record = buffer.subarray(7, 107);
      const tokenHash = buffer.subarray(110, 142);
      const session = await addSession(store, { record, tokenHash });
      assertSame(await store.get(keyOf(session)), session);
      assert.ok(await store.touch(keyOf(session), buffer.slice(110, 142)));
      assert.equal(await store.touch(keyOf(session), buffer.slice(111, 143)), undefined);
    },
  },
  {
    title: "users with awkward ids have their own sessions and nobody else's",
    async run({ store }) {
      for (const userId of AWKWARD_USER_IDS) await assertOwnSessionOnly(store, userId);
      assert.equal(await store.count(), AWKWARD_USER_IDS.length);
      for (const userId of AWKWARD_USER_IDS) {
        assert.equal(await store.revokeUser(userId, ""), 1, `sessions of ${userId}`);
      }
      assert.equal(await store.count(), 0);
    },
  },
  {
    title: "users may be called anything in Unicode",
    async run({ store }) {
      const ids = fc.uniqueArray(userIds, { minLength: 20, maxLength: 20 });
      await fc.assert(
        fc.asyncProperty(ids, async (drawn) => {
          for (const userId of drawn) {
            await assertOwnSessionOnly(store, userId);
            assert.equal(await store.revokeUser(userId, ""), 1);
          }
        }),
        { numRuns: 3 },
      );
    },
  },
  {
    title: "chosen ids may have any of the characters that are allowed in them",
    async run({ store }) {
      const ids = ["A", "a", "a.b", "a:b", "a~b", "a@b", "a-b", "_", "0".repeat(128)];
      for (const id of ids) {
        const session = await addSession(store, { id });
        assert.equal((await store.get(keyOf(session)))?.id, id);
        assert.equal(await store.partitionOf(id), keyOf(session).partition);
      }
      assert.equal(await store.count(), ids.length);
    },
  },
  {
    title: "an open store checks out",
    async run({ store }) {
      await store.check();
    },
  },
  {
    title: "a closed store is unavailable, and may be closed again",
    async run({ store }) {
      const session = await addSession(store, { id: "jti-1" });
      const key = keyOf(session);
      const once = { key: "r1", record: session.record, keptForMs: 60_000 };
      const end = await store.events.end();
      await store.close();
      await store.close();
      const hash = session.tokenHash;
      const calls = [
        () => store.create(newSession(), NO_LIMIT),
        () => store.createOnce(once, newSession(), NO_LIMIT),
        () => store.partitionOf("jti-1"),
        () => store.get(key),
        () => store.getMany([key]),
        () => store.touch(key),
        () => store.replaceRecord(key, 1, hash),
        () => store.reseal(key, session.record, hash),
        () => store.rotateToken(key, hash, hash),
        () => store.revoke(key, ""),
        () => store.revokeUser("user", ""),
        () => store.list({ ...EVERYTHING, limit: 1 }),
        () => store.count(),
        () => store.events.end(),
        () => store.events.end("user"),
        () => store.events.read(end, 10),
        () => store.sweep(1),
        () => store.check(),
      ];
      for (const call of calls) await assertRefused("STORE_UNAVAILABLE", call());
    },
  },
  {
    title: "calls under way when the store is closed end, by success or as unavailable",
    async run({ store }) {
      const calls = Array.from({ length: 20 }, () => store.create(newSession(), NO_LIMIT));
      await store.close();
      for (const outcome of await Promise.allSettled(calls)) {
        if (outcome.status === "rejected") {
          await assertRefused("STORE_UNAVAILABLE", Promise.reject(outcome.reason));
        }
      }
    },
  },
];
