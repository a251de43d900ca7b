import { requestIdReused, sessionAlreadyExists } from "../../errors.js";
import type { Partition } from "../../sessions/session-id.js";
import {
  EVICTION_REASON,
  type RepeatedCreation,
  type StoredFacts,
  type StoredSession,
} from "../../sessions/session-store.js";
import {
  byCreation,
  idsOf,
  keyOf,
  NO_LIMIT,
  storedSession,
} from "../contract/sessions/fixtures.js";
import { answering, asking, type BrokenSessionStore, broken } from "./broken-session-store.js";

/** Reads, evicts and creates in steps of their own, the sessions in some order. */
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
      const created = await store.create(session, NO_LIMIT);
      for (const old of evicted) await store.revoke(keyOf(old), EVICTION_REASON);
      return { ...created, evictedIds: idsOf(evicted) };
    },
  }));
}

/** Stores that go wrong where sessions are created. */
export const brokenCreation: readonly BrokenSessionStore[] = [
  answering(
    "counts versions from zero",
    ["a created session is answered, and read back, as it was given"],
    "create",
    ({ session, ...rest }) => ({ ...rest, session: { ...session, version: 0 } }),
  ),
  asking(
    "forgets the lifetime",
    ["a new session's times are now, and its deadlines follow from its timeouts"],
    "create",
    (session, limit) => [{ ...session, lifetimeMs: session.idleTimeoutMs }, limit],
  ),
  asking(
    "keeps timeouts in 32 bits",
    ["each session has its own timeouts, kept to the millisecond up to a year"],
    "create",
    ({ idleTimeoutMs, ...session }, limit) => [
      { ...session, idleTimeoutMs: Math.min(idleTimeoutMs, 2 ** 31 - 1) },
      limit,
    ],
  ),
  broken(
    "answers a taken id as if it had created the session",
    [
      "an id that is taken is refused to everybody, before anyone is evicted for it",
      "of users who choose the same id at once exactly one gets it, and no other loses anything",
      "nothing brings a revoked session back, or frees its id, before it is swept",
      "nothing brings an expired session back, or frees its id, before it is swept",
    ],
    ({ store, everything }) => ({
      create: (session, limit) =>
        store.create(session, limit).catch(async (error) => {
          if (error.reason !== "SESSION_ALREADY_EXISTS") throw error;
          const all = await everything();
          return { session: all.at(-1) as StoredSession, evictedIds: [] };
        }),
    }),
  ),
  broken(
    "makes room before it looks whether the id is taken",
    [
      "an id that is taken is refused to everybody, before anyone is evicted for it",
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
    "never frees an id, not even of a session that it refuses",
    [
      "under policy reject a session beyond the limit is refused, and its id stays free",
      "a swept session's id is free, and its old token opens nothing of the new session",
    ],
    ({ store }) => {
      const ids = new Set<string>();
      return {
        async create(session, limit) {
          if (ids.has(session.key.id)) throw sessionAlreadyExists();
          ids.add(session.key.id);
          return store.create(session, limit);
        },
      };
    },
  ),
  broken(
    "loses the id of a session when it refuses another call for it",
    [
      "a session that moves in a second time, its first times over, exists and stays found by its id",
      "a session that moves in while a late call for it is refused stays found by its id",
    ],
    ({ store }) => {
      const lost = new Set<string>();
      return {
        create: (session, limit) =>
          store.create(session, limit).catch((error) => {
            lost.add(session.key.id);
            throw error;
          }),
        partitionOf: async (id) => (lost.has(id) ? undefined : store.partitionOf(id)),
      };
    },
  ),
  evicting(
    "evicts the session that was used longest ago",
    ["at each user's own limit the oldest session goes, however lately it was used"],
    (a, b) => a.lastAccessTimeMs - b.lastAccessTimeMs || byCreation(a, b),
  ),
  evicting(
    "evicts the greatest id among sessions of the same age",
    ["a lowered limit evicts as many as are too many, by age and then by id"],
    (a, b) => a.createTimeMs - b.createTimeMs || byCreation(b, a),
  ),
  evicting(
    "reads, evicts and creates in steps of their own",
    [
      "a thousand concurrent creates leave exactly the limit, in count and in list",
      "of a thousand concurrent creates under policy reject exactly the limit succeed",
    ],
    byCreation,
  ),
  broken(
    "has one limit for all users together",
    ["at each user's own limit the oldest session goes, however lately it was used"],
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

/** Stores that go wrong where a request must take effect at most once. */
export const brokenRequests: readonly BrokenSessionStore[] = [
  asking(
    "ignores the limit for a request",
    [
      "a request that was not made before creates a session as any other call does",
      "a repeated request at the limit is neither refused nor does it evict anyone",
    ],
    "createOnce",
    (request, session) => [request, session, NO_LIMIT],
  ),
  broken(
    "recognises only requests that were made to it",
    [
      "a repeated request is told of the session that the first created, and no more",
      "a repeated request is not in the way of its own chosen id, and takes no other",
      "of one request made many times at once one creates the session, and all name it",
      "of one request made for two users at once at most one gets a session",
    ],
    () => ({}),
    ({ store }) => ({
      createOnce: (request, session, limit) =>
        store.createOnce({ ...request, key: `peer:${request.key}` }, session, limit),
    }),
  ),
  broken(
    "takes a session for another one with the same id and creation time",
    ["a repeated request finds no later session that moved in with the same id and times"],
    ({ store, everything }) => {
      const firsts = new Map<string, StoredFacts>();
      return {
        async createOnce(request, session, limit) {
          const answer = await store.createOnce(request, session, limit);
          if (!("repeated" in answer)) firsts.set(request.key, answer.session);
          const { id, createTimeMs } = firsts.get(request.key) ?? {};
          const isFirst = (one: StoredFacts) => one.id === id && one.createTimeMs === createTimeMs;
          return "repeated" in answer
            ? { ...answer, session: (await everything()).find(isFirst) }
            : answer;
        },
      };
    },
  ),
  broken(
    "answers a repetition with the session as it was created, and takes its chosen id",
    [
      "a repeated request is not in the way of its own chosen id, and takes no other",
      "a repeated request is told of its session as it is: changed, revoked or expired",
    ],
    ({ store }) => {
      const created = new Map<string, StoredSession>();
      const claims = new Map<string, Partition>();
      return {
        async createOnce(request, session, limit) {
          const answer = await store.createOnce(request, session, limit);
          if ("repeated" in answer) {
            claims.set(session.key.id, session.key.partition);
            return { ...answer, session: created.get(request.key) };
          }
          created.set(request.key, storedSession(answer.session, session));
          return answer;
        },
        partitionOf: async (id) => (await store.partitionOf(id)) ?? claims.get(id),
      };
    },
  ),
  answering(
    "takes the session that has the id now for the one that the request created",
    ["once its session is swept, a repeated request creates and finds no other"],
    "createOnce",
    async (answer, { everything }, _request, { key }) => {
      if (!("repeated" in answer) || answer.session) return answer;
      return { ...answer, session: (await everything()).find(({ id }) => id === key.id) };
    },
  ),
  asking(
    "forgets a request a millisecond early",
    ["a request is recognised for as long as its first call said, and is a new one after that"],
    "createOnce",
    (request, ...rest) => [{ ...request, keptForMs: request.keptForMs - 1 }, ...rest],
  ),
  broken(
    "looks for an earlier request in one step and creates the session in another",
    [
      "of one request made many times at once one creates the session, and all name it",
      "of one request made for two users at once at most one gets a session",
    ],
    ({ store }) => {
      const done = new Map<string, RepeatedCreation>();
      return {
        async createOnce(request, session, limit) {
          const earlier = done.get(request.key);
          if (earlier !== undefined) return earlier;
          const creation = await store.create(session, limit);
          const first = storedSession(creation.session, session);
          done.set(request.key, { ...creation, session: first, repeated: request.record });
          return creation;
        },
      };
    },
  ),
  asking(
    "has a key of a request for each user, whatever its case",
    [
      "a request that another user has made is refused and changes nothing",
      "of one request made for two users at once at most one gets a session",
      "requests of different keys are different requests, however alike the keys are",
    ],
    "createOnce",
    (request, session, limit) => [
      { ...request, key: `${request.key} ${session.userId}`.toLowerCase() },
      session,
      limit,
    ],
  ),
  broken(
    "keeps the key of a refused request",
    ["a request that was refused is as if it had not been made"],
    ({ store }) => {
      const refused = new Set<string>();
      return {
        async createOnce(request, session, limit) {
          if (refused.has(request.key)) throw requestIdReused();
          refused.add(request.key);
          const answer = await store.createOnce(request, session, limit);
          refused.delete(request.key);
          return answer;
        },
      };
    },
  ),
];
