import type { SessionKey, SessionStore, StoredSession } from "../../sessions/session-store.js";
import { keyOf } from "../contract/sessions/fixtures.js";
import { type BrokenSessionStore, broken } from "./broken-session-store.js";

const FINAL = "nothing brings a revoked session back, or frees its id, until its retention is over";

/** Keeps a copy of every session and serves it once a late touch has asked for it. */
function revivingOnTouch(store: SessionStore): Partial<SessionStore> {
  const copies = new Map<string, StoredSession>();
  const revived = new Set<string>();
  return {
    async create(session, limit) {
      const created = await store.create(session, limit);
      const { record, tokenHash } = session;
      copies.set(session.key.id, { ...created.session, record, tokenHash });
      return created;
    },
    async touch(key, tokenHash) {
      const touched = await store.touch(key, tokenHash);
      if (touched === undefined && copies.has(key.id)) revived.add(key.id);
      return touched;
    },
    async get(key) {
      return (await store.get(key)) ?? (revived.has(key.id) ? copies.get(key.id) : undefined);
    },
  };
}

/** Lists sessions with whatever `patch` makes of them. */
function listing(
  store: SessionStore,
  patch: (session: StoredSession) => StoredSession,
): Pick<SessionStore, "list"> {
  return {
    async list(query) {
      const page = await store.list(query);
      return { ...page, sessions: page.sessions.map(patch) };
    },
  };
}

/** Stores that go wrong where sessions are revoked. */
export const brokenRevocation: readonly BrokenSessionStore[] = [
  broken(
    "brings a session back on a late touch",
    [
      FINAL,
      "nothing brings a session back that was revoked with its user's, or evicted",
      "a session that is revoked in the middle of other calls stays revoked",
    ],
    ({ store }) => revivingOnTouch(store),
  ),
  broken(
    "lists a revoked session still",
    [
      "revoking says so once, and the session is gone from all that shows active ones",
      "expired and revoked sessions are listed when asked for, each by its own switch",
    ],
    ({ store }) => ({ list: (query) => store.list({ ...query, showRevoked: true }) }),
  ),
  broken(
    "counts a revoked session still",
    ["revoking says so once, and the session is gone from all that shows active ones"],
    ({ store, everything, now }) => ({
      async count(userId) {
        return (await everything()).filter(
          (session) =>
            now() < session.expireTimeMs && (userId ?? session.userId) === session.userId,
        ).length;
      },
      sweep: (limit) => store.sweep(limit),
    }),
  ),
  broken(
    "says each time that it revoked the session",
    [
      "revoking says so once, and the session is gone from all that shows active ones",
      "of revocations that race exactly one says that it did it",
    ],
    ({ store }) => ({
      async revoke(key, reason) {
        await store.revoke(key, reason);
        return true;
      },
    }),
  ),
  broken(
    "keeps the token hash of a revoked session",
    ["a revoked session keeps all it had but its token, with the time and the reason"],
    ({ store }) => {
      const hashes = new Map<string, Uint8Array>();
      return {
        async create(session, limit) {
          hashes.set(session.key.id, session.tokenHash);
          return store.create(session, limit);
        },
        ...listing(store, (session) => ({
          ...session,
          tokenHash: hashes.get(session.id) ?? session.tokenHash,
        })),
      };
    },
  ),
  broken(
    "lets a later revocation replace the time and the reason",
    [FINAL, "an expired session stays expired, and is not revoked"],
    ({ store, now }) => {
      const later = new Map<string, { revokeTimeMs: number; revokeReason: string }>();
      return {
        async revoke(key: SessionKey, reason, tokenHash) {
          const revoked = await store.revoke(key, reason, tokenHash);
          if (!revoked) later.set(key.id, { revokeTimeMs: now(), revokeReason: reason });
          return revoked;
        },
        ...listing(store, (session) => ({ ...session, ...later.get(session.id) })),
      };
    },
  ),
  broken("cuts a reason at a NUL", ["reasons may be any text"], ({ store }) => ({
    revoke: (key, reason, tokenHash) => store.revoke(key, reason.split("\0")[0] ?? "", tokenHash),
  })),
  broken(
    "revokes by any token",
    [
      "revoking by a token works with the session's own and no other",
      "after a rotation the old token opens nothing and the new one everything",
    ],
    ({ store }) => ({ revoke: (key, reason) => store.revoke(key, reason) }),
  ),
  broken(
    "gives no reason to sessions revoked with their user's",
    ["revoking a user's sessions revokes all of them and nobody else's, and says how many"],
    ({ store }) => ({
      revokeUser: (userId, _, exceptId) => store.revokeUser(userId, "", exceptId),
    }),
  ),
  broken(
    "ignores the exception",
    ["revoking all but one of a user's sessions leaves exactly that one"],
    ({ store }) => ({ revokeUser: (userId, reason) => store.revokeUser(userId, reason) }),
  ),
  broken(
    "takes every exception for one of the user's sessions",
    ["an exception that is not one of the user's sessions spares none"],
    ({ store, activeOf }) => ({
      async revokeUser(userId, reason, exceptId) {
        const active = await activeOf(userId);
        await store.revokeUser(userId, reason, exceptId);
        return active.length - (exceptId === undefined ? 0 : 1);
      },
    }),
  ),
  broken(
    "counts expired sessions among the revoked",
    ["expired sessions are not counted among those revoked with their user's"],
    ({ store, everything }) => ({
      async revokeUser(userId, reason, exceptId) {
        const own = (await everything()).filter((session) => session.userId === userId);
        await store.revokeUser(userId, reason, exceptId);
        return own.length;
      },
    }),
  ),
  broken(
    "revokes a thousand sessions of a user at most",
    ["a user's many sessions are revoked at once"],
    ({ store, activeOf }) => ({
      async revokeUser(userId, reason) {
        const some = (await activeOf(userId)).slice(0, 1_000);
        await Promise.all(some.map((session) => store.revoke(keyOf(session), reason)));
        return some.length;
      },
    }),
  ),
  broken(
    "counts the sessions of a user before it revokes them",
    [
      "racing revocations of a user and of single sessions revoke each session once",
      "of a session's creation and its user's revocation that race, either comes first",
    ],
    ({ store }) => ({
      async revokeUser(userId, reason, exceptId) {
        const count = await store.count(userId);
        await store.revokeUser(userId, reason, exceptId);
        return count;
      },
    }),
  ),
];
