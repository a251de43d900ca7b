import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { createSessionClient, type SessionClient, type SessionEvent } from "@sessiond/client";
import { expect, test } from "vitest";
import { startTestServer, useTestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

const SESSIONS = 10;
const ROTATIONS_EACH = 100;
const ROTATIONS = SESSIONS * ROTATIONS_EACH;
const READERS = 10;
const GRACE_MS = 10_000;

/** A browser's cookies: the token of each session as its user knows it. */
type Cookies = string[];

test.each(STORES)(
  "no page load on $name fails, though the answers of half of 1,000 rotations are lost",
  { timeout: 120_000 },
  async ({ open }) => {
    await using store = await open();
    await using server = await startTestServer({ store: store.url });
    await using proxies = new AsyncDisposableStack();
    const token = server.accessToken;
    using near = createSessionClient({ baseUrl: server.grpcUrl, token });
    const told = follow(near, ROTATIONS);
    const users = await Promise.all(
      Array.from({ length: SESSIONS }, async (_, i) => ({
        proxy: proxies.use(await dropEverySecondRotation(server.httpUrl)),
        created: await near.createSession({ userId: `user-${i}` }),
      })),
    );
    const cookies: Cookies = users.map(({ created }) => created.token);
    const tokens = cookies.map((cookie) => [cookie]);
    const rotate = async (i: number, graceMs: number) => {
      const { url = "" } = users[i]?.proxy ?? {};
      using far = createSessionClient({ baseUrl: url, protocol: "connect", token });
      const rotated = await far.rotateSessionToken(cookies[i] ?? "", { graceMs });
      tokens[i]?.push(rotated.token);
      cookies[i] = rotated.token;
    };

    const over = new AbortController();
    const rotating = cookies.map(async (_, i) => {
      for (let n = 1; n < ROTATIONS_EACH; n++) await rotate(i, GRACE_MS);
    });
    const readers = Array.from({ length: READERS }, () => read(near, cookies, over.signal));
    const done = Promise.all(rotating).finally(() => over.abort());
    const [reads] = await Promise.all([Promise.all(readers), done]);
    // As after a login: this leaves one token.
    await Promise.all(cookies.map((_, i) => rotate(i, 0)));

    for (const { proxy } of users) expect(proxy.dropped()).toBeGreaterThan(ROTATIONS_EACH - 10);
    expect(reads.flat().length).toBeGreaterThan(ROTATIONS);
    expect(reads.flat().filter((found) => !found)).toEqual([]);
    for (const [i, all] of tokens.entries()) {
      const sessions = await near.batchVerifySessions(all);
      const valid = sessions.flatMap((one, n) => ("session" in one ? [n] : []));
      expect(valid, `the valid tokens of session ${i}`).toEqual([ROTATIONS_EACH]);
    }
    const rotations = (await told).filter(({ type }) => type === "token_rotated");
    expect(rotations).toHaveLength(ROTATIONS);
    const versions = Map.groupBy(rotations, ({ sessionId }) => sessionId);
    const inOrder = Array.from({ length: ROTATIONS_EACH }, (_, n) => n + 2);
    for (const events of versions.values()) {
      expect(events.map(({ version }) => version)).toEqual(inOrder);
    }
  },
);

/** Loads pages with the newest cookies. Answers for each whether the session was found. */
async function read(
  client: SessionClient,
  cookies: Cookies,
  over: AbortSignal,
): Promise<boolean[]> {
  const found: boolean[] = [];
  while (!over.aborted) {
    const cookie = cookies[found.length % cookies.length] ?? "";
    found.push((await client.verifySession(cookie)) !== undefined);
  }
  return found;
}

/** Reads events until so many rotations were told. */
async function follow(client: SessionClient, rotations: number): Promise<SessionEvent[]> {
  const told: SessionEvent[] = [];
  for await (const message of client.watchSessions()) {
    if (message.type === "events") told.push(...message.events);
    if (told.filter(({ type }) => type === "token_rotated").length >= rotations) break;
  }
  return told;
}

/** An HTTP proxy that loses the answer of every second rotation, once the server has made it. */
async function dropEverySecondRotation(target: string) {
  let rotations = 0;
  let dropped = 0;
  const proxy = createServer((incoming, outgoing) => {
    const { method, headers, url = "/" } = incoming;
    const isRotation = url.endsWith("/RotateSessionToken");
    const isDropped = isRotation && rotations++ % 2 === 1;
    const forwarded = request(new URL(url, target), { method, headers }, (answer) => {
      if (isDropped) {
        dropped++;
        answer.resume().on("end", () => outgoing.destroy());
      } else {
        answer.pipe(outgoing.writeHead(answer.statusCode ?? 500, answer.headers));
      }
    });
    incoming.pipe(forwarded);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    dropped: () => dropped,
    async [Symbol.asyncDispose]() {
      proxy.closeAllConnections();
      proxy.close();
    },
  };
}

const strict = useTestServer({ policy: { onTokenReuse: "revoke" } });

test("a token that is used long after its rotation ends the session, and the watch says why", async () => {
  const options = { baseUrl: strict.grpcUrl, token: strict.accessToken };
  using client = createSessionClient(options);
  const { session, token } = await client.createSession({ userId: "ann" });
  const told: SessionEvent[] = [];
  const watch = client.watchSessions();
  await watch.next();
  const { token: newToken } = await client.rotateSessionToken(token);
  expect(await client.verifySession(token)).toBeUndefined();
  expect(await client.verifySession(newToken)).toBeDefined();
  // Past the ten seconds in which a late request is no theft.
  await sleep(10_100);
  expect(await client.verifySession(token)).toBeUndefined();
  expect(await client.verifySession(newToken)).toBeUndefined();
  for await (const message of watch) {
    if (message.type === "events") told.push(...message.events);
    if (told.at(-1)?.type === "revoked") break;
  }
  expect(told).toMatchObject([
    { type: "token_rotated", sessionId: session.id },
    { type: "token_reused", sessionId: session.id },
    { type: "revoked", sessionId: session.id, reason: "token reused" },
  ]);
});
