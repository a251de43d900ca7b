import assert from "node:assert/strict";
import fc from "fast-check";
import { partitionOfUser } from "../../../sessions/session-id.js";
import type { SessionKey, SessionStore } from "../../../sessions/session-store.js";
import { anyCharacter } from "../any-character.js";
import {
  ACTIVE,
  addSession,
  addSessions,
  assertRefused,
  assertSame,
  assertUntouched,
  EVERYTHING,
  elsewhere,
  hex,
  idsOf,
  inspect,
  keyOf,
  listAll,
  NO_LIMIT,
  newSession,
  othersThan,
  race,
  sweepAll,
} from "./fixtures.js";
import type { SessionStoreChecks } from "./session-store-check.js";

const MAX_RECORD_BYTES = 20 * 1024;

/** User ids that have tripped up key patterns, SQL, or text encodings. */
const AWKWARD_USER_IDS = [
  ...["{}", "{00}", "}{", "a", "a:b", "a:", ":", "*", "?", "[a-z]", "%", "_", "A", "a ", " a"],
  ...["'; DROP TABLE sessions; --", '"', "\\", "\u00e9", "e\u0301", "\u{1f600}", "\u202eevil"],
  ...["\u2028", "\ufeffa", "__proto__", "null", "0", "-1", "\u{10ffff}".repeat(64)],
];

/** What users may be called: well-formed, and without control characters. */
const userIds = fc
  .string({ unit: anyCharacter, minLength: 1, maxLength: 40, size: "max" })
  .filter((text) => text.isWellFormed() && !/\p{Cc}/u.test(text));

async function assertOwnSessionOnly(store: SessionStore, userId: string): Promise<void> {
  const own = await addSession(store, { userId });
  assert.equal((await store.get(keyOf(own)))?.userId, userId);
  assert.equal(await store.count(userId), 1);
  assert.deepEqual(idsOf(await listAll(store, { ...ACTIVE, userId })), [own.id]);
}

/** Asserts that under a key there is nothing to read, to change or to revoke. */
async function assertNothingAt(
  store: SessionStore,
  key: SessionKey,
  tokenHash: Uint8Array = new Uint8Array(32),
): Promise<void> {
  const bytes = new Uint8Array([1]);
  assert.equal(await store.get(key), undefined);
  assert.deepEqual(await store.getMany([key]), [undefined]);
  assert.equal(await store.touch(key), undefined);
  assert.equal(await store.touch(key, tokenHash), undefined);
  assert.equal(await store.replaceRecord(key, 1, bytes), undefined);
  assert.equal(await store.rotateToken(key, tokenHash, new Uint8Array(32)), undefined);
  assert.equal(await store.revoke(key, ""), false);
}

