import type { ListCursor, ListPage, StoredSession } from "../../sessions/session-store.js";
import { type BrokenSessionStore, broken } from "./broken-session-store.js";

const ALL_PAGES =
  "all pages together are all sessions in the order of creation, then of id, both ways";
const STABLE = "a session that stays is on exactly one page, whatever changes between the pages";
const SWITCHES = "expired and revoked sessions are listed when asked for, each by its own switch";
const RANGE = "a range of creation times includes its start and excludes its end";

function cursorAfter(session: StoredSession | undefined): { readonly next?: ListCursor } {
  return session ? { next: { createTimeMs: session.createTimeMs, id: session.id } } : {};
}

/** Stores that go wrong where sessions are listed or counted. */
export const brokenListing: readonly BrokenSessionStore[] = [
  broken(
    "always says that there is another page",
    ["an empty store lists nothing"],
    ({ store }) => ({
      async list(query): Promise<ListPage> {
        return { next: { createTimeMs: 0, id: "0" }, ...(await store.list(query)) };
      },
    }),
  ),
  broken(
    "says that there is another page whenever one is full",
    ["a page holds as many as were asked for, and only the last one says nothing of a next"],
    ({ store }) => ({
      async list(query) {
        const { sessions } = await store.list(query);
        return { sessions, ...(sessions.length === query.limit && cursorAfter(sessions.at(-1))) };
      },
    }),
  ),
  broken(
    "lists sessions without their records",
    ["a listed session is the whole session"],
    ({ store }) => ({
      async list(query) {
        const page = await store.list(query);
        const bare = page.sessions.map((session) => ({ ...session, record: new Uint8Array() }));
        return { ...page, sessions: bare };
      },
    }),
  ),
  broken("lists the last session of a page on the next page too", [ALL_PAGES], ({ store }) => ({
    async list(query) {
      const page = await store.list(query);
      const last = page.sessions.at(-2) ?? page.sessions.at(-1);
      return { ...page, ...(page.next && cursorAfter(last)) };
    },
  })),
  broken("goes on after all sessions of the same moment", [ALL_PAGES], ({ store }) => ({
    list: ({ after, ...query }) => {
      const id = query.order === "asc" ? "~" : "";
      return store.list({ ...query, ...(after && { after: { ...after, id } }) });
    },
  })),
  broken("always lists the oldest first", [ALL_PAGES], ({ store }) => ({
    list: (query) => store.list({ ...query, order: "asc" }),
  })),
  broken("counts pages by position", [STABLE], ({ store, everything, now }) => ({
    async list({ after, limit, order, userId }) {
      const start = after?.createTimeMs ?? 0;
      const active = (await everything()).filter(
        (session) =>
          session.revokeTimeMs === undefined &&
          now() < session.expireTimeMs &&
          (userId ?? session.userId) === session.userId,
      );
      const ordered = order === "asc" ? active : active.toReversed();
      const end = start + limit;
      const sessions = ordered.slice(start, end);
      void store;
      return { sessions, ...(end < ordered.length && { next: { createTimeMs: end, id: "0" } }) };
    },
  })),
  broken(
    "needs the session that the last page ended with",
    ["a walk goes on from where it was after the session it stopped at is gone"],
    ({ store, everything }) => ({
      async list(query) {
        const ids = new Set((await everything()).map(({ id }) => id));
        if (query.after && !ids.has(query.after.id)) return { sessions: [] };
        return store.list(query);
      },
    }),
  ),
  broken(
    "lists everybody's sessions for any user",
    ["a user's list holds that user's sessions only, the list of all everybody's"],
    ({ store }) => ({ list: ({ userId: _, ...query }) => store.list(query) }),
  ),
  broken("shows expired sessions with the revoked", [SWITCHES], ({ store }) => ({
    list: (query) => store.list({ ...query, showExpired: query.showExpired || query.showRevoked }),
  })),
  broken(
    "takes a revoked session for an expired one past its deadline",
    [
      "a revoked session stays a revoked one past its deadline",
      "a session revoked just before its deadline is kept for the retention all the same",
    ],
    ({ store, now }) => ({
      async list(query) {
        const page = await store.list(query);
        const kept = page.sessions.filter(
          ({ revokeTimeMs, expireTimeMs }) => revokeTimeMs === undefined || now() < expireTimeMs,
        );
        return { ...page, sessions: kept };
      },
    }),
  ),
  broken(
    "hides ended sessions after a sweep",
    ["sweeping leaves what is listed as it is until the retention is over"],
    ({ store }) => {
      let swept = false;
      return {
        sweep(limit) {
          swept = true;
          return store.sweep(limit);
        },
        list: (query) => store.list(swept ? { ...query, showExpired: false } : query),
      };
    },
  ),
  broken(
    "lists ended sessions after the active ones",
    ["pages of every kind are in order across active and ended sessions"],
    ({ store }) => ({
      async list(query) {
        const page = await store.list(query);
        const ended = (session: StoredSession) => Number(session.revokeTimeMs !== undefined);
        const sorted = page.sessions.toSorted((a, b) => ended(a) - ended(b));
        return { ...page, sessions: sorted };
      },
    }),
  ),
  broken("leaves out the start of a range", [RANGE], ({ store }) => ({
    list: ({ createTimeFromMs, ...query }) =>
      store.list({
        ...query,
        ...(createTimeFromMs !== undefined && { createTimeFromMs: createTimeFromMs + 1 }),
      }),
  })),
  broken("takes in the end of a range", [RANGE], ({ store }) => ({
    list: ({ createTimeToMs, ...query }) =>
      store.list({
        ...query,
        ...(createTimeToMs !== undefined && { createTimeToMs: createTimeToMs + 1 }),
      }),
  })),
  broken(
    "lists a thousand sessions and no more",
    ["sessions of many users are listed in pages of a thousand and counted exactly"],
    ({ store }) => ({
      async list(query) {
        if (query.after) return { sessions: [] };
        return store.list(query);
      },
    }),
  ),
  broken(
    "sorts ids as words",
    ["sessions of one moment are in the order of their ids, byte by byte, on pages of any size"],
    ({ store }) => ({
      async list(query) {
        const page = await store.list(query);
        const sorted = page.sessions.toSorted(
          (a, b) => a.createTimeMs - b.createTimeMs || a.id.localeCompare(b.id, "en"),
        );
        return { ...page, sessions: query.order === "asc" ? sorted : sorted.toReversed() };
      },
    }),
  ),
  broken(
    "reads only so many of a user's sessions for a page",
    ["pages are full and in order however unevenly the users have sessions"],
    ({ store }) => ({
      async list(query) {
        const page = await store.list(query);
        const counts = new Map<string, number>();
        const some = page.sessions.filter(({ userId }) => {
          counts.set(userId, (counts.get(userId) ?? 0) + 1);
          return (counts.get(userId) ?? 0) <= 8;
        });
        return { ...page, sessions: some };
      },
    }),
  ),
  broken(
    "counts sessions in the very millisecond in which they end",
    ["of sessions that end around one millisecond exactly those still alive are counted"],
    ({ store, shifted }) => ({ count: (userId) => shifted(-1, () => store.count(userId)) }),
  ),
  broken(
    "counts expired sessions until they are swept",
    ["counts follow every creation, revocation and deadline at once"],
    ({ everything }) => ({
      async count(userId) {
        return (await everything()).filter(
          (session) =>
            session.revokeTimeMs === undefined && (userId ?? session.userId) === session.userId,
        ).length;
      },
    }),
  ),
  broken(
    "lists by the last access",
    ["through any sequence of calls and deadlines the store shows what a plain list would"],
    ({ store }) => ({
      async list(query) {
        const page = await store.list(query);
        const sorted = page.sessions.toSorted((a, b) => a.lastAccessTimeMs - b.lastAccessTimeMs);
        return { ...page, sessions: sorted };
      },
    }),
  ),
];
