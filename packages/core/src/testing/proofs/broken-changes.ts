import { setImmediate } from "node:timers/promises";
import {
  EVICTION_REASON,
  type SessionStore,
  type StoredSession,
} from "../../sessions/session-store.js";
import { hex, keyOf, storedSession } from "../contract/sessions/fixtures.js";
import { answering, asking, type BrokenSessionStore, broken } from "./broken-session-store.js";

/** The titles of the checks of deadlines. */
const EDGES = [
  ...["read", "read among many", "counted", "listed among its user's active sessions"],
  ...["listed among all active sessions", "touched", "touched by its token", "changed"],
  ...["given a new token", "revoked", "revoked by its token", "revoked with its user's sessions"],
].map((what) => `a session can be ${what} a millisecond before its deadline, and not at it`);

/** Goes by a clock that is a little fast, or slow, in some of its methods. */
function offByOne(
  fault: string,
  caughtBy: readonly string[],
  shiftMs: number,
  methods: readonly (keyof SessionStore)[],
): BrokenSessionStore {
  return broken(fault, caughtBy, ({ store, shifted }) =>
    Object.fromEntries(
      methods.map((method) => {
        const correct = store[method] as (...args: unknown[]) => Promise<unknown>;
        return [method, (...args: unknown[]) => shifted(shiftMs, () => correct.apply(store, args))];
      }),
    ),
  );
}

const CALLS = [
  ...(["get", "getMany", "count", "list", "touch", "replaceRecord"] as const),
  ...(["rotateToken", "revoke", "revokeUser"] as const),
];
const COUNTS = "counts follow every creation, revocation and deadline to the millisecond";
const LIMIT = ["a session counts towards the limit until its deadline or its revocation"];
const RETENTION = [
  "an expired session is kept until its retention is over, and removed then",
  "a revoked session's retention runs from its revocation, whenever its deadline is",
];

/** Stores that go wrong at deadlines, or where sessions are changed. */
export const brokenChanges: readonly BrokenSessionStore[] = [
  offByOne("ends sessions a millisecond early", [...EDGES, COUNTS], 1, CALLS),
  offByOne("lets sessions go on at their deadline", [...EDGES, COUNTS], -1, CALLS),
  offByOne("makes room a millisecond early", LIMIT, 1, ["create"]),
  offByOne("makes room a millisecond late", LIMIT, -1, ["create"]),
  offByOne("sweeps a millisecond early", RETENTION, 1, ["sweep"]),
  offByOne("sweeps a millisecond late", RETENTION, -1, ["sweep"]),
  broken(
    "answers a touch but does not move the deadline",
    [
      "touching sets the last access and the idle deadline, and changes nothing else",
      "a touched session is not swept by the deadline it had before",
    ],
    ({ store }) => ({ touch: (key) => store.get(key) }),
  ),
  broken(
    "adds a version with every touch",
    [
      "touching sets the last access and the idle deadline, and changes nothing else",
      "touches, reads, natural expiry and changes that fail are no events",
      "touching does not get in the way of a change, nor a change of a touch",
    ],
    ({ store }) => ({
      async touch(key, tokenHash) {
        const touched = await store.touch(key, tokenHash);
        if (touched?.record) await store.replaceRecord(key, touched.version, touched.record);
        return touched;
      },
    }),
  ),
  answering(
    "moves the deadline by the clock alone: past the absolute deadline, and back with the clock",
    [
      "a session in steady use lives until its absolute deadline, and not at it",
      "a clock that is set back never shortens a session",
    ],
    "touch",
    (touched, { now }) => touched && { ...touched, expireTimeMs: now() + touched.idleTimeoutMs },
  ),
  broken(
    "touches by any token, and answers no record",
    [
      "touching by a token hash works with the session's own and no other",
      "a record and a token hash may be views into larger buffers",
      "a touch answers the record, unless its caller knows the session's version",
    ],
    ({ store }) => ({
      async touch(key) {
        const { record: _, ...touched } = (await store.touch(key)) ?? {};
        return "id" in touched ? touched : undefined;
      },
    }),
  ),
  broken(
    "ignores the version of a change",
    [
      "the record is replaced at its version, which grows by one, and at no other",
      "of changes that race at one version exactly one wins",
      "rotating replaces the token, is authentication and activity, and adds a version",
    ],
    ({ store }) => ({
      async replaceRecord(key, _version, record) {
        for (;;) {
          const current = await store.get(key);
          const replaced = await store.replaceRecord(key, current?.version ?? 0, record);
          if (replaced !== "version_mismatch") return replaced;
        }
      },
    }),
  ),
  broken(
    "counts a change, and resealing, as activity",
    [
      "changing the content is no activity",
      "resealing replaces exactly the record, and is neither a version nor an event",
    ],
    ({ store }) => ({
      async replaceRecord(key, ...change) {
        await store.touch(key);
        return store.replaceRecord(key, ...change);
      },
      async reseal(key, ...records) {
        await store.touch(key);
        return store.reseal(key, ...records);
      },
    }),
  ),
  broken(
    "counts a rotation neither as authentication nor as activity",
    [
      "rotating replaces the token, is authentication and activity, and adds a version",
      "rotating the token moves the deadline too, and no further than the absolute one",
    ],
    ({ store }) => ({
      async rotateToken(key, ...hashes) {
        const before = await store.get(key);
        const rotated = await store.rotateToken(key, ...hashes);
        const { authenticateTimeMs = 0, expireTimeMs = 0 } = before ?? {};
        return rotated && { ...rotated, authenticateTimeMs, expireTimeMs };
      },
    }),
  ),
  broken(
    "rotates by any token, and lets all racers win",
    [
      "rotating replaces the token, is authentication and activity, and adds a version",
      "of rotations that race exactly one wins, and its token is the one that counts",
    ],
    ({ store }) => ({
      async rotateToken(key, _tokenHash, newTokenHash) {
        for (;;) {
          const current = await store.get(key);
          if (current === undefined) return undefined;
          const rotated = await store.rotateToken(key, current.tokenHash, newTokenHash);
          if (rotated !== undefined) return rotated;
        }
      },
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
        touch: (key, hash) => store.touch(key, hash && retired.has(hex(hash)) ? undefined : hash),
      };
    },
  ),
];

