import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { OnceOnly, StoredSession } from "../../../sessions/session-store.js";
import { addSession, assertSame, followEvents, hex, keyOf, othersThan, race } from "./fixtures.js";
import type { SessionStoreChecks } from "./session-store-check.js";

const RACERS = 50;
const KEPT_FOR_MS = 120_000;

function request(): OnceOnly {
  return { key: `r-${hex(randomBytes(8))}`, record: randomBytes(40), keptForMs: KEPT_FOR_MS };
}

/** Rotations that a caller may repeat. */
export const rotationRequestChecks: SessionStoreChecks = {
  "a request to rotate takes effect once, however often and wherever it is sent": async (t) => {
    const { store } = t;
    const session = await addSession(store);
    const once = request();
    const news = await followEvents(store);
    const hashes = Array.from({ length: RACERS }, () => randomBytes(32));
    const answers = await race(t, RACERS, (from, i) =>
      from.rotateTokenOnce(
        { ...once, record: Buffer.from([i]) },
        keyOf(session),
        session.tokenHash,
        hashes[i] ?? session.tokenHash,
      ),
    );
    const first = answers.findIndex((answer) => answer !== undefined && !("repeated" in answer));
    const rotated = answers[first] as StoredSession;
    assert.equal(hex(rotated.tokenHash), hex(hashes[first] ?? session.tokenHash));
    for (const [i, answer] of answers.entries()) {
      if (i === first) continue;
      assert.ok(answer !== undefined && "repeated" in answer, "a repetition was not recognised");
      assert.equal(hex(answer.repeated), hex(Buffer.from([first])));
      assertSame(answer.session, rotated);
    }
    assert.deepEqual(
      (await news()).map(({ type }) => type),
      ["token_rotated"],
    );
  },
  "a repetition answers the session as it is now, to its owner, and nothing once it has ended":
    async ({ store, peer, clock }) => {
      const session = await addSession(store);
      const once = request();
      const key = keyOf(session);
      const repeat = (hash: Uint8Array, from = store) =>
        from.rotateTokenOnce({ ...once, record: randomBytes(8) }, key, hash, randomBytes(32));
      const rotated = await store.rotateTokenOnce(once, key, session.tokenHash, randomBytes(32));
      assert.ok(rotated && !("repeated" in rotated));
      clock.advance(10);
      const record = randomBytes(8);
      const changed = await store.replaceRecord(key, 2, record);
      assert.ok(typeof changed === "object");
      for (const hash of [session.tokenHash, rotated.tokenHash]) {
        const repeated = await repeat(hash, peer);
        assert.ok(repeated && "repeated" in repeated);
        assert.equal(hex(repeated.repeated), hex(once.record));
        assertSame(repeated.session, { ...rotated, ...changed, record });
      }
      for (const hash of othersThan(session.tokenHash)) {
        assert.equal(await repeat(hash), undefined);
      }
      await store.revoke(key, "");
      assert.equal(await repeat(session.tokenHash), undefined);
    },
  "only a session's newest rotation can be repeated, and nothing is kept of others": async (t) => {
    const { store, leftovers } = t;
    const session = await addSession(store);
    const key = keyOf(session);
    const grown: number[] = [];
    const once = request();
    let { tokenHash } = session;
    for (const next of [once, request(), undefined, once]) {
      const newHash = randomBytes(32);
      const before = await leftovers?.();
      const rotated = next
        ? await store.rotateTokenOnce(next, key, tokenHash, newHash)
        : await store.rotateToken(key, tokenHash, newHash);
      assert.ok(rotated && !("repeated" in rotated), "another rotation was taken for this one");
      grown.push(Number(await leftovers?.()) - Number(before));
      const again = await store.rotateTokenOnce(once, key, session.tokenHash, newHash);
      assert.equal(again !== undefined, next === once && tokenHash === session.tokenHash);
      ({ tokenHash } = rotated);
    }
    // Each appends its event, with a request or without.
    assert.equal(new Set(grown).size, 1);
    const other = await addSession(store);
    const answer = await store.rotateTokenOnce(once, keyOf(other), other.tokenHash, tokenHash);
    assert.ok(
      answer && !("repeated" in answer),
      "another session's request was taken for this one",
    );
  },
  "a request to rotate is forgotten after its time, and a refused one at once": async (t) => {
    const { store, clock } = t;
    const session = await addSession(store, { idleTimeoutMs: 10 * KEPT_FOR_MS });
    const once = request();
    const key = keyOf(session);
    const wrong = randomBytes(32);
    assert.equal(await store.rotateTokenOnce(once, key, wrong, wrong), undefined);
    const rotated = await store.rotateTokenOnce(once, key, session.tokenHash, randomBytes(32));
    assert.ok(rotated && !("repeated" in rotated));
    clock.advance(KEPT_FOR_MS - 1);
    const repeated = await store.rotateTokenOnce(once, key, session.tokenHash, wrong);
    assert.ok(repeated && "repeated" in repeated);
    clock.advance(1);
    assert.equal(await store.rotateTokenOnce(once, key, session.tokenHash, wrong), undefined);
    const again = await store.rotateTokenOnce(once, key, rotated.tokenHash, wrong);
    assert.ok(again && !("repeated" in again));
  },
};
