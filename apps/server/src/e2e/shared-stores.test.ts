import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { Keyring } from "@sessiond/core";
import { startRedisServer } from "@sessiond/core/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { failureOf, SESSION_NOT_FOUND } from "../testing/outcome.js";
import {
  clientOver,
  GRPC,
  PROTOBUF_OVER_HTTP,
  type SessionServiceClient,
} from "../testing/protocols.js";
import { byId, newSession, newUser } from "../testing/session-requests.js";
import { temporaryDirectory } from "../testing/temporary-directory.js";
import { startTestIssuer, startTestServer } from "../testing/test-server.js";
import type { TestStore } from "../testing/test-stores.js";

const CONCURRENT_CREATES = 1000;
const LIMIT = 10;
const SLOW = { timeout: 120_000 };

async function openSqliteFile(): Promise<TestStore> {
  const directory = await temporaryDirectory();
  return Object.assign(directory, { url: `sqlite:${join(directory.path, "sessions.db")}` });
}

/** Creates one session, and tries again when a busy machine answers too late. */
async function createOnce(client: SessionServiceClient, userId: string) {
  const request = { userId, requestId: randomUUID() };
  for (;;) {
    try {
      return await client.createSession(request);
    } catch (error) {
      if (ConnectError.from(error).code !== Code.Unavailable) throw error;
      await sleep(1_000 * Math.random());
    }
  }
}

describe.each([
  { name: "Redis", open: startRedisServer },
  { name: "SQLite file", open: openSqliteFile },
])("two servers on one $name", ({ open }) => {
  const opened = new AsyncDisposableStack();
  let first: SessionServiceClient;
  let second: SessionServiceClient;

  beforeAll(async () => {
    const { url: store } = opened.use(await open());
    const issuer = opened.adopt(await startTestIssuer(), (started) => started.close());
    const shared = { store, issuer, keyring: Keyring.parse(Keyring.generateKey()) };
    const start = async () => opened.use(await startTestServer(shared));
    first = clientOver(GRPC, await start());
    second = clientOver(PROTOBUF_OVER_HTTP, await start());
  });
  afterAll(() => opened.disposeAsync());

  /** Makes calls through both servers at once. */
  function alternate<T>(count: number, call: (client: SessionServiceClient, i: number) => T): T[] {
    return Array.from({ length: count }, (_, i) => call(i % 2 ? first : second, i));
  }

  test("a session created through one is verified through the other, and is the same", async () => {
    for (const chosenId of ["", "jti-1"]) {
      const content = { sessionId: chosenId, displayName: "Ann", data: { theme: "dark" } };
      const { session, sessionId, token } = await newSession(first, content);
      expect((await second.verifySession({ token })).session).toEqual(session);
      expect((await second.getSession({ sessionId })).session).toEqual(session);
    }
  });

  test("a session revoked through one is refused by the other at once", async () => {
    for (let i = 0; i < 20; i++) {
      const { sessionId, token } = await newSession(first);
      await second.verifySession({ token });
      expect((await first.revokeSession(byId(sessionId))).revoked).toBe(true);
      expect(await failureOf(second.verifySession({ token }))).toEqual(SESSION_NOT_FOUND);
      expect((await second.revokeSession(byId(sessionId))).revoked).toBe(false);
    }
  });

  test("a token rotated through one is dead for the other, and of two racers one wins", async () => {
    const { token } = await newSession(first);
    const rotations = alternate(20, (client) => client.rotateSessionToken({ token }));
    const outcomes = await Promise.allSettled(rotations);
    const won = outcomes.filter((outcome) => outcome.status === "fulfilled");
    expect(won).toHaveLength(1);
    for (const client of [first, second]) {
      expect(await failureOf(client.verifySession({ token }))).toEqual(SESSION_NOT_FOUND);
      expect(await client.verifySession({ token: won[0]?.value.token ?? "" })).toBeTruthy();
    }
  });

  test("a thousand creates for one user at once leave exactly ten sessions", SLOW, async () => {
    const userId = newUser();
    const creates = alternate(CONCURRENT_CREATES, (client) => createOnce(client, userId));
    const created = await Promise.all(creates);
    const evicted = created.flatMap(({ evictedSessionIds }) => evictedSessionIds);
    expect(new Set(evicted).size).toBe(CONCURRENT_CREATES - LIMIT);
    expect(evicted).toHaveLength(CONCURRENT_CREATES - LIMIT);
    for (const client of [first, second]) {
      expect((await client.countSessions({ userId })).count).toBe(LIMIT);
      const { sessions, nextPageToken } = await client.listSessions({ userId, pageSize: 1000 });
      expect(sessions).toHaveLength(LIMIT);
      expect(nextPageToken).toBe("");
    }
    const tokens = created.map(({ token }) => token);
    const { results } = await second.batchVerifySessions({ tokens });
    expect(results.filter(({ result }) => result.case === "session")).toHaveLength(LIMIT);
  });
});
