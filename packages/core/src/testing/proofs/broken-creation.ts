import { SessiondError } from "../../errors.js";
import { EVICTION_REASON, type StoredFacts } from "../../sessions/session-store.js";
import { byCreation, idsOf, keyOf } from "../contract/sessions/fixtures.js";
import {
  type BrokenSessionStore,
  broken,
  type CorrectSessionStore,
  pretended,
  UNLIMITED,
} from "./broken-session-store.js";

const LIMIT_RACE = "a thousand concurrent creates leave exactly the limit, in count and in list";
const REJECT_RACE =
  "of a thousand concurrent creates under the policy reject exactly the limit succeed";

function hasReason(error: unknown, reason: string): boolean {
  return error instanceof SessiondError && error.reason === reason;
}

/** Evicts in another order than the oldest first. */
function evicting(
  fault: string,
  caughtBy: readonly string[],
  order: (a: StoredFacts, b: StoredFacts) => number,
): BrokenSessionStore {
  return broken(fault, caughtBy, ({ store, activeOf }) => ({
    async create(session, limit) {
      const active = (await activeOf(session.userId)).toSorted(order);
      const tooMany = Math.max(0, active.length + 1 - limit.maxSessionsPerUser);
      const evicted = active.slice(0, tooMany);
      const created = await store.create(session, UNLIMITED);
      for (const old of evicted) await store.revoke(keyOf(old), EVICTION_REASON);
      return { ...created, evictedIds: idsOf(evicted) };
    },
  }));
}

/** Answers a session that is a little different from what it keeps. */
function answering(
  fault: string,
  caughtBy: readonly string[],
  different: (created: StoredFacts, correct: CorrectSessionStore) => StoredFacts,
): BrokenSessionStore {
  return broken(fault, caughtBy, (correct) => ({
    async create(session, limit) {
      const created = await correct.store.create(session, limit);
      return { ...created, session: different(created.session, correct) };
    },
  }));
}

