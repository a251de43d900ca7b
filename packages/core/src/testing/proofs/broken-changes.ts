import type { SessionKey, SessionStore, TouchedSession } from "../../sessions/session-store.js";
import { hex } from "../contract/sessions/fixtures.js";
import { type BrokenSessionStore, broken } from "./broken-session-store.js";

type Method = "get" | "getMany" | "count" | "list" | "touch" | "replaceRecord";
type EdgeMethod = Method | "rotateToken" | "revoke" | "revokeUser";

/** What each method is called in the checks of deadlines. */
const EDGES: Readonly<Record<EdgeMethod, readonly string[]>> = {
  get: ["read"],
  getMany: ["read among many"],
  count: ["counted"],
  list: ["listed among its user's active sessions", "listed among all active sessions"],
  touch: ["touched", "touched by its token"],
  replaceRecord: ["changed"],
  rotateToken: ["given a new token"],
  revoke: ["revoked", "revoked by its token"],
  revokeUser: ["revoked with its user's sessions"],
};

/** Goes by a clock that is a little fast, or slow, in one of its methods. */
function offByOne(method: EdgeMethod, shiftMs: 1 | -1): BrokenSessionStore {
  const what = shiftMs > 0 ? "ends sessions a millisecond early" : "goes on at the deadline";
  const titles = EDGES[method].map(
    (edge) => `a session can be ${edge} a millisecond before its deadline, and not at it`,
  );
  return broken(`${what} in ${method}`, titles, ({ store, shifted }) => ({
    [method]: (...args: never[]) => {
      const correct = store[method].bind(store) as (...args: never[]) => Promise<unknown>;
      return shifted(shiftMs, () => correct(...args));
    },
  }));
}

/** Answers a touch that is a little different from what it did. */
function answeringTouch(
  fault: string,
  caughtBy: readonly string[],
  different: (touched: TouchedSession) => TouchedSession,
): BrokenSessionStore {
  return broken(fault, caughtBy, ({ store }) => ({
    async touch(key, tokenHash) {
      const touched = await store.touch(key, tokenHash);
      return touched && different(touched);
    },
  }));
}

/** Replaces the record at whatever version the session has. */
async function replaceAtAnyVersion(store: SessionStore, key: SessionKey, record: Uint8Array) {
  for (;;) {
    const current = await store.get(key);
    const replaced = await store.replaceRecord(key, current?.version ?? 0, record);
    if (replaced !== "version_mismatch") return replaced;
  }
}

/** Rotates the token whatever hash the session has. */
async function rotateAnyToken(store: SessionStore, key: SessionKey, newTokenHash: Uint8Array) {
  for (;;) {
    const current = await store.get(key);
    if (current === undefined) return undefined;
    const rotated = await store.rotateToken(key, current.tokenHash, newTokenHash);
    if (rotated !== undefined) return rotated;
  }
}

