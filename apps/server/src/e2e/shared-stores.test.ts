import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Keyring } from "@sessiond/core";
import { startRedisServer } from "@sessiond/core/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Failure, failureOf } from "../testing/outcome.js";
import {
  clientOver,
  GRPC,
  PROTOBUF_OVER_HTTP,
  type SessionServiceClient,
} from "../testing/protocols.js";
import { startTestIssuer, startTestServer, type TestServer } from "../testing/test-server.js";
import type { TestStore } from "../testing/test-stores.js";

const CONCURRENT_CREATES = 1000;
const LIMIT = 10;
const NOT_FOUND = { code: "NOT_FOUND", reason: "SESSION_NOT_FOUND" };

describe.each([
  { name: "Redis", open: startRedisServer },
  { name: "SQLite file", open: openSqliteFile },
])("two servers on one $name", ({ open }) => {
  const opened = new AsyncDisposableStack();
  let first: SessionServiceClient;
  let second: SessionServiceClient;
  let rejecting: SessionServiceClient;

  beforeAll(async () => {
    const { url: store } = opened.use(await open());
    const issuer = opened.adopt(await startTestIssuer(), (started) => started.close());
    const shared = { store, issuer, keyring: Keyring.parse(Keyring.generateKey()) };
    const start = async (options: object = {}): Promise<TestServer> =>
      opened.use(await startTestServer({ ...shared, ...options }));
    first = clientOver(GRPC, await start());
    second = clientOver(PROTOBUF_OVER_HTTP, await start());
    rejecting = clientOver(GRPC, await start({ policy: { policy: "reject" } }));
  });
  afterAll(() => opened.disposeAsync());

  test("a session created through one is verified through the other, and is the same", async () => {
    for (const sessionId of ["", "jti-1"]) {
      const { session, token } = await first.createSession({
        userId: "ann",
        sessionId,
        displayName: "Ann",
        data: { theme: "dark" },
      });
      expect((await second.verifySession({ token })).session).toEqual(session);
      const id = session?.id ?? "";
      expect((await second.getSession({ sessionId: id })).session).toEqual(session);
    }
  });

  test("a session revoked through one is refused by the other at once", async () => {
    for (let i = 0; i < 20; i++) {
      const { session, token } = await first.createSession({ userId: "bob" });
      await second.verifySession({ token });
      const target = { case: "sessionId", value: session?.id ?? "" } as const;
      expect((await first.revokeSession({ target })).revoked).toBe(true);
      expect(await failureOf(second.verifySession({ token }))).toMatchObject(NOT_FOUND);
      expect((await second.revokeSession({ target })).revoked).toBe(false);
    }
  });

  test("a token rotated through one is dead for the other, and of two racers one wins", async () => {
    const { token } = await first.createSession({ userId: "cem" });
    const outcomes = await Promise.allSettled(
      Array.from({ length: 20 }, (_, i) => (i % 2 ? first : second).rotateSessionToken({ token })),
    );
    const won = outcomes.filter((outcome) => outcome.status === "fulfilled");
    expect(won).toHaveLength(1);
    for (const client of [first, second]) {
      expect(await failureOf(client.verifySession({ token }))).toMatchObject(NOT_FOUND);
      expect(await client.verifySession({ token: won[0]?.value.token ?? "" })).toBeTruthy();
    }
  });

  test("updates through both at once each keep what they changed", async () => {
    const { session } = await first.createSession({ userId: "dee" });
    const sessionId = session?.id ?? "";
    await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        (i % 2 ? first : second).updateSession({
          sessionId,
          session: { data: { [`key_${i}`]: i } },
          updateMask: { paths: [`data.key_${i}`] },
        }),
      ),
    );
    const { session: updated } = await first.getSession({ sessionId });
    expect(Object.keys(updated?.data ?? {})).toHaveLength(40);
  });

  test("of two updates with the same etag, one through each, one is refused", async () => {
    const { session } = await first.createSession({ userId: "eve" });
    const update = (client: SessionServiceClient, displayName: string) =>
      client.updateSession({
        sessionId: session?.id ?? "",
        session: { displayName },
        updateMask: { paths: ["display_name"] },
        etag: session?.etag ?? "",
      });
    const outcomes = await Promise.allSettled([update(first, "A"), update(second, "B")]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  });

  test("a thousand creates for one user at once leave exactly ten sessions", async () => {
    const userId = "thousand";
    const created = await Promise.all(
      Array.from({ length: CONCURRENT_CREATES }, (_, i) =>
        (i % 2 ? first : second).createSession({ userId }),
      ),
    );
    const evicted = created.flatMap(({ evictedSessionIds }) => evictedSessionIds);
    expect(new Set(evicted).size).toBe(CONCURRENT_CREATES - LIMIT);
    expect(evicted).toHaveLength(CONCURRENT_CREATES - LIMIT);
    await expectActive(userId, LIMIT);

    const tokens = created.map(({ token }) => token);
    const { results } = await second.batchVerifySessions({ tokens });
    expect(results.filter(({ result }) => result.case === "session")).toHaveLength(LIMIT);
  });

  test("a thousand creates at once under the policy reject admit exactly ten", async () => {
    const userId = "rejected";
    const outcomes = await Promise.all(
      Array.from({ length: CONCURRENT_CREATES }, () =>
        rejecting.createSession({ userId }).then(
          () => undefined,
          (error) => failureOf(Promise.reject(error)),
        ),
      ),
    );
    const refused = outcomes.filter((outcome): outcome is Failure => outcome !== undefined);
    expect(refused).toHaveLength(CONCURRENT_CREATES - LIMIT);
    expect(new Set(refused.map(({ reason }) => reason))).toEqual(
      new Set(["SESSION_LIMIT_REACHED"]),
    );
    await expectActive(userId, LIMIT);
  });

  async function expectActive(userId: string, expected: number): Promise<void> {
    for (const client of [first, second]) {
      expect((await client.countSessions({ userId })).count).toBe(expected);
      const { sessions, nextPageToken } = await client.listSessions({ userId, pageSize: 1000 });
      expect(sessions).toHaveLength(expected);
      expect(nextPageToken).toBe("");
    }
  }
});

async function openSqliteFile(): Promise<TestStore> {
  const directory = await mkdtemp(join(tmpdir(), "sessiond-shared-"));
  return {
    url: `sqlite:${join(directory, "sessions.db")}`,
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true }),
  };
}
