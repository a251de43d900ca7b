import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import {
  type Fence,
  MAX_FENCES_PER_SESSION,
  type SessionStore,
  type StoredSession,
} from "../../../sessions/session-store.js";
import {
  addSession,
  assertRefused,
  assertSame,
  assertUntouched,
  keyOf,
  race,
  sweepAll,
} from "./fixtures.js";
import type { SessionStoreChecks } from "./session-store-check.js";

const TOKEN = 1_700_000_000_000;
const RACERS = 50;

/** Replaces the record at the session's version, which must be possible. */
async function replace(
  store: SessionStore,
  session: StoredSession,
  fence?: Fence,
): Promise<StoredSession> {
  const record = randomBytes(16);
  const replaced = await store.replaceRecord(keyOf(session), session.version, record, fence);
  assert.ok(typeof replaced === "object", `it was refused: ${replaced}`);
  assertSame(replaced, { ...session, version: session.version + 1 });
  return { ...session, ...replaced, record };
}

/** Asserts that a change at the session's version is fenced, and changes nothing. */
async function assertFenced(
  store: SessionStore,
  session: StoredSession,
  fence: Fence,
): Promise<void> {
  for (const version of [session.version, session.version + 1]) {
    const answer = await store.replaceRecord(keyOf(session), version, randomBytes(16), fence);
    assert.equal(answer, "fenced");
  }
  await assertUntouched(store, session);
}

/** Changes by holders of locks, some of whom have been overtaken. */
export const fenceChecks: SessionStoreChecks = {
  "a change with a lower token than one seen before is fenced, exactly up to 2^53": async (t) => {
    const { store, peer } = t;
    let session = await addSession(store);
    session = await replace(store, session, { lock: "job", token: TOKEN });
    await assertFenced(peer, session, { lock: "job", token: TOKEN - 1 });
    await assertFenced(store, session, { lock: "job", token: 1 });
    session = await replace(peer, session, { lock: "job", token: TOKEN });
    session = await replace(store, session, { lock: "job", token: TOKEN + 1 });
    await assertFenced(peer, session, { lock: "job", token: TOKEN });
    session = await replace(store, session);
    for (const token of [9, 10, 2 ** 53 - 2, 2 ** 53 - 1]) {
      session = await replace(store, session, { lock: "exact", token });
      await assertFenced(store, session, { lock: "exact", token: token - 1 });
    }
  },
  "each lock fences for itself, and each session": async ({ store }) => {
    let session = await addSession(store);
    const other = await addSession(store);
    session = await replace(store, session, { lock: "job", token: TOKEN });
    for (const lock of ["jo", "job ", "Job", "record", "job}", "j\u00f6b"]) {
      session = await replace(store, session, { lock, token: 1 });
    }
    await assertFenced(store, session, { lock: "job", token: TOKEN - 1 });
    await replace(store, other, { lock: "job", token: 1 });
  },
  "a change that is not made leaves no token behind": async ({ store, clock }) => {
    let session = await addSession(store);
    const fence = { lock: "job", token: TOKEN };
    const change = ({ version, ...one }: StoredSession, by: Fence) =>
      store.replaceRecord(keyOf(one), version, randomBytes(8), by);
    assert.equal(await change({ ...session, version: 9 }, fence), "version_mismatch");
    session = await replace(store, session, { lock: "job", token: 1 });
    clock.advanceTo(session.expireTimeMs);
    const revoked = await addSession(store);
    await store.revoke(keyOf(revoked), "");
    for (const ended of [session, { ...revoked, version: 2 }]) {
      for (const token of [TOKEN, 1]) {
        assert.equal(await change(ended, { lock: "job", token }), undefined);
      }
    }
  },
  "of changes that race with different tokens none is made after one with a higher": async (t) => {
    const session = await addSession(t.store);
    const made: number[] = [];
    await race(t, RACERS, async (from, i) => {
      const token = ((i * 7) % RACERS) + 1;
      for (;;) {
        const { version = 0 } = (await from.get(keyOf(session))) ?? {};
        const fence = { lock: "job", token };
        const answer = await from.replaceRecord(keyOf(session), version, randomBytes(8), fence);
        if (typeof answer === "object") made[answer.version] = token;
        if (answer !== "version_mismatch") return;
      }
    });
    const inOrder = Object.values(made);
    assert.deepEqual(
      inOrder,
      inOrder.toSorted((a, b) => a - b),
    );
    assert.equal(inOrder.at(-1), RACERS);
  },
  "a session is fenced by a bounded number of locks, and refuses one more": async (t) => {
    const { store, peer } = t;
    let session = await addSession(store);
    for (let i = 0; i < MAX_FENCES_PER_SESSION; i++) {
      session = await replace(store, session, { lock: `lock-${i}`, token: TOKEN });
    }
    const tooMany = { lock: "one more", token: TOKEN };
    const { version } = session;
    const refused = peer.replaceRecord(keyOf(session), version, randomBytes(8), tooMany);
    await assertRefused("INVALID_ARGUMENT", refused);
    await assertUntouched(store, session);
    session = await replace(peer, session, { lock: "lock-7", token: TOKEN + 1 });
    await assertFenced(store, session, { lock: "lock-0", token: TOKEN - 1 });
    await replace(store, session);
  },
  "the tokens go with the session": async ({ store, clock, retentionMs, leftovers }) => {
    for (const token of [TOKEN, 1]) {
      const session = await addSession(store, { id: "chosen" });
      await replace(store, session, { lock: "job", token });
      await store.revoke(keyOf(session), "");
      clock.advance(retentionMs + 60_000);
      await sweepAll(store);
    }
    if (leftovers !== undefined) assert.equal(await leftovers(), 0);
  },
};
