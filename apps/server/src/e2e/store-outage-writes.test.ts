import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type RedisServer,
  startRedisServer,
  startTcpFaultProxy,
  type TcpFaultProxy,
} from "@sessiond/core/testing";
import type { SessionEvent } from "@sessiond/proto/sessiond/v1/session_service";
import { afterEach, beforeEach, expect, test } from "vitest";
import { failureOf } from "../testing/outcome.js";
import {
  clientOver,
  GRPC,
  JSON_OVER_HTTP,
  PROTOBUF_OVER_HTTP,
  type SessionServiceClient,
} from "../testing/protocols.js";
import {
  expectReadiness,
  orStoreUnavailable,
  untilAnswered,
} from "../testing/store-unavailable.js";
import { startTestServer, type TestServer } from "../testing/test-server.js";

/** How many writes of each of the eight kinds are under way when something happens. */
const WRITES_OF_A_KIND = 15;
/**
 * How long the way to Redis takes, and back: what needs no reading first is made after
 * 200 ms and answered after 400 ms, most else sent after 400 ms and made after 600 ms.
 */
const DELAY_MS = 200;
/** How soon after an outage health checks know: they come every second, and each may have to reconnect. */
const READY_AGAIN_MS = 3_000;
const MANY_PER_USER = 1_000;

const NOT_FOUND = { code: "NOT_FOUND", reason: "SESSION_NOT_FOUND" };
const MISMATCH = { code: "ABORTED", reason: "ETAG_MISMATCH" };

let redis: RedisServer;
let network: TcpFaultProxy;
let server: TestServer;
let clients: readonly [SessionServiceClient, ...SessionServiceClient[]];

beforeEach(async () => {
  redis = await startRedisServer();
  network = await startTcpFaultProxy({ host: "127.0.0.1", port: redis.port });
  server = await startTestServer({
    store: `redis://127.0.0.1:${network.port}`,
    policy: { maxSessionsPerUser: MANY_PER_USER },
  });
  const [grpc, json, protobuf] = [GRPC, JSON_OVER_HTTP, PROTOBUF_OVER_HTTP];
  clients = [clientOver(grpc, server), clientOver(json, server), clientOver(protobuf, server)];
});
afterEach(async () => {
  redis.resume();
  network.pass();
  await server[Symbol.asyncDispose]();
  await network.stop();
  await redis.stop();
});

/** A write of which it is found out afterwards how often it was made. */
interface Write {
  /** Makes the call. It may fail for want of the store. */
  begin(): Promise<unknown>;
  /**
   * Holds once all is well again, whether the call was answered or not. Answers whether
   * it was made, where that can be told.
   */
  verify(isAnswered: boolean): Promise<boolean | undefined>;
}

/** Prepares a write of a user of its own. */
type PrepareWrite = (client: SessionServiceClient) => Promise<Write>;

