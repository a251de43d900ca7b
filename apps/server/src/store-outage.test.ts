import { startRedisServer } from "@sessiond/core/testing";
import { describe, expect, test, vi } from "vitest";
import { HealthClient } from "./testing/health-client.js";
import { failureOf } from "./testing/outcome.js";
import { startTestServer, type TestServer } from "./testing/test-server.js";
import { clientOver, GRPC, JSON_OVER_HTTP, type SessionServiceClient } from "./testing/wires.js";

const SERVICE = "sessiond.v1.SessionService";
/** How fast a call says that the store does not answer. */
const MAX_ANSWER_MS = 2_000;
/** Checks come once a second, and so does the next try to reconnect. */
const PATIENCE = { timeout: 15_000, interval: 20 };

describe("health", () => {
  test("a server on SQLite is ready from the start, and tells it to whoever asks", async () => {
    await using server = await startTestServer();
    using health = new HealthClient(server.grpcAddress);
    expect(await health.check()).toBe("SERVING");
    expect(await health.check(SERVICE)).toBe("SERVING");
    await expect(health.check("nonsense")).rejects.toMatchObject({ code: 5 });
    expect(await get(server, "/readyz")).toEqual([200, "ready\n"]);
    expect(await get(server, "/healthz")).toEqual([200, "ok\n"]);
    expect(await get(server, "/healthz?verbose")).toEqual([200, "ok\n"]);
  });
});

describe.concurrent("while Redis does not answer", () => {
  test("every call says so within two seconds, and all recovers by itself", async () => {
    await using redis = await startRedisServer();
    await using server = await startTestServer({ store: redis.url });
    using health = new HealthClient(server.grpcAddress);
    const watches = [health.watch(), health.watch(SERVICE)];
    const clients = [GRPC, JSON_OVER_HTTP].map((wire) => clientOver(wire, server));
    const [client] = clients as [SessionServiceClient];
    const { session, token } = await client.createSession({ userId: "ann" });
    const sessionId = session?.id ?? "";

    redis.pause();
    // Twice: first the connection hangs, later there is none.
    for (let round = 1; round <= 2; round++) {
      const calls = clients.flatMap((each) => everyCall(each, sessionId, token));
      await Promise.all(calls.map(expectStoreUnavailable));
    }
    await expectReadiness(server, 503);
    expect(await health.check()).toBe("NOT_SERVING");
    expect(await health.check(SERVICE)).toBe("NOT_SERVING");
    // The process is fine, and to restart it would help nobody.
    expect(await get(server, "/healthz")).toEqual([200, "ok\n"]);

    redis.resume();
    await expectReadiness(server, 200);
    expect(await health.check()).toBe("SERVING");
    expect((await client.createSession({ userId: "bob" })).token).toMatch(/^sst_/);
    for (const watch of watches) {
      await watch.heard(3);
      expect(watch.statuses).toEqual(["SERVING", "NOT_SERVING", "SERVING"]);
    }
  });

  test("a server can start, is not ready, and is once Redis comes", async () => {
    const { port, url } = await withoutRedis();
    await using server = await startTestServer({ store: url });
    using health = new HealthClient(server.grpcAddress);
    const client = clientOver(GRPC, server);
    expect(await get(server, "/readyz")).toEqual([503, "store unavailable\n"]);
    expect(await health.check()).toBe("NOT_SERVING");
    await expectStoreUnavailable(() => client.createSession({ userId: "ann" }));

    await using _redis = await startRedisServer({ port });
    await expectReadiness(server, 200);
    expect(await health.check(SERVICE)).toBe("SERVING");
    const { token } = await client.createSession({ userId: "ann" });
    expect((await client.verifySession({ token })).session?.userId).toBe("ann");
  });

  test("a server can start though Redis is frozen", async () => {
    await using redis = await startRedisServer();
    redis.pause();
    await using server = await startTestServer({ store: redis.url });
    expect(await get(server, "/readyz")).toEqual([503, "store unavailable\n"]);
    redis.resume();
    await expectReadiness(server, 200);
    expect((await clientOver(GRPC, server).countSessions({})).count).toBe(0);
  });

  test("a Redis that was restarted is used again, though it forgot its scripts", async () => {
    const redis = await startRedisServer();
    await using server = await startTestServer({ store: redis.url });
    const client = clientOver(GRPC, server);
    await client.createSession({ userId: "ann" });
    await redis.kill();
    await expectStoreUnavailable(() => client.createSession({ userId: "ann" }));
    await expectReadiness(server, 503);
    await using _restarted = await startRedisServer({ port: redis.port });
    await expectReadiness(server, 200);
    const { token } = await client.createSession({ userId: "ann" });
    expect((await client.revokeSession({ target: { case: "token", value: token } })).revoked).toBe(
      true,
    );
  });

  test("the log says that it is gone, and that it is back, without a secret", async () => {
    const { port, url } = await withoutRedis();
    const store = url.replace("//", "//default:canary-password@");
    await using server = await startTestServer({ store });
    await using _redis = await startRedisServer({
      port,
      args: ["--requirepass", "canary-password"],
    });
    await expectReadiness(server, 200);
    const messages = server.logs.map(({ msg }) => msg);
    expect(messages).toContain("redis connection failed");
    expect(messages.indexOf("ready")).toBeGreaterThan(messages.indexOf("store unavailable"));
    expect(JSON.stringify(server.logs)).not.toContain("canary-password");
  });
});

