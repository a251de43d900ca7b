import { startRedisServer } from "@sessiond/core/testing";
import { describe, expect, test } from "vitest";
import { HealthClient } from "../testing/health-client.js";
import { clientOver, GRPC } from "../testing/protocols.js";
import { byToken, newSession } from "../testing/session-requests.js";
import { expectReadiness, expectStoreUnavailable, getText } from "../testing/store-unavailable.js";
import { startTestServer } from "../testing/test-server.js";

const SERVICE = "sessiond.v1.SessionService";
const READY = [200, expect.stringContaining('"status": "ready"')];
const UNAVAILABLE = [503, expect.stringContaining("the session store is unavailable: ")];

test("a server on SQLite is ready from the start, and tells it to everyone who asks", async () => {
  await using server = await startTestServer();
  using health = new HealthClient(server.grpcAddress);
  expect(await health.check()).toBe("SERVING");
  expect(await health.check(SERVICE)).toBe("SERVING");
  await expect(health.check("nonsense")).rejects.toMatchObject({ code: 5 });
  expect(await getText(server, "/readyz")).toEqual(READY);
  expect(await getText(server, "/healthz")).toEqual([200, "ok\n"]);
  expect(await getText(server, "/healthz?verbose")).toEqual([200, "ok\n"]);
});

describe.concurrent("while Redis does not answer", () => {
  test("health and readiness say so, and say when it is back", async () => {
    await using redis = await startRedisServer();
    await using server = await startTestServer({ store: redis.url });
    using health = new HealthClient(server.grpcAddress);
    const watches = [health.watch(), health.watch(SERVICE)];
    const client = clientOver(GRPC, server);

    redis.pause();
    await expectReadiness(server, 503);
    await expectStoreUnavailable(() => newSession(client));
    expect(await health.check()).toBe("NOT_SERVING");
    expect(await health.check(SERVICE)).toBe("NOT_SERVING");
    // The process is fine, and to restart it would help nobody.
    expect(await getText(server, "/healthz")).toEqual([200, "ok\n"]);

    redis.resume();
    await expectReadiness(server, 200);
    expect(await health.check()).toBe("SERVING");
    await newSession(client);
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
    expect(await getText(server, "/readyz")).toEqual(UNAVAILABLE);
    expect(await health.check()).toBe("NOT_SERVING");
    await expectStoreUnavailable(() => newSession(client));
    await using _redis = await startRedisServer({ port });
    await expectReadiness(server, 200);
    expect(await health.check(SERVICE)).toBe("SERVING");
    const { session, token } = await newSession(client);
    expect((await client.verifySession({ token })).session).toEqual(session);
  });

  test("a server can start though Redis is frozen", async () => {
    await using redis = await startRedisServer();
    redis.pause();
    await using server = await startTestServer({ store: redis.url });
    expect(await getText(server, "/readyz")).toEqual(UNAVAILABLE);
    redis.resume();
    await expectReadiness(server, 200);
    expect((await clientOver(GRPC, server).countSessions({})).count).toBe(0);
  });

  test("a Redis that was restarted is used again, though it forgot its scripts", async () => {
    const redis = await startRedisServer();
    await using server = await startTestServer({ store: redis.url });
    const client = clientOver(GRPC, server);
    await newSession(client);
    await redis.kill();
    await expectStoreUnavailable(() => newSession(client));
    await expectReadiness(server, 503);
    await using _restarted = await startRedisServer({ port: redis.port });
    await expectReadiness(server, 200);
    const { token } = await newSession(client);
    expect((await client.revokeSession(byToken(token))).revoked).toBe(true);
  });

  test("the log says that it is gone, and that it is back, without a secret", async () => {
    const { port, url } = await withoutRedis();
    const store = url.replace("//", "//default:canary-password@");
    await using server = await startTestServer({ store });
    const args = ["--requirepass", "canary-password"];
    await using _redis = await startRedisServer({ port, args });
    await expectReadiness(server, 200);
    const messages = server.logs.map(({ msg }) => msg);
    const cause = expect.stringContaining("ECONNREFUSED");
    expect(server.logs[0]).toMatchObject({ msg: "listening", ready: false, store_error: cause });
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
