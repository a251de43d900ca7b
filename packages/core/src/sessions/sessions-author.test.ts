import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RedisSessionStore } from "../redis/index.js";
import { SqliteSessionStore } from "../sqlite/index.js";
import { readToEnd } from "../testing/contract/sessions/fixtures.js";
import { connectTo } from "../testing/redis/connect-to.js";
import { startRedisServer } from "../testing/redis/redis-server.js";
import type { SessionChange } from "../watch/author.js";
import { Keyring } from "./keyring.js";
import type { SessionStore } from "./session-store.js";
import { Sessions } from "./sessions.js";

const KEYRING = Keyring.parse(Keyring.generateKey());
const CALLERS = ["web", "api", "x".repeat(1_000)];
const USERS = ["ann", "bob"];

const STORES = [
  ["SQLite", async () => ({ store: await SqliteSessionStore.open({ path: ":memory:" }) })],
  [
    "Redis",
    async () => {
      const redis = await startRedisServer();
      const store = new RedisSessionStore({ redis: await connectTo({ port: redis.port }) });
      return { store, stop: () => redis.stop() };
    },
  ],
] as const satisfies readonly (readonly [
  string,
  () => Promise<{ store: SessionStore; stop?: () => Promise<unknown> }>,
])[];

/** A call by any caller, of whatever session it finds. */
const CALL = fc.record({
  what: fc.constantFrom("create", "update", "rotate", "reuse", "revoke", "revoke all"),
  by: fc.nat(CALLERS.length - 1),
  user: fc.constantFrom(...USERS),
  which: fc.nat(7),
});

interface Known {
  readonly id: string;
  readonly first: string;
  token: string;
}

async function make(
  sessions: Sessions,
  known: Known[],
  { what, user: userId, which }: { what: string; user: string; which: number },
): Promise<unknown> {
  const one = known[which % Math.max(1, known.length)];
  if (what === "revoke all") return sessions.revokeUser(userId, { reason: what });
  if (what === "create" || one === undefined) {
    const { session, token } = await sessions.create({ userId });
    return known.push({ id: session.id, first: token, token });
  }
  if (what === "update") return sessions.update(one.id, { displayName: "x" });
  if (what === "reuse") return sessions.verify(one.first);
  if (what === "revoke") return sessions.revoke({ sessionId: one.id }, what);
  one.token = (await sessions.rotateToken(one.token)).token;
  return one;
}

/** As text, because calls at once have no order. */
const sorted = (changes: readonly object[]) => changes.map((one) => JSON.stringify(one)).toSorted();

describe.each(STORES)("on %s", (_, open) => {
  test("whatever callers do at once, each is told the changes that the events say are theirs", async () => {
    const opened: { store: SessionStore; stop?: () => Promise<unknown> } = await open();
    const { store } = opened;
    const policy = { maxSessionsPerUser: 3 };
    const sessions = new Sessions({ store, keyring: KEYRING, policy });
    let told: (SessionChange & { by: string })[] = [];
    const callers = CALLERS.map((name) => {
      const by = name.slice(0, 256);
      const changed = (change: SessionChange) => void told.push({ ...change, by });
      return sessions.by({ name, changed, limitReached: () => {} });
    });
    const seen = new Set<string>();
    await fc.assert(
      fc.asyncProperty(fc.array(CALL, { minLength: 10, maxLength: 40 }), async (calls) => {
        told = [];
        const known: Known[] = [];
        const start = await store.events.end();
        for (let i = 0; i < calls.length; i += 4) {
          const atOnce = calls.slice(i, i + 4);
          const answers = atOnce.map((call) => make(callers[call.by] ?? sessions, known, call));
          await Promise.allSettled(answers);
        }
        const { events } = await readToEnd(store, start);
        const fromEvents = events.map(({ type, sessionId, userId, version, reason, changedBy }) => {
          seen.add(type);
          const ended = reason !== undefined && { reason };
          return { type, sessionId, userId, version, ...ended, by: changedBy };
        });
        expect(sorted(told)).toEqual(sorted(fromEvents));
      }),
      { numRuns: 60 },
    );
    expect(seen.size).toBe(6);
    await store.close();
    await opened.stop?.();
  });
});

test("an author is told of a session that the limit refused, and which limit", async () => {
  const store = await SqliteSessionStore.open({ path: ":memory:" });
  const policy = { maxSessionsPerUser: 1, policy: "reject" } as const;
  const refused: unknown[] = [];
  const sessions = new Sessions({ store, keyring: KEYRING, policy }).by({
    name: "web",
    changed: () => {},
    limitReached: (...of) => void refused.push(of),
  });
  await sessions.create({ userId: "ann" });
  const another = sessions.create({ userId: "ann" });
  await expect(another).rejects.toMatchObject({ reason: "SESSION_LIMIT_REACHED" });
  expect(refused).toEqual([["ann", 1]]);
  await store.close();
});