/** A port where there is no Redis, for now. */
async function withoutRedis(): Promise<{ readonly port: number; readonly url: string }> {
  const { port, url, stop } = await startRedisServer();
  await stop();
  return { port, url };
}

/** One call of every kind. None of them can tell the others' outcome. */
function everyCall(
  client: SessionServiceClient,
  sessionId: string,
  token: string,
): readonly (() => Promise<unknown>)[] {
  const target = { case: "sessionId", value: sessionId } as const;
  return [
    () => client.createSession({ userId: "bob" }),
    () => client.createSession({ userId: "bob", sessionId: "chosen" }),
    () => client.verifySession({ token }),
    () => client.verifySession({ token, noTouch: true }),
    () => client.batchVerifySessions({ tokens: [token] }),
    () => client.getSession({ sessionId }),
    () => client.getSession({ sessionId: "chosen" }),
    () => client.batchGetSessions({ sessionIds: [sessionId] }),
    () => client.listSessions({}),
    () => client.listSessions({ userId: "ann" }),
    () => client.countSessions({}),
    () => client.countSessions({ userId: "ann" }),
    () => client.updateSession({ sessionId, updateMask: { paths: ["roles"] } }),
    () => client.refreshSession({ target }),
    () => client.refreshSession({ target: { case: "token", value: token } }),
    () => client.rotateSessionToken({ token }),
    () => client.revokeSession({ target }),
    () => client.revokeUserSessions({ userId: "ann" }),
  ];
}

async function expectStoreUnavailable(call: () => Promise<unknown>): Promise<void> {
  const startMs = performance.now();
  const failure = await failureOf(call());
  expect(failure).toMatchObject({
    code: "UNAVAILABLE",
    reason: "STORE_UNAVAILABLE",
    domain: "sessiond",
    message: expect.stringContaining("the session store is unavailable"),
  });
  expect(failure.retryDelayMs).toBeGreaterThan(0);
  expect(performance.now() - startMs).toBeLessThan(MAX_ANSWER_MS);
}

function expectReadiness(server: TestServer, status: number): Promise<void> {
  return vi.waitFor(async () => expect((await get(server, "/readyz"))[0]).toBe(status), PATIENCE);
}

async function get(server: TestServer, path: string): Promise<[status: number, text: string]> {
  const response = await fetch(server.httpUrl + path);
  return [response.status, await response.text()];
}
