import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { SessionEvent } from "@sessiond/proto/sessiond/v1/session_service";
import { expect, test } from "vitest";
import { useDisturbedRedis } from "../testing/disturbed-redis.js";
import { failureOf, SESSION_NOT_FOUND } from "../testing/outcome.js";
import type { SessionServiceClient } from "../testing/protocols.js";
import { byId, byToken, newSession, newUser } from "../testing/session-requests.js";
import {
  expectReadiness,
  orStoreUnavailable,
  untilAnswered,
} from "../testing/store-unavailable.js";
import { within } from "../testing/within.js";

/** How many writes of each of the eight kinds are under way when something happens. */
const WRITES_OF_A_KIND = 15;
/**
 * How long the way to Redis takes, and back: a write that needs no reading first is made
 * after 200 ms and answered after 400 ms, most others are sent after 400 ms and made after 600 ms.
 */
const DELAY_MS = 200;
/** How soon after an outage health checks know: they come every second, and each may have to reconnect. */
const READY_AGAIN_MS = 3_000;

const MISMATCH = { code: "ABORTED", reason: "ETAG_MISMATCH" };

const disturbed = useDisturbedRedis({ policy: { maxSessionsPerUser: 1_000 } });

/** A write that tells afterwards how often it was made. */
interface Write {
  /** Makes the call. It may fail because of the store. */
  begin(): Promise<unknown>;
  /**
   * Holds once all is well again, whether the call was answered or not. Tells if it was
   * made, where that can be known.
   */
  verify(isAnswered: boolean): Promise<boolean | undefined>;
}

/** Prepares a write for a user of its own. */
type PrepareWrite = (client: SessionServiceClient) => Promise<Write>;

const creation: PrepareWrite = async (client) => {
  const request = { userId: newUser(), displayName: randomUUID() };
  return {
    begin: () => client.createSession(request),
    verify: async (isAnswered) => {
      const { sessions } = await client.listSessions({ userId: request.userId });
      expect(sessions.length).toBeLessThanOrEqual(1);
      if (isAnswered) expect(sessions).toHaveLength(1);
      for (const { displayName } of sessions) expect(displayName).toBe(request.displayName);
      return sessions.length === 1;
    },
  };
};

/** Three callers with the same request, each of which gets the one session. */
function repeatedCreation(prefix: string): PrepareWrite {
  return async (client) => {
    const userId = newUser();
    const requestId = randomUUID();
    const sessionId = prefix && `${prefix}-${requestId}`;
    const tokens = new Set<string>();
    const createAll = () =>
      Promise.all(
        disturbed.clients.map(async (caller) => {
          tokens.add((await caller.createSession({ userId, sessionId, requestId })).token);
        }),
      );
    return {
      // One failure stands for all; the others must have got the same if they were answered.
      begin: createAll,
      verify: async () => {
        await createAll();
        const [token = "", ...others] = tokens;
        expect(others).toEqual([]);
        expect((await client.countSessions({ userId })).count).toBe(1);
        expect((await client.verifySession({ token })).session?.userId).toBe(userId);
        return undefined;
      },
    };
  };
}

/** An increment, which two tries would make two, were it not for the etag. */
const increment: PrepareWrite = async (client) => {
  const { session, sessionId } = await newSession(client, { data: { count: 0 } });
  const update = () =>
    client.updateSession({ sessionId, setData: { count: 1 }, etag: session.etag });
  return {
    begin: update,
    verify: async (isAnswered) => {
      const countOf = async () => (await client.getSession({ sessionId })).session?.data?.["count"];
      const count = await countOf();
      if (isAnswered) expect(count).toBe(1);
      // Tried again, it is made if it was not, and otherwise refused.
      if (count === 0) await update();
      else expect(await failureOf(update())).toMatchObject(MISMATCH);
      expect(await countOf()).toBe(1);
      return count === 1;
    },
  };
};

const rotation: PrepareWrite = async (client) => {
  const { sessionId, token } = await newSession(client);
  let newToken: string | undefined;
  return {
    begin: async () => {
      newToken = (await client.rotateSessionToken({ token })).token;
    },
    verify: async () => {
      const { results } = await client.batchVerifySessions({ tokens: [token] });
      const isOldAlive = results[0]?.result.case === "session";
      if (newToken !== undefined) {
        expect(isOldAlive).toBe(false);
        expect(await client.verifySession({ token: newToken })).toBeTruthy();
      }
      // If neither token is known to work, the session can still be ended by its id.
      expect(await client.revokeSession(byId(sessionId))).toMatchObject({ revoked: true });
      expect(await failureOf(client.verifySession({ token }))).toEqual(SESSION_NOT_FOUND);
      return !isOldAlive;
    },
  };
};

function revocation(by: "id" | "token"): PrepareWrite {
  return async (client) => {
    const { sessionId, token } = await newSession(client);
    const revoke = () => client.revokeSession(by === "id" ? byId(sessionId) : byToken(token));
    return {
      begin: revoke,
      verify: async (isAnswered) => {
        const { revoked } = await revoke();
        if (isAnswered) expect(revoked).toBe(false);
        expect(await failureOf(client.verifySession({ token }))).toEqual(SESSION_NOT_FOUND);
        return !revoked;
      },
    };
  };
}