/** Stores that go wrong where sessions are created. */
export const brokenCreation: readonly BrokenSessionStore[] = [
  answering(
    "counts versions from zero",
    ["a created session is answered, and read back, as it was given"],
    (created) => ({ ...created, version: created.version - 1 }),
  ),
  answering(
    "dates a session a millisecond back",
    ["a new session's times are now, and its deadlines follow from its timeouts"],
    (created) => ({ ...created, createTimeMs: created.createTimeMs - 1 }),
  ),
  answering(
    "forgets the absolute deadline at creation",
    ["a lifetime shorter than the idle timeout is the first deadline"],
    (created) => ({ ...created, expireTimeMs: created.createTimeMs + created.idleTimeoutMs }),
  ),
  broken(
    "gives all sessions the timeouts of the first",
    ["each session has its own timeouts"],
    ({ store }) => {
      let idleTimeoutMs: number | undefined;
      return {
        create: (session, limit) => {
          idleTimeoutMs ??= session.idleTimeoutMs;
          return store.create({ ...session, idleTimeoutMs }, limit);
        },
      };
    },
  ),
  broken(
    "keeps timeouts in 32 bits",
    ["the longest timeouts are kept to the millisecond"],
    ({ store }) => ({
      create: (session, limit) => {
        const idleTimeoutMs = Math.min(session.idleTimeoutMs, 2 ** 31 - 1);
        return store.create({ ...session, idleTimeoutMs }, limit);
      },
    }),
  ),
  broken(
    "answers a taken id as if it had created the session",
    [
      "an id that is taken is refused to its own user and to others",
      "a generated id that is taken is refused",
      "of users who choose the same id at once exactly one gets it, and no other loses anything",
      "nothing brings a revoked session back, or frees its id, until its retention is over",
      "nothing brings an expired session back, or frees its id, until its retention is over",
    ],
    ({ store, now }) => ({
      create: (session, limit) =>
        store.create(session, limit).catch((error) => {
          if (!hasReason(error, "SESSION_ALREADY_EXISTS")) throw error;
          return { session: pretended(session, now()), evictedIds: [] };
        }),
    }),
  ),
  broken(
    "makes room before it looks whether the id is taken",
    [
      "a taken id is refused before anyone is evicted for it",
      "of users who choose the same id at once exactly one gets it, and no other loses anything",
    ],
    ({ store, activeOf }) => ({
      async create(session, limit) {
        const [oldest, ...others] = await activeOf(session.userId);
        if (oldest && others.length + 1 >= limit.maxSessionsPerUser) {
          await store.revoke(keyOf(oldest), EVICTION_REASON);
        }
        return store.create(session, limit);
      },
    }),
  ),
  broken(
    "never frees an id",
    ["a swept session's id is free, and its old token opens nothing of the new session"],
    ({ store }) => {
      const ids = new Set<string>();
      return {
        async create(session, limit) {
          if (ids.has(session.key.id)) throw new SessiondError("SESSION_ALREADY_EXISTS", "taken");
          const created = await store.create(session, limit);
          ids.add(session.key.id);
          return created;
        },
      };
    },
  ),
  broken(
    "keeps the id of a refused session taken",
    ["an id is free again after its creation was refused by the limit"],
    ({ store }) => {
      const ids = new Set<string>();
      return {
        async create(session, limit) {
          if (ids.has(session.key.id)) throw new SessiondError("SESSION_ALREADY_EXISTS", "taken");
          ids.add(session.key.id);
          return store.create(session, limit);
        },
      };
    },
  ),
  evicting(
    "evicts the newest session",
    ["below the limit nobody is evicted, at it the oldest session is"],
    (a, b) => byCreation(b, a),
  ),
  evicting(
    "evicts the session that was used longest ago",
    ["the oldest session goes, not the one that was used longest ago"],
    (a, b) => a.lastAccessTimeMs - b.lastAccessTimeMs || byCreation(a, b),
  ),
  evicting(
    "evicts the greatest id among sessions of the same age",
    ["among sessions created at the same moment the one with the least id goes first"],
    (a, b) => a.createTimeMs - b.createTimeMs || byCreation(b, a),
  ),
  evicting(
    "reads, evicts and creates in steps of their own",
    [LIMIT_RACE, REJECT_RACE],
    byCreation,
  ),
  broken(
    "evicts one session at most",
    ["a lowered limit evicts as many as are too many, the oldest first"],
    ({ store, activeOf }) => ({
      async create(session, limit) {
        const { length } = await activeOf(session.userId);
        const maxSessionsPerUser = Math.max(limit.maxSessionsPerUser, length);
        return store.create(session, { ...limit, maxSessionsPerUser });
      },
    }),
  ),
  broken(
    "leaves no tombstone of an evicted session",
    ["an evicted session is revoked, for the reason of eviction"],
    ({ store }) => ({
      async list(query) {
        const page = await store.list(query);
        const kept = page.sessions.filter(({ revokeReason }) => revokeReason !== EVICTION_REASON);
        return { ...page, sessions: kept };
      },
    }),
  ),
  broken(
    "adds the session that it refuses",
    ["under the policy reject a session beyond the limit is refused and nothing changes"],
    ({ store }) => ({
      create: (session, limit) =>
        store.create(session, limit).catch(async (error) => {
          if (hasReason(error, "SESSION_LIMIT_REACHED")) await store.create(session, UNLIMITED);
          throw error;
        }),
    }),
  ),
  broken(
    "counts ended sessions towards the limit",
    ["expired and revoked sessions take no place under the limit"],
    ({ store, everything }) => ({
      async create(session, limit) {
        const own = (await everything()).filter(({ userId }) => userId === session.userId);
        if (limit.policy === "reject" && own.length >= limit.maxSessionsPerUser) {
          throw new SessiondError("SESSION_LIMIT_REACHED", "too many");
        }
        return store.create(session, limit);
      },
    }),
  ),
  broken(
    "lets a session make room a millisecond early",
    ["a session takes its place under the limit until its deadline"],
    ({ store, shifted }) => ({
      create: (session, limit) => shifted(1, () => store.create(session, limit)),
    }),
  ),
  broken(
    "lets a session take its place a millisecond too long",
    ["a session takes its place under the limit until its deadline"],
    ({ store, shifted }) => ({
      create: (session, limit) => shifted(-1, () => store.create(session, limit)),
    }),
  ),
  broken(
    "has one limit for all users together",
    ["the limit is each user's own"],
    ({ store, everything }) => ({
      async create(session, limit) {
        const { length } = await everything();
        const created = await store.create(session, limit);
        const [oldest] = await everything();
        if (!oldest || length < limit.maxSessionsPerUser) return created;
        await store.revoke(keyOf(oldest), EVICTION_REASON);
        return { ...created, evictedIds: [oldest.id] };
      },
    }),
  ),
];
