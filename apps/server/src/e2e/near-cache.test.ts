import { setTimeout as sleep } from "node:timers/promises";
import { createSessionClient, type SessionClient } from "@sessiond/client";
import { expect, test, vi } from "vitest";
import { type LogLine, startTestServer, type TestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

/** A client whose near cache is in use. */
async function nearClient(server: TestServer): Promise<SessionClient> {
  const { grpcUrl: baseUrl, accessToken: token } = server;
  const client = createSessionClient({ baseUrl, token, nearCache: true });
  await client.verifySession("sst_nonsense");
  await vi.waitUntil(() => client.nearCache.stats().ageMs !== undefined);
  return client;
}

const farClient = ({ grpcUrl: baseUrl, accessToken: token }: TestServer) =>
  createSessionClient({ baseUrl, token });

/** Verifies until the answer comes from memory: an event of an earlier change may still come. */
async function remember(client: SessionClient, token: string) {
  return vi.waitUntil(async () => {
    const { hits } = client.nearCache.stats();
    const session = await client.verifySession(token);
    return client.nearCache.stats().hits > hits && session;
  });
}

const callsOf = (logs: readonly LogLine[], method: string) =>
  logs.filter((line) => String(line["method"]).endsWith(method)).length;

test.each(STORES)(
  "another process's changes are seen in a near cache on $name",
  async ({ open }) => {
    await using store = await open();
    await using server = await startTestServer({ store: store.url });
    using near = await nearClient(server);
    using far = farClient(server);
    const { session, token } = await far.createSession({ userId: "ann", data: { step: 1 } });
    expect(await remember(near, token)).toEqual(await far.verifySession(token, { noTouch: true }));

    await far.updateSession(session.id, { data: { step: 2 } });
    await vi.waitUntil(async () => (await near.verifySession(token))?.data["step"] === 2);
    await remember(near, token);

    const rotated = await far.rotateSessionToken(token);
    await vi.waitUntil(async () => (await near.verifySession(token)) === undefined);
    expect(await near.verifySession(rotated.token)).toMatchObject({ id: session.id });

    const other = await far.createSession({ userId: "bob" });
    await remember(near, other.token);
    await far.revokeUserSessions("bob");
    await vi.waitUntil(async () => (await near.verifySession(other.token)) === undefined);
    expect(near.nearCache.stats()).toMatchObject({ entries: 0, bytes: 0, resets: 0 });
  },
);

test("a client sees its own changes in its near cache at once", async () => {
  await using server = await startTestServer({ policy: { maxSessionsPerUser: 2 } });
  using client = await nearClient(server);
  const create = () => client.createSession({ userId: "ann" });
  const first = await create();
  const second = await create();
  for (const { token } of [first, second]) await remember(client, token);

  // A third one evicts the first.
  const third = await create();
  expect(await client.verifySession(first.token)).toBeUndefined();

  await client.updateSession(second.session.id, { roles: ["editor"] });
  expect((await client.verifySession(second.token))?.roles).toEqual(["editor"]);

  await remember(client, second.token);
  const refreshed = await client.refreshSession({ token: second.token });
  expect(await client.verifySession(second.token)).toEqual(refreshed);

  await remember(client, second.token);
  await client.rotateSessionToken(second.token);
  expect(await client.verifySession(second.token)).toBeUndefined();

  await remember(client, third.token);
  await client.revokeSession({ token: third.token });
  expect(await client.verifySession(third.token)).toBeUndefined();

  const fourth = await create();
  await remember(client, fourth.token);
  await client.revokeSession({ sessionId: fourth.session.id });
  expect(await client.verifySession(fourth.token)).toBeUndefined();

  const fifth = await create();
  await remember(client, fifth.token);
  await client.revokeUserSessions("ann");
  expect(await client.verifySession(fifth.token)).toBeUndefined();
});

test("a session that is used only through hits outlives its idle timeout, and one that is not used does not", async () => {
  await using server = await startTestServer();
  using client = await nearClient(server);
  const idleTimeoutMs = 2_000;
  const used = await client.createSession({ userId: "ann", idleTimeoutMs });
  const watched = await client.createSession({ userId: "ann", idleTimeoutMs });
  const unused = await client.createSession({ userId: "ann", idleTimeoutMs });
  for (const { token } of [used, watched, unused]) await client.verifySession(token);
  const startMs = performance.now();
  const before = client.nearCache.stats();
  let watchedFor = 0;
  while (performance.now() - startMs < 3 * idleTimeoutMs) {
    expect(await client.verifySession(used.token)).toBeDefined();
    // A hit that is no activity keeps nothing alive.
    const found = await client.verifySession(watched.token, { noTouch: true });
    if (found !== undefined) watchedFor = performance.now() - startMs;
    await sleep(5);
  }
  expect(watchedFor).toBeGreaterThan(idleTimeoutMs - 300);
  expect(watchedFor).toBeLessThanOrEqual(idleTimeoutMs);
  expect(await client.verifySession(unused.token)).toBeUndefined();
  expect(await client.verifySession(used.token)).toBeDefined();

  const { hits } = client.nearCache.stats();
  expect(hits - before.hits).toBeGreaterThan(50);
  const elapsedMs = performance.now() - startMs;
  const reports = callsOf(server.logs, "BatchVerifySessions");
  expect(reports).toBeGreaterThanOrEqual(3);
  expect(reports).toBeLessThanOrEqual(Math.ceil(elapsedMs / (idleTimeoutMs / 10)));
});

test("a near cache does not give a replaced token a longer grace", async () => {
  await using server = await startTestServer();
  using client = await nearClient(server);
  const { token } = await client.createSession({ userId: "ann" });
  await remember(client, token);
  await client.rotateSessionToken(token, { graceMs: 1_000 });
  expect(await client.verifySession(token)).toBeDefined();
  await sleep(1_050);
  expect(await client.verifySession(token)).toBeUndefined();
});

test("nobody can change a session in the near cache, and none knows which are in it", async () => {
  await using server = await startTestServer();
  using client = await nearClient(server);
  const data = { cart: [{ name: "tea" }] };
  const { token } = await client.createSession({ userId: "ann", data, roles: ["a"] });
  for (const session of [await client.verifySession(token), await remember(client, token)]) {
    if (!session) throw new Error("the session does not verify");
    const changes = [
      () => Object.assign(session, { userId: "eve" }),
      () => (session.roles as string[]).push("admin"),
      () => Object.assign((session.data as unknown as typeof data).cart[0] ?? {}, { name: "gold" }),
      () => session.expireTime.setFullYear(3000),
    ];
    for (const change of changes) expect(change).toThrow(TypeError);
    expect(structuredClone(session).createTime.getTime()).toBe(session.createTime.getTime());
  }
});

test("a hit obeys the options of the call, and a closed client has none", async () => {
  await using server = await startTestServer();
  const client = await nearClient(server);
  const { token } = await client.createSession({ userId: "ann" });
  await remember(client, token);
  const signal = AbortSignal.abort();
  await expect(client.verifySession(token, { signal })).rejects.toMatchObject({
    reason: "CANCELED",
  });
  await expect(client.verifySession(token, { timeoutMs: -1 })).rejects.toMatchObject({
    reason: "INVALID_ARGUMENT",
  });
  client.close();
  await expect(client.verifySession(token)).rejects.toMatchObject({ reason: "CANCELED" });
  expect(client.nearCache.stats().entries).toBe(0);
});
