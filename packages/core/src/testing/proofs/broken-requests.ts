import { requestIdReused, sessionAlreadyExists, sessionLimitReached } from "../../errors.js";
import { isGeneratedId, type Partition } from "../../sessions/session-id.js";
import type {
  Creation,
  NewSession,
  OnceOnly,
  RepeatedCreation,
  SessionStore,
  StoredSession,
} from "../../sessions/session-store.js";
import { keyOf } from "../contract/sessions/fixtures.js";
import {
  type BrokenSessionStore,
  broken,
  type CorrectSessionStore,
  UNLIMITED,
} from "./broken-session-store.js";

const TOLD = "a request made again is told of the session that the first one created, and no more";
const OWN_ID = "a request for a chosen id that is made again finds its own session no obstacle";
const AT_LIMIT = "a request made again at the limit is neither refused nor does it evict anyone";
const STATES =
  "a request made again is told of a session that has been changed, revoked or has expired";
const REMOVED = "a request made again after its session was removed for good creates no other";
const KEPT = "a request is recognised for as long as it said, and is a new one after that";
const MANY = "of one request made many times at once one creates the session, and all name it";
const TWO_USERS = "of one request made for two users at once at most one gets a session";
const REFUSED = "a request that was refused is as if it had not been made";
const ROOM = "a request that was refused may be made again when there is room";
const KEYS = "requests of different keys are different requests, however much alike the keys are";

type CreateOnce = SessionStore["createOnce"];

/** Takes a request for another than it is. */
function asking(
  fault: string,
  caughtBy: readonly string[],
  different: (request: OnceOnly, userId: string) => OnceOnly,
): BrokenSessionStore {
  return broken(fault, caughtBy, ({ store }) => ({
    createOnce: (request, session, limit) =>
      store.createOnce(different(request, session.userId), session, limit),
  }));
}

/** Answers a repetition with something else than what is known of the first call. */
function repeating(
  fault: string,
  caughtBy: readonly string[],
  differ: (
    correct: CorrectSessionStore,
  ) => (
    repetition: RepeatedCreation,
    ...args: Parameters<CreateOnce>
  ) => Promise<Creation | RepeatedCreation>,
): BrokenSessionStore {
  return broken(fault, caughtBy, (correct) => {
    const different = differ(correct);
    return {
      async createOnce(...args) {
        const answer = await correct.store.createOnce(...args);
        return "repeated" in answer ? different(answer, ...args) : answer;
      },
    };
  });
}