/** Stores that let a holder of a lock write that was overtaken, or refuse one that was not. */
export const brokenFences: readonly BrokenSessionStore[] = [
  asking(
    "ignores fences",
    [
      "a change with a lower token than one seen before is fenced, exactly up to 2^53",
      "of changes that race with different tokens none is made after one with a higher",
      "a session is fenced by a bounded number of locks, and refuses one more",
    ],
    "replaceRecord",
    (key, version, record) => [key, version, record],
  ),
  broken(
    "remembers the token of any change for all sessions, also of one that was not made",
    [
      "each lock fences for itself, and each session",
      "a change that is not made leaves no token behind",
      "the tokens go with the session",
    ],
    ({ store }) => {
      const highest = new Map<string, number>();
      return {
        async replaceRecord(key, version, record, fence) {
          if (fence && (highest.get(fence.lock) ?? 0) > fence.token) return "fenced";
          if (fence) highest.set(fence.lock, fence.token);
          return store.replaceRecord(key, version, record, fence);
        },
      };
    },
  ),
];

/** Stores that go wrong where sealed records are sealed again. */
export const brokenResealing: readonly BrokenSessionStore[] = [
  broken(
    "reseals active sessions only, whatever their record is",
    [
      "expired and revoked sessions are resealed too, and stay what they are",
      "a record that is not the session's own is not replaced by resealing",
    ],
    ({ store }) => ({
      async reseal(key, _record, resealed) {
        const session = await store.get(key);
        return session !== undefined && store.reseal(key, session.record, resealed);
      },
    }),
  ),
  broken(
    "compares records in one step and replaces them in another",
    ["of a change and a resealing that race, the change is never lost"],
    ({ store }) => ({
      async reseal(key, record, resealed) {
        const before = await store.get(key);
        if (before === undefined || hex(before.record) !== hex(record)) return false;
        await setImmediate();
        const after = await store.get(key);
        return after !== undefined && store.reseal(key, after.record, resealed);
      },
    }),
  ),
];