const revocationOfAll: PrepareWrite = async (client) => {
  const userId = newUser();
  await Promise.all([1, 2, 3].map(() => newSession(client, { userId })));
  const revoke = () => client.revokeUserSessions({ userId });
  return {
    begin: revoke,
    verify: async (isAnswered) => {
      const { revokedCount } = await revoke();
      if (isAnswered) expect(revokedCount).toBe(0);
      expect((await client.countSessions({ userId })).count).toBe(0);
      return revokedCount === 0;
    },
  };
};

const KINDS: readonly PrepareWrite[] = [
  creation,
  repeatedCreation(""),
  repeatedCreation("jti"),
  increment,
  rotation,
  revocation("id"),
  revocation("token"),
  revocationOfAll,
];

const freeze = () => disturbed.redis.pause();
const loseAnswers = () => disturbed.network.halfOpen();
/** More than there are, so that all are lost that come in this time. */
const dropAnswers = () => disturbed.network.dropReplies(100_000);
const cut = () => disturbed.network.cut();

/** What happens, how long after the writes began, and how long it lasts. */
const OUTAGES: readonly [what: string, beginMs: number, lastsMs: number, begin: () => void][] = [
  ["Redis is frozen before anything is sent", 0, 3_000, freeze],
  ["Redis is frozen once all is sent that needs no reading first", 100, 3_000, freeze],
  ["Redis is frozen once all else is sent, too", 500, 3_000, freeze],
  ["Redis is frozen for so short that the connection outlives it", 500, 1_200, freeze],
  ["nothing comes back for five seconds", 0, 5_000, loseAnswers],
  ["nothing more comes back for five seconds", 500, 5_000, loseAnswers],
  ["answers are lost, then connections", 100, 500, dropAnswers],
  ["connections are cut", 300, 0, cut],
  ["connections are cut later", 700, 0, cut],
];

/** How many writes were made in all without an answer to their callers. */
let madeUnanswered = 0;

test.each(OUTAGES)(
  "each write is made at most once, and can be repeated, when %s",
  async (_, beginMs, lastsMs, begin) => {
    const { clientAt, network, redis, server } = disturbed;
    const client = clientAt(0);
    // Redis knows the scripts then, and the server Redis: no write takes more steps than it must.
    for (const prepare of KINDS) {
      const write = await prepare(client);
      await write.begin();
      await write.verify(true);
    }
    const { resumeToken } = await eventsUntilNow(client);
    const prepared = KINDS.flatMap((prepare) =>
      Array.from({ length: WRITES_OF_A_KIND }, (_, i) => prepare(clientAt(i))),
    );
    const writes = await Promise.all(prepared);

    network.delay(DELAY_MS);
    const answers = Promise.all(writes.map((write) => orStoreUnavailable(write.begin)));
    await sleep(beginMs);
    begin();
    const meanwhile = callMeanwhile(lastsMs);
    await sleep(lastsMs);
    redis.resume();
    network.pass();
    const recovery = async () => {
      const ended = await Promise.all([answers, meanwhile]);
      await untilAnswered(() => client.countSessions({}));
      await expectReadiness(server, 200);
      return ended;
    };
    const [isAnswered, laterWrites] = await within(READY_AGAIN_MS, recovery());
    expect(isAnswered).toContain(false);

    const isMade = await Promise.all(writes.map(({ verify }, i) => verify(isAnswered[i] ?? false)));
    madeUnanswered += isMade.filter((made, i) => made === true && !isAnswered[i]).length;
    await Promise.all(laterWrites.map(({ verify }) => verify(false)));
    expectNoneTwice((await eventsUntilNow(client, resumeToken)).events);
  },
);

// In which outage that was makes no difference, and depends on what else the machine does.
test("of those writes many were made though their callers were told of an outage", () => {
  expect(madeUnanswered).toBeGreaterThan(OUTAGES.length);
});

/** Begins a write and a read ten times a second. Answers the writes, which have all ended by then. */
async function callMeanwhile(forMs: number): Promise<readonly Write[]> {
  const writes: Write[] = [];
  const calls: Promise<unknown>[] = [];
  const endMs = performance.now() + forMs;
  while (performance.now() < endMs) {
    const client = disturbed.clientAt(writes.length);
    const write = await creation(client);
    writes.push(write);
    calls.push(orStoreUnavailable(write.begin));
    calls.push(orStoreUnavailable(() => client.countSessions({})));
    await sleep(100);
  }
  await Promise.all(calls);
  return writes;
}

/** The events since a token, or none, until now. */
async function eventsUntilNow(client: SessionServiceClient, resumeToken = "") {
  const events: SessionEvent[] = [];
  for await (const { message, resumeToken: next } of client.watchSessions({ resumeToken })) {
    if (message.case === "checkpoint") return { events, resumeToken: next };
    if (message.case !== "events") throw new Error(`unexpected ${message.case}`);
    events.push(...message.value.events);
  }
  throw new Error("the watch ended");
}

/** Every version of a session was made by one change, and none is missing. */
function expectNoneTwice(events: readonly SessionEvent[]): void {
  const versions = Map.groupBy(events, ({ sessionId }) => sessionId);
  expect(versions.size).toBeGreaterThan(0);
  for (const changes of versions.values()) {
    expect(changes.map(({ version }) => Number(version))).toEqual(changes.map((_, i) => i + 1));
  }
}
