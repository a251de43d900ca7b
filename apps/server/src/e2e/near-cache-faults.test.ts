import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { createSessionClient, type SessionClient } from "@sessiond/client";
import {
  freePort,
  startRedisSentinels,
  startRedisServer,
  startTcpFaultProxy,
} from "@sessiond/core/testing";
import { expect, test, vi } from "vitest";
import { developmentToken, spawnServer, spawnSessiond } from "../testing/server-process.js";
import { temporaryDirectory } from "../testing/temporary-directory.js";
import { startTestServer } from "../testing/test-server.js";

const MAX_STALE_MS = 2_000;
const OPTIONS = { nearCache: { maxStaleMs: MAX_STALE_MS }, timeoutMs: 300, maxAttempts: 1 };

/** Verifies a token all the time, and knows when it last asked for what it was served. */
class Visitor implements Disposable {
  lastServedMs = 0;
  #isDone = false;

  constructor(client: SessionClient, token: string) {
    void this.#visit(client, token);
  }

  async #visit(client: SessionClient, token: string): Promise<void> {
    while (!this.#isDone) {
      const askedMs = performance.now();
      const found = await client.verifySession(token).catch(() => undefined);
      if (found !== undefined) this.lastServedMs = askedMs;
      await sleep(2);
    }
  }

  [Symbol.dispose](): void {
    this.#isDone = true;
  }
}

/** Opens a session that is served from memory. */
async function remembered(near: SessionClient, far: SessionClient) {
  const created = await far.createSession({ userId: "ann" });
  const isRemembered = async () => {
    await near.verifySession(created.token).catch(() => undefined);
    return near.nearCache.stats().entries > 0;
  };
  await vi.waitUntil(isRemembered, { timeout: 15_000 });
  return created;
}

/** Revokes, waits, and expects that the visitor was served for at most `maxStaleMs` more. */
async function expectRefusal(far: SessionClient, token: string, visitor: Visitor): Promise<void> {
  expect(await far.revokeSession({ token })).toBe(true);
  const revokedMs = performance.now();
  await sleep(MAX_STALE_MS + 1_000);
  expect(visitor.lastServedMs - revokedMs).toBeLessThanOrEqual(MAX_STALE_MS);
}

test.concurrent.each([
  ["loses every answer", (proxy: Proxy) => proxy.halfOpen()],
  ["delays everything by more than maxStaleMs", (proxy: Proxy) => proxy.delay(2_500)],
  ["refuses connections", (proxy: Proxy) => proxy.refuse()],
])("a revoked session is refused in time by a client whose network %s", async (_, disturb) => {
  await using server = await startTestServer();
  const port = Number(new URL(server.grpcUrl).port);
  await using proxy = await startTcpFaultProxy({ host: "127.0.0.1", port });
  const { accessToken: token } = server;
  using far = createSessionClient({ baseUrl: server.grpcUrl, token });
  using near = createSessionClient({
    baseUrl: `http://127.0.0.1:${proxy.port}`,
    token,
    ...OPTIONS,
  });
  const revoked = await remembered(near, far);
  using visitor = new Visitor(near, revoked.token);
  await vi.waitUntil(() => near.nearCache.stats().hits > 10);
  disturb(proxy);
  await sleep(20);
  await expectRefusal(far, revoked.token, visitor);

  // And it recovers.
  proxy.pass();
  const next = await far.createSession({ userId: "bob" });
  using again = new Visitor(near, next.token);
  const { hits } = near.nearCache.stats();
  await vi.waitUntil(() => near.nearCache.stats().hits > hits + 10, { timeout: 15_000 });
  expect(again.lastServedMs).toBeGreaterThan(0);
});

type Proxy = Awaited<ReturnType<typeof startTcpFaultProxy>>;