/** Reading by key, and the values that must come back unchanged. */
export const readChecks: SessionStoreChecks = {
  "a session that does not exist is undefined, and calls on it leave nothing behind": async (t) => {
    const { store, leftovers } = t;
    for (const spec of [{}, { id: "jti-1" }]) await assertNothingAt(store, newSession(spec).key);
    assert.equal(await store.revokeUser("nobody", ""), 0);
    assert.equal(await store.count("nobody"), 0);
    assert.equal(await store.partitionOf("jti-1"), undefined);
    assert.deepEqual(await listAll(store, EVERYTHING), []);
    if (leftovers) assert.equal(await leftovers(), 0);
  },
  "a thousand sessions are answered in the order of their keys, with gaps": async (t) => {
    const { store } = t;
    const users = Array.from({ length: 100 }, (_, i) => `user-${i}`);
    const added = users.map((userId) => addSessions(store, 10, { userId }));
    const sessions = (await Promise.all(added)).flat();
    const revoked = await addSession(store, { userId: "carol" });
    await store.revoke(keyOf(revoked), "");
    const [first, ...others] = sessions;
    assert.ok(first);
    const keys = [first, revoked, ...others, first].map(keyOf);
    const found = await store.getMany([...keys, newSession().key]);
    assert.deepEqual(
      found.map((session) => session?.id),
      [first.id, undefined, ...idsOf(others), first.id, undefined],
    );
    assertSame(found[0], first);
    assert.deepEqual(await store.getMany([]), []);
  },
  "a session is found in its own partition only": async ({ store }) => {
    const session = await addSession(store, { userId: "ann", id: "jti-1" });
    await assertNothingAt(store, elsewhere(session), session.tokenHash);
    await assertUntouched(store, session);
  },
  "the partition of a chosen id, whatever its form, is known while it is taken": async (t) => {
    const { store, clock, retentionMs } = t;
    const ids = ["A", "a", "a.b", "a:b", "a~b", "a@b", "a-b", "_", "0".repeat(128)];
    for (const id of ids) {
      assert.equal(await store.partitionOf(id), undefined);
      const session = await addSession(store, { userId: "ann", id });
      assert.equal((await store.get(keyOf(session)))?.id, id);
      assert.equal(await store.partitionOf(id), partitionOfUser("ann"));
    }
    assert.equal(await store.count(), ids.length);
    const session = await addSession(store, { id: "jti-1" });
    await store.touch(keyOf(session));
    clock.advanceTo(session.expireTimeMs - 1);
    assert.equal(await store.partitionOf("jti-1"), keyOf(session).partition);
    clock.advance(1 + retentionMs);
    await sweepAll(store);
    for (const id of [...ids, "jti-1"]) assert.equal(await store.partitionOf(id), undefined);
  },
  "what is written through one server is read through another at once": async ({ store, peer }) => {
    const session = await addSession(store, { id: "jti-1" });
    assertSame(await peer.get(keyOf(session)), session);
    assert.equal(await peer.partitionOf("jti-1"), keyOf(session).partition);
    assert.equal(await peer.revoke(keyOf(session), "by the other"), true);
    assert.equal(await store.get(keyOf(session)), undefined);
    assert.equal((await inspect(store, session))?.revokeReason, "by the other");
  },
  "records of any bytes come back unchanged, up to 20 KiB": async ({ store }) => {
    const readBack = async (key: SessionKey) =>
      (await store.getMany([key])).map((session) => session && hex(session.record));
    const allBytes = Uint8Array.from({ length: MAX_RECORD_BYTES }, (_, i) => i % 256);
    const big = await addSession(store, { record: allBytes });
    assert.deepEqual(await readBack(keyOf(big)), [hex(allBytes)]);

    const anyBytes = fc.uint8Array({ minLength: 1, maxLength: 300, size: "max" });
    const property = fc.asyncProperty(anyBytes, anyBytes, async (first, second) => {
      const session = await addSession(store, { record: first });
      const read = await store.get(keyOf(session));
      assert.equal(read && hex(read.record), hex(first));
      assert.ok(typeof (await store.replaceRecord(keyOf(session), 1, second)) === "object");
      assert.deepEqual(await readBack(keyOf(session)), [hex(second)]);
    });
    await fc.assert(property, { numRuns: 30 });
  },
  "a record and a token hash may be views into larger buffers": async ({ store }) => {
    const buffer = Uint8Array.from({ length: 200 }, (_, i) => 255 - i);
    const record = buffer.subarray(7, 107);
    const tokenHash = buffer.subarray(110, 142);
    const session = await addSession(store, { record, tokenHash });
    assertSame(await store.get(keyOf(session)), session);
    assert.ok(await store.touch(keyOf(session), buffer.slice(110, 142)));
    for (const wrong of [buffer.slice(111, 143), ...othersThan(tokenHash)]) {
      assert.equal(await store.touch(keyOf(session), wrong), undefined);
    }
  },
  "users may be called anything, and have their own sessions and nobody else's": async (t) => {
    const { store } = t;
    for (const userId of AWKWARD_USER_IDS) await assertOwnSessionOnly(store, userId);
    assert.equal(await store.count(), AWKWARD_USER_IDS.length);
    for (const userId of AWKWARD_USER_IDS) {
      assert.equal(await store.revokeUser(userId, ""), 1, `sessions of ${userId}`);
    }
    assert.equal(await store.count(), 0);
    const property = fc.asyncProperty(userIds, async (userId) => {
      await assertOwnSessionOnly(store, userId);
      assert.equal(await store.revokeUser(userId, ""), 1);
    });
    await fc.assert(property, { numRuns: 60 });
  },
  "an open store checks out; a closed one is unavailable, and may be closed again": async (t) => {
    const { store } = t;
    await store.check();
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
  "calls under way when the store is closed end, by success or as unavailable": async (t) => {
    const { store } = t;
    const calls = race({ store, peer: store }, 20, async (from) => {
      const failure = from.create(newSession(), NO_LIMIT).then(
        () => undefined,
        (error: unknown) => error,
      );
      const error = await failure;
      if (error) await assertRefused("STORE_UNAVAILABLE", Promise.reject(error));
    });
    await store.close();
    await calls;
  },
};