/** Stores that go wrong where sessions are revoked. */
export const brokenRevocation: readonly BrokenSessionStore[] = [
  broken(
    "brings a session back on a late touch",
    [
      "nothing brings a revoked session back, or frees its id, before it is swept",
      "a session that is revoked in the middle of other calls stays revoked",
    ],
    ({ store }) => {
      const copies = new Map<string, StoredSession>();
      const revived = new Set<string>();
      return {
        async create(session, limit) {
          const created = await store.create(session, limit);
          copies.set(session.key.id, storedSession(created.session, session));
          return created;
        },
        async touch(key, tokenHash) {
          const touched = await store.touch(key, tokenHash);
          if (touched === undefined) revived.add(key.id);
          return touched;
        },
        get: async (key) =>
          (await store.get(key)) ?? (revived.has(key.id) ? copies.get(key.id) : undefined),
      };
    },
  ),
  asking(
    "lists a revoked session still",
    [
      "revoking says so once, ends the session, and leaves all it had but its token",
      "expired and revoked sessions are listed when asked for, until they are swept",
    ],
    "list",
    (query) => [{ ...query, showRevoked: true }],
  ),
  answering(
    "leaves no tombstone of an evicted session",
    ["an evicted session is revoked, for the reason of eviction"],
    "list",
    ({ sessions, ...page }) => ({
      ...page,
      sessions: sessions.filter(({ revokeReason }) => revokeReason !== EVICTION_REASON),
    }),
  ),
  answering(
    "says of every revocation that it was made, whatever the token",
    [
      "revoking says so once, ends the session, and leaves all it had but its token",
      "revoking by a token works with the session's own and no other",
      "of revocations that race exactly one says that it did it",
    ],
    "revoke",
    () => true,
  ),
  broken(
    "lets a later revocation replace the time and the reason",
    [
      "nothing brings a revoked session back, or frees its id, before it is swept",
      "an expired session stays expired, and is not revoked",
    ],
    ({ store, now }) => {
      const later = new Map<string, { revokeTimeMs: number; revokeReason: string }>();
      return {
        async revoke(key, reason, ...proof) {
          const revoked = await store.revoke(key, reason, ...proof);
          if (!revoked) later.set(key.id, { revokeTimeMs: now(), revokeReason: reason });
          return revoked;
        },
        async list(query) {
          const page = await store.list(query);
          const sessions = page.sessions.map((one) => ({ ...one, ...later.get(one.id) }));
          return { ...page, sessions };
        },
      };
    },
  ),
  asking(
    "cuts a reason at a NUL",
    ["reasons and user ids may be any text, and sessions and events give them back as they were"],
    "revoke",
    (key, reason, tokenHash) => [key, reason.split("\0")[0] ?? "", tokenHash],
  ),
  broken(
    "revokes all of a user's sessions with one, and ignores the exception",
    [
      "a change of one session leaves all others alone",
      "revoking a user's sessions spares the excepted one",
    ],
    ({ store }) => ({
      async revoke(key, reason, ...proof) {
        const session = await store.get(key);
        const revoked = await store.revoke(key, reason, ...proof);
        if (session && revoked) await store.revokeUser(session.userId, reason);
        return revoked;
      },
      revokeUser: (userId, reason) => store.revokeUser(userId, reason),
    }),
  ),
  answering(
    "counts expired sessions among the revoked",
    ["revoking a user's sessions revokes all active ones, and says how many"],
    "revokeUser",
    async (_, { everything }, userId) =>
      (await everything()).filter((session) => session.userId === userId).length,
  ),
  broken(
    "says that it revoked as many sessions of a user as it counted before, a thousand at most",
    [
      "a user's many sessions are revoked at once",
      "racing revocations of a user and of single sessions revoke each session once",
      "of a session's creation and its user's revocation that race, either comes first",
    ],
    ({ store }) => ({
      async revokeUser(userId, reason, exceptId) {
        const count = await store.count(userId);
        await store.revokeUser(userId, reason, exceptId);
        return Math.min(count, 1_000);
      },
    }),
  ),
  asking(
    "revokes a session for any user",
    ["revoking for a user works for the session's own and no other"],
    "revoke",
    (key, reason, tokenHash) => [key, reason, tokenHash],
  ),
  broken(
    "revokes all of a user's sessions if there is none to except",
    ["revoking all sessions but one that is not an active one of the user's revokes none"],
    ({ store }) => ({
      revokeUser: async (userId, reason, exceptId) =>
        (await store.revokeUser(userId, reason, exceptId)) ?? store.revokeUser(userId, reason),
    }),
  ),
  broken(
    "looks for the excepted session in one step and revokes the others in later ones",
    ["of the excepted session's revocation and its user's that race, either comes first"],
    ({ store, activeOf }) => ({
      async revokeUser(userId, reason, exceptId) {
        const active = await activeOf(userId);
        if (exceptId && !active.some(({ id }) => id === exceptId)) return undefined;
        await setImmediate();
        const others = active.filter(({ id }) => id !== exceptId);
        const answers = others.map((session) => store.revoke(keyOf(session), reason));
        return (await Promise.all(answers)).filter(Boolean).length;
      },
    }),
  ),
];