test("a revoked session is refused in time while servers are killed and replaced", async () => {
  await using redis = await startRedisServer();
  await using directory = await temporaryDirectory();
  const { path } = directory;
  const grpcUrl = `http://127.0.0.1:${await freePort()}`;
  const shared = ["--dev", "--data-dir", path, "--store", redis.url];
  const start = async () => {
    const addresses = ["--grpc-address", new URL(grpcUrl).host, "--http-address", "127.0.0.1:0"];
    const started = spawnSessiond(["serve", ...shared, ...addresses]);
    await started.logged("listening");
    return started;
  };
  let server = await start();
  await using other = await spawnServer({ flags: shared });
  const token = await developmentToken(path);
  using far = createSessionClient({ baseUrl: other.grpcUrl, token });
  using near = createSessionClient({ baseUrl: grpcUrl, token, ...OPTIONS });
  for (let i = 0; i < 3; i++) {
    const revoked = await remembered(near, far);
    using visitor = new Visitor(near, revoked.token);
    await vi.waitUntil(() => visitor.lastServedMs > 0);
    server.kill("SIGKILL");
    await server.ended;
    const [replaced] = await Promise.all([start(), expectRefusal(far, revoked.token, visitor)]);
    server = replaced;
  }
  expect(near.nearCache.stats().resets).toBeGreaterThanOrEqual(3);
  await server[Symbol.asyncDispose]();
});

test.concurrent("a revoked session is refused in time while Redis fails over", async () => {
  await using redis = await startRedisSentinels({});
  await using server = await startTestServer({ store: redis.url });
  const { grpcUrl: baseUrl, accessToken: token } = server;
  using far = createSessionClient({ baseUrl, token, timeoutMs: 20_000, maxAttempts: 10 });
  using near = createSessionClient({ baseUrl, token, ...OPTIONS });
  const revoked = await remembered(near, far);
  using visitor = new Visitor(near, revoked.token);
  await vi.waitUntil(() => visitor.lastServedMs > 0);
  const primary = await redis.primary();
  await sleep(500);
  await primary.kill();
  await vi.waitUntil(
    () =>
      far.countSessions().then(
        () => true,
        () => false,
      ),
    { timeout: 30_000, interval: 50 },
  );
  await expectRefusal(far, revoked.token, visitor);
});

/** A process that verifies a token all the time, and says when it was refused, and when served last. */
const VERIFIER = `
  import { createSessionClient } from ${JSON.stringify(import.meta.resolve("@sessiond/client"))};
  const [baseUrl, token, sessionToken] = process.argv.slice(1);
  const client = createSessionClient({ baseUrl, token, nearCache: { maxStaleMs: ${MAX_STALE_MS} } });
  let lastServed = 0;
  for (let i = 0; ; i++) {
    const asked = Date.now();
    const found = await client.verifySession(sessionToken);
    if (found === undefined) break;
    lastServed = asked;
    if (client.nearCache.stats().hits === 10) console.log("hits");
    // Mostly busy, so that it goes on with a verify and not with the network.
    if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  console.log(lastServed);
  client.close();
`;

test.concurrent("a process that was stopped for ten seconds does not serve what was revoked meanwhile", async () => {
  await using server = await startTestServer();
  const { grpcUrl: baseUrl, accessToken } = server;
  using far = createSessionClient({ baseUrl, token: accessToken });
  const { token } = await far.createSession({ userId: "ann" });
  const args = ["--input-type=module", "--eval", VERIFIER, baseUrl, accessToken, token];
  const verifier = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  try {
    const lines = createInterface({ input: verifier.stdout })[Symbol.asyncIterator]();
    expect((await lines.next()).value).toBe("hits");
    verifier.kill("SIGSTOP");
    await far.revokeSession({ token });
    const revoked = Date.now();
    await sleep(10_000);
    verifier.kill("SIGCONT");
    expect(Number((await lines.next()).value) - revoked).toBeLessThanOrEqual(0);
    await once(verifier, "exit");
  } finally {
    verifier.kill("SIGKILL");
  }
});
