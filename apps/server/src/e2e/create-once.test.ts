import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { SessionState } from "@sessiond/proto/sessiond/v1/session";
import type { CreateSessionRequestSchema } from "@sessiond/proto/sessiond/v1/session_service";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { failureOf } from "../testing/outcome.js";
import {
  bearer,
  clientOver,
  PROTOCOLS,
  type Protocol,
  type SessionServiceClient,
  sessionClient,
} from "../testing/protocols.js";
import { startTestServer, type TestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

type CreateRequest = MessageInitShape<typeof CreateSessionRequestSchema>;

const REUSED = { code: "ALREADY_EXISTS", reason: "REQUEST_ID_REUSED", domain: "sessiond" };

describe.each(STORES)("a request to create with a request_id, on $name", ({ open }) => {
  const opened = new AsyncDisposableStack();
  let server: TestServer;
  let clients: readonly SessionServiceClient[];

  beforeAll(async () => {
    const store = opened.use(await open());
    const policy = { maxSessionsPerUser: 2 };
    server = opened.use(await startTestServer({ store: store.url, policy }));
    clients = PROTOCOLS.map((protocol) => clientOver(protocol, server));
  });
  afterAll(() => opened.disposeAsync());

  function request() {
    return {
      userId: `user-${randomUUID()}`,
      requestId: randomUUID(),
      displayName: "Ann",
      roles: ["admin"],
      client: { ip: "203.0.113.7" },
      data: { theme: "dark", cart: [1, 2.5, null] },
      idleTimeout: { seconds: 600n },
    } satisfies CreateRequest;
  }

  /** A client of the same server, but another caller. */
  async function strangerOver(protocol: Protocol): Promise<SessionServiceClient> {
    const claims = { sub: "another service", scope: "sessions:create sessions:read" };
    return sessionClient(protocol.open(server), bearer(await server.issuer.sign({ claims })));
  }

  test("answers the same to every repetition, over whichever protocol", async () => {
    for (const client of clients) {
      const asked = request();
      const first = await client.createSession(asked);
      for (const again of clients) expect(await again.createSession(asked)).toEqual(first);
      const { count } = await client.countSessions({ userId: asked.userId });
      expect(count).toBe(1);
      expect((await client.verifySession({ token: first.token })).session?.id).toBe(
        first.session?.id,
      );
    }
  });

  test("answers the same id that was chosen, and does not call it taken", async () => {
    for (const client of clients) {
      const asked = { ...request(), sessionId: `jti-${randomUUID()}` };
      const first = await client.createSession(asked);
      expect(first.session?.id).toBe(asked.sessionId);
      for (const again of clients) expect(await again.createSession(asked)).toEqual(first);
    }
  });

  test("repeats which sessions were evicted, and evicts no more", async () => {
    for (const client of clients) {
      const asked = request();
      const userId = asked.userId;
      const oldest = await client.createSession({ userId });
      await client.createSession({ userId });
      const first = await client.createSession(asked);
      expect(first.evictedSessionIds).toEqual([oldest.session?.id]);
      expect(await client.createSession(asked)).toEqual(first);
      expect((await client.countSessions({ userId })).count).toBe(2);
    }
  });

  test("answers the session as it has become, also when it was revoked", async () => {
    for (const client of clients) {
      const asked = request();
      const { token } = await client.createSession(asked);
      await client.revokeSession({ target: { case: "token", value: token }, reason: "logout" });
      expect(await client.createSession(asked)).toMatchObject({
        token,
        session: { state: SessionState.REVOKED, revokeReason: "logout" },
      });
      expect((await client.countSessions({ userId: asked.userId })).count).toBe(0);
    }
  });

  test.each<[string, () => object]>([
    ["data", () => ({ data: { theme: "light", cart: [1, 2.5, null] } })],
    ["user_id", () => ({ userId: `user-${randomUUID()}` })],
    ["session_id", () => ({ sessionId: `jti-${randomUUID()}` })],
    ["lifetime", () => ({ lifetime: { seconds: 600n } })],
  ])("is refused with another %s, and creates nothing", async (_, other) => {
    for (const client of clients) {
      const asked = request();
      const first = await client.createSession(asked);
      const changed = { ...asked, ...other() };
      expect(await failureOf(client.createSession(changed))).toMatchObject(REUSED);
      expect((await client.countSessions({ userId: asked.userId })).count).toBe(1);
      expect(await client.createSession(asked)).toEqual(first);
    }
  });

  test("is another request when another caller makes it", async () => {
    for (const protocol of PROTOCOLS) {
      const client = clientOver(protocol, server);
      const stranger = await strangerOver(protocol);
      const asked = request();
      const first = await client.createSession(asked);
      const second = await stranger.createSession(asked);
      expect(second.session?.id).not.toBe(first.session?.id);
      expect(second.token).not.toBe(first.token);
      expect(await stranger.createSession(asked)).toEqual(second);
      expect(await client.createSession(asked)).toEqual(first);
    }
  });

  test("is refused when the id is malformed, by its name", async () => {
    for (const client of clients) {
      for (const requestId of ["a b", "x".repeat(129), "a/b", "\u00e9"]) {
        const asked = { ...request(), requestId };
        expect(await failureOf(client.createSession(asked))).toMatchObject({
          code: "INVALID_ARGUMENT",
          violations: [{ field: "request_id" }],
        });
      }
    }
  });

  test("makes one session when fifty arrive together", async () => {
    const asked = request();
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, i) => clients[i % clients.length]?.createSession(asked)),
    );
    expect(new Set(answers.map((answer) => answer?.token)).size).toBe(1);
    expect((await clients[0]?.countSessions({ userId: asked.userId }))?.count).toBe(1);
  });
});
