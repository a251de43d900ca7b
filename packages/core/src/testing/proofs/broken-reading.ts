import type { SessionKey, StoredSession } from "../../sessions/session-store.js";
import { storedSession } from "../contract/sessions/fixtures.js";
import { answering, asking, type BrokenSessionStore, broken } from "./broken-session-store.js";

/** Stores that go wrong where sessions are read, or their values kept. */
export const brokenReading: readonly BrokenSessionStore[] = [
  broken(
    "makes a session of a touch of one that does not exist",
    ["a session that does not exist is undefined, and calls on it leave nothing behind"],
    ({ store }) => ({
      async touch(key, tokenHash = new Uint8Array(32)) {
        const touched = await store.touch(key, tokenHash);
        if (touched !== undefined) return touched;
        const timeouts = { idleTimeoutMs: 1_000, lifetimeMs: 1_000 };
        const fragment = { key, userId: "", record: new Uint8Array(), tokenHash, ...timeouts };
        await store.create(fragment, { maxSessionsPerUser: 10, policy: "reject" });
        return undefined;
      },
    }),
  ),
  answering(
    "leaves out of many sessions those that it does not find",
    ["a thousand sessions are answered in the order of their keys, with gaps"],
    "getMany",
    (found) => found.filter((session) => session !== undefined),
  ),
  broken(
    "finds a session in any partition",
    [
      "a session is found in its own partition only",
      "resealing what does not exist, or is in another partition, does nothing",
    ],
    ({ store }) => {
      const own = async ({ id, partition }: SessionKey) => ({
        id,
        partition: (await store.partitionOf(id)) ?? partition,
      });
      return {
        get: async (key) => store.get(await own(key)),
        reseal: async (key, ...records) => store.reseal(await own(key), ...records),
      };
    },
  ),
  broken(
    "serves what it has read before",
    [
      "what is written through one server is read through another at once",
      "a session can be read a millisecond before its deadline, and not at it",
    ],
    ({ store }) => {
      const cache = new Map<string, StoredSession>();
      return {
        async get(key) {
          const session = cache.get(key.id) ?? (await store.get(key));
          if (session !== undefined) cache.set(key.id, session);
          return session;
        },
        async create(session, limit) {
          const created = await store.create(session, limit);
          cache.set(session.key.id, storedSession(created.session, session));
          return created;
        },
      };
    },
  ),
  asking(
    "takes records for text",
    ["records of any bytes come back unchanged, up to 20 KiB"],
    "create",
    (session, limit) => {
      const text = Buffer.from(session.record).toString();
      return [{ ...session, record: Buffer.from(text) }, limit];
    },
  ),
  asking(
    "ignores the case of ids",
    [
      "users may be called anything, and have their own sessions and nobody else's",
      "the partition of a chosen id, whatever its form, is known while it is taken",
    ],
    "create",
    ({ key, userId, ...session }, limit) => [
      { ...session, key: { ...key, id: key.id.toLowerCase() }, userId: userId.toLowerCase() },
      limit,
    ],
  ),
  broken(
    "reads on after it was closed, and finds nothing",
    ["an open store checks out; a closed one is unavailable, and may be closed again"],
    ({ store }) => ({ get: (key) => store.get(key).catch(() => undefined) }),
  ),
  broken(
    "drops calls under way with an error of its own when it is closed",
    ["calls under way when the store is closed end, by success or as unavailable"],
    ({ store }) => {
      const closed = Promise.withResolvers<never>();
      closed.promise.catch(() => {});
      return {
        create: (session, limit) => Promise.race([store.create(session, limit), closed.promise]),
        close() {
          closed.reject(new Error("socket hang up"));
          return store.close();
        },
      };
    },
  ),
];