/** Stores that go wrong at deadlines, or where sessions are changed. */
export const brokenChanges: readonly BrokenSessionStore[] = [
  ...(Object.keys(EDGES) as EdgeMethod[]).flatMap((method) => [
    offByOne(method, 1),
    offByOne(method, -1),
  ]),
  broken(
    "answers a touch but does not move the deadline",
    [
      "touching sets the last access to now and the deadline a full idle timeout away",
      "a touched session is not swept by the deadline it had before",
    ],
    ({ store }) => ({ touch: (key) => store.get(key) }),
  ),
  broken(
    "adds a version with every touch",
    [
      "touching changes nothing else",
      "touches, reads and natural expiry are no events",
      "touching does not get in the way of a change, nor a change of a touch",
    ],
    ({ store }) => ({
      async touch(key, tokenHash) {
        const touched = await store.touch(key, tokenHash);
        if (touched === undefined) return undefined;
        const { version, record = new Uint8Array() } = touched;
        const replaced = await store.replaceRecord(key, version, record);
        return typeof replaced === "string" || replaced === undefined
          ? touched
          : { ...replaced, record };
      },
    }),
  ),
  answeringTouch(
    "touches past the absolute deadline",
    ["a session in steady use lives until its absolute deadline, and not at it"],
    (touched) => ({
      ...touched,
      expireTimeMs: touched.lastAccessTimeMs + touched.idleTimeoutMs,
    }),
  ),
  answeringTouch(
    "shortens a session when the clock is set back",
    ["a clock that is set back never shortens a session"],
    (touched) => ({
      ...touched,
      expireTimeMs: Math.min(
        touched.readTimeMs + touched.idleTimeoutMs,
        touched.absoluteExpireTimeMs,
      ),
    }),
  ),
  broken(
    "touches by any token",
    [
      "touching by a token hash works with the session's own and no other",
      "a record and a token hash may be views into larger buffers",
    ],
    ({ store }) => ({ touch: (key) => store.touch(key) }),
  ),
  broken(
    "ignores the version of a change",
    [
      "replacing the record at another version is a mismatch and changes nothing",
      "of changes that race at one version exactly one wins",
      "a rotation makes changes at the version before it mismatch",
    ],
    ({ store }) => ({
      replaceRecord: (key, _version, record) => replaceAtAnyVersion(store, key, record),
    }),
  ),
  broken(
    "does not add a version with a change",
    ["replacing the record at its version changes the record and adds one to the version"],
    ({ store }) => ({
      async replaceRecord(key, version, record) {
        const replaced = await store.replaceRecord(key, version, record);
        return typeof replaced === "object" ? { ...replaced, version } : replaced;
      },
    }),
  ),
  broken("counts a change as activity", ["changing the content is no activity"], ({ store }) => ({
    async replaceRecord(key, version, record) {
      await store.touch(key);
      return store.replaceRecord(key, version, record);
    },
  })),
  broken(
    "takes a revoked session for one at another version",
    ["nothing brings a revoked session back, or frees its id, until its retention is over"],
    ({ store }) => ({
      replaceRecord: async (key, version, record) =>
        (await store.replaceRecord(key, version, record)) ?? "version_mismatch",
    }),
  ),
  broken(
    "does not count a rotation as authentication",
    ["rotating replaces the token, counts as authentication and activity, and adds a version"],
    ({ store }) => ({
      async rotateToken(key, tokenHash, newTokenHash) {
        const rotated = await store.rotateToken(key, tokenHash, newTokenHash);
        return rotated && { ...rotated, authenticateTimeMs: rotated.createTimeMs };
      },
    }),
  ),
  broken(
    "does not count a rotation as activity",
    ["rotating the token moves the deadline too, and no further than the absolute one"],
    ({ store }) => ({
      async rotateToken(key, tokenHash, newTokenHash) {
        const before = await store.get(key);
        const rotated = await store.rotateToken(key, tokenHash, newTokenHash);
        return before && rotated && { ...rotated, expireTimeMs: before.expireTimeMs };
      },
    }),
  ),
  broken(
    "rotates by any token, and lets all racers win",
    [
      "a rotation with another token changes nothing",
      "of rotations that race exactly one wins, and its token is the one that counts",
    ],
    ({ store }) => ({
      rotateToken: (key, _tokenHash, newTokenHash) => rotateAnyToken(store, key, newTokenHash),
    }),
  ),
  broken(
    "accepts the old token after a rotation",
    ["after a rotation the old token opens nothing and the new one everything"],
    ({ store }) => {
      const retired = new Set<string>();
      return {
        rotateToken(key, tokenHash, newTokenHash) {
          retired.add(hex(tokenHash));
          return store.rotateToken(key, tokenHash, newTokenHash);
        },
        touch: (key, tokenHash) =>
          tokenHash && retired.has(hex(tokenHash)) ? store.touch(key) : store.touch(key, tokenHash),
      };
    },
  ),
  broken(
    "revokes all of a user's sessions with one",
    ["a change of one session leaves all others alone"],
    ({ store }) => ({
      async revoke(key, reason, tokenHash) {
        const session = await store.get(key);
        const revoked = await store.revoke(key, reason, tokenHash);
        if (session && revoked) await store.revokeUser(session.userId, reason);
        return revoked;
      },
    }),
  ),
];