const creation: PrepareWrite = async (client) => {
  const request = { userId: `user-${randomUUID()}`, displayName: randomUUID() };
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

/** Three callers with the same request, of which each gets the one session. */
function repeatedCreation(sessionId: string): PrepareWrite {
  return async () => {
    const request = {
      userId: `user-${randomUUID()}`,
      sessionId: sessionId && `${sessionId}-${randomUUID()}`,
      requestId: randomUUID(),
    };
    const tokens: string[] = [];
    const create = async (client: SessionServiceClient) => {
      tokens.push((await client.createSession(request)).token);
    };
    return {
      // One failure stands for all; whoever was answered must have got the same.
      begin: () => Promise.all(clients.map(create)),
      verify: async () => {
        for (const client of clients)
          await client.createSession(request).then(({ token }) => tokens.push(token));
        expect(new Set(tokens).size).toBe(1);
        const { count } = await clients[0].countSessions({ userId: request.userId });
        expect(count).toBe(1);
        const [token = ""] = tokens;
        expect((await clients[0].verifySession({ token })).session?.userId).toBe(request.userId);
        return undefined;
      },
    };
  };
}

/** An increment, which two tries of would make two, were it not for the etag. */
const increment: PrepareWrite = async (client) => {
  const userId = `user-${randomUUID()}`;
  const { session } = await client.createSession({ userId, data: { count: 0 } });
  const request = {
    sessionId: session?.id ?? "",
    session: { data: { count: 1 } },
    updateMask: { paths: ["data.count"] },
    etag: session?.etag ?? "",
  };
  return {
    begin: () => client.updateSession(request),
    verify: async (isAnswered) => {
      const countOf = async () =>
        (await client.getSession({ sessionId: request.sessionId })).session?.data?.["count"];
      const count = await countOf();
      if (isAnswered) expect(count).toBe(1);
      // Tried again, it is made if it was not, and otherwise refused.
      if (count === 0) await client.updateSession(request);
      else expect(await failureOf(client.updateSession(request))).toMatchObject(MISMATCH);
      expect(await countOf()).toBe(1);
      return count === 1;
    },
  };
};

const rotation: PrepareWrite = async (client) => {
  const old = await client.createSession({ userId: `user-${randomUUID()}` });
  let newToken: string | undefined;
  return {
    begin: async () => {
      newToken = (await client.rotateSessionToken({ token: old.token })).token;
    },
    verify: async () => {
      const { results } = await client.batchVerifySessions({ tokens: [old.token] });
      const isOldAlive = results[0]?.result.case === "session";
      if (newToken !== undefined) {
        expect(isOldAlive).toBe(false);
        expect(await client.verifySession({ token: newToken })).toBeTruthy();
      }
      // Where neither is known to work, the session can still be ended by its id.
      const target = { case: "sessionId", value: old.session?.id ?? "" } as const;
      expect(await client.revokeSession({ target })).toMatchObject({ revoked: true });
      expect(await failureOf(client.verifySession({ token: old.token }))).toMatchObject(NOT_FOUND);
      return !isOldAlive;
    },
  };
};

function revocation(by: "sessionId" | "token"): PrepareWrite {
  return async (client) => {
    const { session, token } = await client.createSession({ userId: `user-${randomUUID()}` });
    const value = by === "token" ? token : (session?.id ?? "");
    const revoke = () => client.revokeSession({ target: { case: by, value } });
    return {
      begin: revoke,
      verify: async (isAnswered) => {
        const { revoked } = await revoke();
        if (isAnswered) expect(revoked).toBe(false);
        expect(await failureOf(client.verifySession({ token }))).toMatchObject(NOT_FOUND);
        return !revoked;
      },
    };
  };
}

const revocationOfAll: PrepareWrite = async (client) => {
  const userId = `user-${randomUUID()}`;
  await Promise.all([1, 2, 3].map(() => client.createSession({ userId })));
  return {
    begin: () => client.revokeUserSessions({ userId }),
    verify: async (isAnswered) => {
      const { revokedCount } = await client.revokeUserSessions({ userId });
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
  revocation("sessionId"),
  revocation("token"),
  revocationOfAll,
];

/** What happens to the writes, and when, in ms after they began. */
interface Outage {
  readonly name: string;
  readonly beginMs: number;
  readonly begin: () => void;
  readonly lastsMs: number;
  readonly end: () => void;
}

const frozen = (name: string, beginMs: number, lastsMs: number): Outage => ({
  name: `Redis is frozen ${name}`,
  beginMs,
  begin: () => redis.pause(),
  lastsMs,
  end: () => redis.resume(),
});
/** What the network does, until it passes everything again. */
const disturbed = (name: string, beginMs: number, lastsMs: number, begin: () => void): Outage => ({
  name,
  beginMs,
  begin,
  lastsMs,
  end: () => {},
});

const OUTAGES: readonly Outage[] = [
  frozen("before anything is sent", 0, 3_000),
  frozen("once all is sent that needs no reading first", 100, 3_000),
  frozen("once all else is sent, too", 500, 3_000),
  frozen("for so short that the connection outlives it", 500, 1_200),
  disturbed("nothing comes back for five seconds", 0, 5_000, () => network.halfOpen()),
  disturbed("nothing more comes back for five seconds", 500, 5_000, () => network.halfOpen()),
  // More than there are, so that all are lost that come in this time.
  disturbed("answers are lost, then connections", 100, 500, () => network.dropReplies(100_000)),
  disturbed("connections are cut", 300, 0, () => network.cut()),
  disturbed("connections are cut later", 700, 0, () => network.cut()),
];

/** How many writes were made in all that nobody was told of. */
let madeUnanswered = 0;

test.each(OUTAGES)(
  "each write is made at most once, and can be repeated, when $name",
  async (outage) => {
    // Redis knows the scripts then, and the server Redis: no write takes more steps than it must.
    await Promise.all(
      KINDS.map(async (prepare) => {
        const { begin, verify } = await prepare(clients[0]);
        await begin();
        await verify(true);
      }),
    );
    const resumeToken = await firstResumeToken(clients[0]);
    const writes = await Promise.all(
      KINDS.flatMap((prepare) =>
        Array.from({ length: WRITES_OF_A_KIND }, (_, i) => prepare(clients[i % 3] ?? clients[0])),
      ),
    );

    network.delay(DELAY_MS);
    const answers = Promise.all(writes.map(({ begin }) => orStoreUnavailable(begin)));
    await sleep(outage.beginMs);
    outage.begin();
    const meanwhile = callMeanwhile(outage.lastsMs);
    await sleep(outage.lastsMs);
    outage.end();
    network.pass();
    const endedMs = performance.now();
    const [isAnswered, laterWrites] = await Promise.all([answers, meanwhile]);
    expect(isAnswered).toContain(false);

    await untilAnswered(() => clients[0].countSessions({}));
    await expectReadiness(server, 200);
    expect(performance.now() - endedMs).toBeLessThan(READY_AGAIN_MS);

    const isMade = await Promise.all(writes.map(({ verify }, i) => verify(isAnswered[i] ?? false)));
    madeUnanswered += isMade.filter((made, i) => made === true && !isAnswered[i]).length;
    await Promise.all(laterWrites.map(({ verify }) => verify(false)));
    expectNoneTwice(await eventsSince(clients[0], resumeToken));
  },
);

// In which case it was makes no difference, and depends on what else the machine does.
test("of those writes many were made though their callers were told of an outage", () => {
  expect(madeUnanswered).toBeGreaterThan(OUTAGES.length);
});

/** Begins a write and a read ten times a second. Answers the writes, each of which has ended by then. */
async function callMeanwhile(forMs: number): Promise<readonly Write[]> {
  const writes: Write[] = [];
  const calls: Promise<unknown>[] = [];
  const endMs = performance.now() + forMs;
  while (performance.now() < endMs) {
    const client = clients[writes.length % clients.length] ?? clients[0];
    const write = await creation(client);
    writes.push(write);
    calls.push(orStoreUnavailable(write.begin));
    calls.push(orStoreUnavailable(() => client.countSessions({})));
    await sleep(100);
  }
  await Promise.all(calls);
  return writes;
}

async function firstResumeToken(client: SessionServiceClient): Promise<string> {
  for await (const { resumeToken } of client.watchSessions({})) return resumeToken;
  throw new Error("the watch ended");
}

/** All events after a token until now. */
async function eventsSince(
  client: SessionServiceClient,
  resumeToken: string,
): Promise<readonly SessionEvent[]> {
  const events: SessionEvent[] = [];
  for await (const { message } of client.watchSessions({ resumeToken })) {
    if (message.case === "events") events.push(...message.value.events);
    else if (message.case === "checkpoint") return events;
    else throw new Error(`unexpected ${message.case}`);
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