/** Stores that go wrong where sessions are listed, counted or swept. */
export const brokenListing: readonly BrokenSessionStore[] = [
  answering(
    "says that there is another page whenever one is full",
    ["a page holds as many as were asked for, and only the last names no next one"],
    "list",
    (page, _, { limit }) => {
      const last = page.sessions[limit - 1];
      return { ...page, ...(last && { next: { createTimeMs: last.createTimeMs, id: last.id } }) };
    },
  ),
  asking(
    "lists everybody's sessions for any user",
    ["a user's list holds that user's sessions, the list of all everybody's, all whole"],
    "list",
    ({ userId: _, ...query }) => [query],
  ),
  asking(
    "goes on after all sessions of the same moment",
    ["all pages together are all sessions by creation and then by id, both ways"],
    "list",
    ({ after, ...query }) => {
      const id = query.order === "asc" ? "~" : "";
      return [{ ...query, ...(after && { after: { ...after, id } }) }];
    },
  ),
  broken(
    "counts pages by position",
    ["a session that stays is on exactly one page, whatever changes between the pages"],
    ({ everything, now }) => ({
      async list({ after, limit, order, userId }) {
        const active = (await everything()).filter(
          (session) =>
            session.revokeTimeMs === undefined &&
            now() < session.expireTimeMs &&
            (userId ?? session.userId) === session.userId,
        );
        const start = after?.createTimeMs ?? 0;
        const end = start + limit;
        const sessions = (order === "asc" ? active : active.toReversed()).slice(start, end);
        return { sessions, ...(end < active.length && { next: { createTimeMs: end, id: "0" } }) };
      },
    }),
  ),
  broken(
    "needs the session that the last page ended with",
    ["a walk goes on from where it was after the session it stopped at is gone"],
    ({ store, everything }) => ({
      async list(query) {
        const isKept = (await everything()).some(({ id }) => id === query.after?.id);
        return query.after && !isKept ? { sessions: [] } : store.list(query);
      },
    }),
  ),
  answering(
    "lists ended sessions after the active ones, and no more than eight of a user on a page",
    [
      "pages of every kind are in order across active and ended sessions",
      "pages are full and in order however unevenly users have sessions",
    ],
    "list",
    (page) => {
      const isEnded = ({ revokeTimeMs }: StoredSession) => Number(revokeTimeMs !== undefined);
      const sorted = page.sessions.toSorted((a, b) => isEnded(a) - isEnded(b));
      const ofUsers = Map.groupBy(sorted, ({ userId }) => userId);
      const isShown = (one: StoredSession) => (ofUsers.get(one.userId)?.indexOf(one) ?? 0) < 8;
      return { ...page, sessions: sorted.filter(isShown) };
    },
  ),
  asking(
    "leaves out the start of a range",
    ["a range of creation times includes its start and excludes its end"],
    "list",
    ({ createTimeFromMs: fromMs, ...query }) => [
      { ...query, ...(fromMs !== undefined && { createTimeFromMs: fromMs + 1 }) },
    ],
  ),
  answering(
    "sorts ids as words",
    ["sessions of one moment are in the order of their ids, byte by byte, on pages of any size"],
    "list",
    (page, _, { order }) => {
      const sorted = page.sessions.toSorted(
        (a, b) => a.createTimeMs - b.createTimeMs || a.id.localeCompare(b.id, "en"),
      );
      return { ...page, sessions: order === "asc" ? sorted : sorted.toReversed() };
    },
  ),
  answering(
    "lists by the last access",
    [
      "all pages together are all sessions by creation and then by id, both ways",
      "through any calls and deadlines the store shows what a plain list would",
    ],
    "list",
    ({ sessions, ...page }) => ({
      ...page,
      sessions: sessions.toSorted((a, b) => a.lastAccessTimeMs - b.lastAccessTimeMs),
    }),
  ),
  broken(
    "sweeps active sessions, and everything at once",
    [
      "sweeping an empty store does nothing, and active sessions are never swept",
      "a sweep removes about as many as it was asked to, and says that there is more",
    ],
    ({ store, shifted }) => ({
      sweep: () => shifted(365 * 24 * 3_600_000, () => store.sweep(1_000_000)),
    }),
  ),
  broken(
    "counts what other sweeps have removed as its own",
    ["sweeps that run at once remove each session once, and only what has ended"],
    ({ store, everything }) => ({
      async sweep(limit) {
        const before = (await everything()).length;
        const swept = await store.sweep(limit);
        return { ...swept, reclaimed: before - (await everything()).length };
      },
    }),
  ),
  broken(
    "counts no session as expired",
    [
      "an expired session is counted by the first sweep from its deadline on, and by no other",
      "a session that is swept after its retention only is counted, too",
      "sweeps that run at once count each expired session once",
      "through any calls and deadlines the store shows what a plain list would",
    ],
    ({ store }) => ({ sweep: async (limit) => ({ ...(await store.sweep(limit)), expired: 0 }) }),
  ),
  broken(
    "counts an expired session when it removes the session, too",
    [
      "an expired session is counted by the first sweep from its deadline on, and by no other",
      "a session that is swept after its retention only is counted, too",
      "whoever ends a session first counts it, and nobody else does",
    ],
    ({ store }) => ({
      async sweep(limit) {
        const swept = await store.sweep(limit);
        return { ...swept, expired: swept.expired + swept.reclaimed };
      },
    }),
  ),
  broken(
    "counts expired sessions by a clock that is ahead",
    ["an expired session is counted by the first sweep from its deadline on, and by no other"],
    ({ store, shifted }) => ({ sweep: (limit) => shifted(1, () => store.sweep(limit)) }),
  ),
  broken(
    "counts by the time of the last sweep, whatever the clock did since",
    ["a session that was counted stays ended for every change, even if the clock is set back"],
    ({ store, now }) => {
      let countedUntilMs = 0;
      return {
        async sweep(limit) {
          const swept = await store.sweep(limit);
          const isLater = now() > countedUntilMs;
          countedUntilMs = Math.max(now(), countedUntilMs);
          return { ...swept, expired: isLater ? swept.expired : 0 };
        },
      };
    },
  ),
  {
    fault: "leaves a key behind",
    caughtBy: [
      "after all sessions have ended, however they did, sweeping leaves nothing at all",
      "an expired session is kept until its retention is over, and removed then",
      "a sweep trims events that are older than the retention, and no others",
      "a request that is no longer recognised leaves nothing behind",
      "the tokens go with the session",
    ],
    open: (openCorrect) => async (options) => ({
      ...(await openCorrect(options)),
      leftovers: async () => 1,
      requestReclaimMs: 0,
    }),
  },
];