/** Stores that go wrong where a request must take effect at most once. */
export const brokenRequests: readonly BrokenSessionStore[] = [
  broken(
    "ignores the limit for a request",
    ["a request that was not made before creates a session as any other call does", AT_LIMIT],
    ({ store }) => ({
      createOnce: (request, session) => store.createOnce(request, session, UNLIMITED),
    }),
  ),
  broken("creates a session whenever a request is made", [TOLD, MANY], ({ store }) => ({
    createOnce: (_, session, limit) => store.create(session, limit),
  })),
  broken(
    "recognises only requests that were made to it",
    [TOLD, OWN_ID, MANY, TWO_USERS],
    () => ({}),
    ({ store }) => ({
      createOnce: (request, session, limit) =>
        store.createOnce({ ...request, key: `peer:${request.key}` }, session, limit),
    }),
  ),
  repeating(
    "answers a repetition with the record that it brought itself",
    [TOLD],
    () => async (repetition, request) => ({ ...repetition, repeated: request.record }),
  ),
  repeating("counts a repetition as activity", [TOLD], ({ store }) => async (repetition) => {
    if (repetition.session) await store.touch(keyOf(repetition.session));
    return repetition;
  }),
  broken("refuses a taken id before it looks at the request", [OWN_ID], ({ store }) => ({
    async createOnce(request, session, limit) {
      const isTaken = (await store.partitionOf(session.key.id)) !== undefined;
      if (isTaken && !isGeneratedId(session.key.id)) throw sessionAlreadyExists();
      return store.createOnce(request, session, limit);
    },
  })),
  broken(
    "takes the chosen id of a repetition",
    ["a request made again with another chosen id takes that id from nobody", REMOVED],
    ({ store }) => {
      const claims = new Map<string, Partition>();
      return {
        async createOnce(request, session, limit) {
          const answer = await store.createOnce(request, session, limit);
          if ("repeated" in answer) claims.set(session.key.id, session.key.partition);
          return answer;
        },
        partitionOf: async (id) => (await store.partitionOf(id)) ?? claims.get(id),
      };
    },
  ),
  broken("looks at the limit before it looks at the request", [AT_LIMIT], ({ store }) => ({
    async createOnce(request, session, limit) {
      const isFull = (await store.count(session.userId)) >= limit.maxSessionsPerUser;
      if (isFull && limit.policy === "reject") throw sessionLimitReached(limit.maxSessionsPerUser);
      return store.createOnce(request, session, limit);
    },
  })),
  repeating(
    "evicts a session for a repetition",
    [AT_LIMIT],
    ({ store, activeOf }) =>
      async (repetition, _request, { userId }, limit) => {
        const active = await activeOf(userId);
        const [oldest] = active;
        if (oldest && active.length >= limit.maxSessionsPerUser) {
          await store.revoke(keyOf(oldest), "");
        }
        return repetition;
      },
  ),
  repeating("forgets who was evicted for a request", [AT_LIMIT], () => async (repetition) => ({
    ...repetition,
    evictedIds: [],
  })),
  broken("answers a repetition with the session as it was created", [STATES, TOLD], ({ store }) => {
    const created = new Map<string, StoredSession | undefined>();
    return {
      async createOnce(request, session, limit) {
        const answer = await store.createOnce(request, session, limit);
        if (!("repeated" in answer))
          created.set(request.key, { ...answer.session, ...brought(session) });
        return "repeated" in answer ? { ...answer, session: created.get(request.key) } : answer;
      },
    };
  }),
  repeating(
    "answers a repetition with active sessions only",
    [STATES],
    ({ store }) =>
      async (repetition) => ({
        ...repetition,
        session: repetition.session && (await store.get(keyOf(repetition.session))),
      }),
  ),
  repeating(
    "forgets a request with its session",
    [REMOVED],
    ({ store }) =>
      async (repetition, _request, session, limit) =>
        repetition.session ? repetition : store.create(session, limit),
  ),
  repeating(
    "takes whatever session has the id now for that of the request",
    ["a request made again is not told of a later session that was given the same id"],
    ({ everything }) =>
      async (repetition, _request, { key }) => ({
        ...repetition,
        session: repetition.session ?? (await everything()).find(({ id }) => id === key.id),
      }),
  ),
  asking("forgets a request a millisecond early", [KEPT], (request) => ({
    ...request,
    keptForMs: request.keptForMs - 1,
  })),
  asking("recognises a request a millisecond too long", [KEPT], (request) => ({
    ...request,
    keptForMs: request.keptForMs + 1,
  })),
  broken(
    "recognises a request for as long as the last call said",
    ["how long a request is recognised is what the first call said, not a repetition"],
    ({ store, now }) => {
      const done = new Map<string, { answer: RepeatedCreation; untilMs: number }>();
      return {
        async createOnce(request, session, limit) {
          const earlier = done.get(request.key);
          const untilMs = now() + request.keptForMs;
          if (earlier !== undefined && now() < earlier.untilMs) {
            earlier.untilMs = untilMs;
            return earlier.answer;
          }
          const creation = await store.create(session, limit);
          const first = { ...creation.session, ...brought(session) };
          done.set(request.key, {
            answer: { ...creation, session: first, repeated: request.record },
            untilMs,
          });
          return creation;
        },
      };
    },
  ),
  broken(
    "keeps the key of a request for its user for ever",
    ["a request that is no longer recognised may be made for anybody"],
    ({ store }) => {
      const partitions = new Map<string, Partition>();
      return {
        async createOnce(request, session, limit) {
          const { partition } = session.key;
          if ((partitions.get(request.key) ?? partition) !== partition) throw requestIdReused();
          const answer = await store.createOnce(request, session, limit);
          partitions.set(request.key, partition);
          return answer;
        },
      };
    },
  ),
  broken(
    "looks for an earlier request in one step and creates the session in another",
    [MANY, TWO_USERS],
    ({ store }) => {
      const done = new Map<string, RepeatedCreation>();
      return {
        async createOnce(request, session, limit) {
          const earlier = done.get(request.key);
          if (earlier !== undefined) return earlier;
          const creation = await store.create(session, limit);
          const first = { ...creation.session, ...brought(session) };
          done.set(request.key, { ...creation, session: first, repeated: request.record });
          return creation;
        },
      };
    },
  ),
  asking(
    "has a key of a request for each user",
    ["a request of one user that is made for another is refused and changes nothing", TWO_USERS],
    (request, userId) => ({ ...request, key: `${request.key} ${userId}` }),
  ),
  broken("keeps the key of a refused request", [REFUSED, ROOM], ({ store }) => {
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
  }),
  broken("refuses a request again for what it was refused for", [ROOM, REFUSED], ({ store }) => {
    const refusals = new Map<string, unknown>();
    return {
      async createOnce(request, session, limit) {
        if (refusals.has(request.key)) throw refusals.get(request.key);
        return store.createOnce(request, session, limit).catch((error) => {
          refusals.set(request.key, error);
          throw error;
        });
      },
    };
  }),
  asking("ignores the case of a request's key", [KEYS], (request) => ({
    ...request,
    key: request.key.toLowerCase(),
  })),
  asking("cuts a request's key at 199 characters", [KEYS], (request) => ({
    ...request,
    key: request.key.slice(0, 199),
  })),
];

/** What a call brings that the answer of a creation leaves out. */
function brought({ record, tokenHash }: NewSession) {
  return { record, tokenHash };
}
