import { createHash, randomBytes, randomUUID } from "node:crypto";
import {
  createRegistry,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type MessageInitShape,
  toJson,
} from "@bufbuild/protobuf";
import { createClient, type Transport } from "@connectrpc/connect";
import { createAsyncIterable } from "@connectrpc/connect/protocol";
import { Keyring } from "@sessiond/core";
import { BadRequestSchema, ErrorInfoSchema } from "@sessiond/proto/google/rpc/error_details";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { SERVICES } from "../services/services.js";
import { failureIfAny } from "../testing/outcome.js";
import { bearer, GRPC } from "../testing/protocols.js";
import { byId, byToken, newSession, newUser, renaming } from "../testing/session-requests.js";
import type { TestIssuer } from "../testing/test-issuer.js";
import {
  startTestIssuer,
  startTestServer,
  type TestServer,
  testConfig,
} from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

type Method = DescMethodUnary | DescMethodServerStreaming;
type Request<S extends Method> = MessageInitShape<S["input"]>;

const METHODS = SERVICES.flatMap(({ methods }) => methods) as readonly Method[];
const TIMEOUT_MS = 5_000;
/** The types of the errors' details within the results of batches. */
const DETAILS = createRegistry(ErrorInfoSchema, BadRequestSchema);
const LIMIT = 3;
const POLICY = "login";

/** All that a caller can know of what another namespace has. */
interface Secrets {
  readonly userId: string;
  readonly sessionId: string;
  readonly token: string;
  readonly chosenId: string;
  readonly credential: string;
  readonly createRequestId: string;
  /** The id of the session that the request created. */
  readonly requestedId: string;
  readonly rotateRequestId: string;
  /** The token that the request replaced. */
  readonly replacedToken: string;
  readonly pageToken: string;
  readonly userPageToken: string;
  readonly resumeToken: string;
  readonly userResumeToken: string;
  readonly lock: string;
  readonly lockId: string;
  readonly otherLock: string;
  readonly otherLockId: string;
  readonly rateLimitKey: string;
}

const hashOf = (credential: string) => createHash("sha256").update(credential).digest();

type Tries<S extends typeof SessionService | typeof LockService | typeof RateLimitService> = {
  readonly [Name in keyof S["method"]]: (
    known: Secrets,
  ) => readonly Request<Extract<S["method"][Name], Method>>[];
};

const SESSION_TRIES: Tries<typeof SessionService> = {
  createSession: ({ userId, chosenId, createRequestId, credential }) => [
    { userId },
    { userId, sessionId: chosenId },
    { userId, requestId: createRequestId },
    { userId, tokenHash: hashOf(credential) },
  ],
  verifySession: ({ token, credential, replacedToken }) => [
    { token },
    { token: credential },
    { token: replacedToken },
  ],
  batchVerifySessions: ({ token, credential }) => [{ tokens: [token, credential] }],
  getSession: ({ sessionId, userId, chosenId }) => [
    { sessionId },
    { sessionId, userId },
    { sessionId: chosenId },
    { sessionId: chosenId, userId },
  ],
  batchGetSessions: ({ sessionId, chosenId }) => [{ sessionIds: [sessionId, chosenId] }],
  listSessions: ({ userId, pageToken, userPageToken }) => [
    { userId, showExpired: true, showRevoked: true },
    { userId, filter: { role: "admin" } },
    { pageSize: 1, pageToken },
    { userId, pageSize: 1, pageToken: userPageToken },
  ],
  countSessions: ({ userId }) => [{ userId }],
  updateSession: ({ sessionId, chosenId, userId, lock }) => [
    renaming(sessionId, "Mallory"),
    renaming(chosenId, "Mallory"),
    { ...renaming(chosenId, "Mallory"), userId, fence: { lock, token: 2n ** 52n } },
  ],
  refreshSession: ({ sessionId, token, chosenId }) => [
    byId(sessionId),
    byToken(token),
    byId(chosenId),
  ],
  rotateSessionToken: ({ token, credential, replacedToken, rotateRequestId }) => [
    { token },
    { token: credential },
    { token: replacedToken, requestId: rotateRequestId },
  ],
  revokeSession: ({ sessionId, token, chosenId }) => [
    byId(sessionId),
    byToken(token),
    byId(chosenId),
  ],
  revokeUserSessions: ({ userId }) => [{ userId, reason: "by another" }],
  watchSessions: ({ userId, resumeToken, userResumeToken }) => [
    { userId },
    { resumeToken },
    { userId, resumeToken: userResumeToken },
  ],
};

const LOCK_TRIES: Tries<typeof LockService> = {
  acquireLock: ({ lock, lockId }) => [
    { name: lock, waitTimeout: {}, lockId },
    { name: `${lock}-2`, waitTimeout: {}, lockId },
  ],
  renewLock: ({ otherLock, otherLockId }) => [{ name: otherLock, lockId: otherLockId }],
  releaseLock: ({ otherLock, otherLockId }) => [{ name: otherLock, lockId: otherLockId }],
  getLock: ({ otherLock }) => [{ name: otherLock }],
};

const RATE_LIMIT_TRIES: Tries<typeof RateLimitService> = {
  getRateLimit: ({ rateLimitKey }) => [{ policy: POLICY, key: rateLimitKey }],
  checkRateLimit: ({ rateLimitKey }) => [{ policy: POLICY, key: rateLimitKey }],
  resetRateLimit: ({ rateLimitKey }) => [{ policy: POLICY, key: rateLimitKey }],
};

/** By full name. A method that is added to the contract does not compile without a try. */
const TRIES = new Map(
  [
    [SessionService, SESSION_TRIES] as const,
    [LockService, LOCK_TRIES] as const,
    [RateLimitService, RATE_LIMIT_TRIES] as const,
  ].flatMap(([service, tries]) =>
    Object.entries(tries).map(
      ([name, of]) =>
        [
          `${service.typeName}.${name}`,
          of as (known: Secrets) => readonly Record<string, unknown>[],
        ] as const,
    ),
  ),
);

/** Calls as a caller of one namespace. */
class Access {
  readonly #transport: Transport;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(transport: Transport, token: string) {
    this.#transport = transport;
    this.#headers = bearer(token);
  }

  client<S extends typeof SessionService | typeof LockService | typeof RateLimitService>(
    service: S,
  ) {
    return createClient(service, {
      unary: (method, signal, timeoutMs, _, ...rest) =>
        this.#transport.unary(method, signal, timeoutMs, this.#headers, ...rest),
      stream: (method, signal, timeoutMs, _, ...rest) =>
        this.#transport.stream(method, signal, timeoutMs, this.#headers, ...rest),
    });
  }

  get sessions() {
    return this.client(SessionService);
  }

  get locks() {
    return this.client(LockService);
  }

  get rateLimits() {
    return this.client(RateLimitService);
  }

  /** The answer of a call, or the first message of a stream, or how it failed. */
  async answerOf(method: Method, request: Record<string, unknown>): Promise<unknown> {
    let answer: unknown;
    const call = async () => {
      if (method.methodKind === "unary") {
        const args = [undefined, TIMEOUT_MS, this.#headers, request, undefined] as const;
        const { message } = await this.#transport.unary(method, ...args);
        answer = toJson(method.output, message, { registry: DETAILS });
        return;
      }
      const cut = new AbortController();
      const input = createAsyncIterable([request]);
      const args = [cut.signal, TIMEOUT_MS, this.#headers, input, undefined] as const;
      for await (const message of (await this.#transport.stream(method, ...args)).message) {
        answer = toJson(method.output, message, { registry: DETAILS });
        break;
      }
      cut.abort();
    };
    return (await failureIfAny(call())) ?? answer;
  }
}

/** Fills a namespace, and answers all that its callers know. */
async function fill({ sessions, locks, rateLimits }: Access): Promise<Secrets> {
  const userId = newUser();
  const [chosenId, createRequestId, rotateRequestId] = [randomUUID(), randomUUID(), randomUUID()];
  const credential = randomBytes(24).toString("base64url");
  const roles = ["admin"];
  const requested = await newSession(sessions, { userId, requestId: createRequestId });
  const { token: replacedToken } = requested;
  const rotation = { token: replacedToken, requestId: rotateRequestId };
  const { token } = await sessions.rotateSessionToken(rotation);
  await newSession(sessions, { userId, sessionId: chosenId, roles });
  await sessions.createSession({ userId, tokenHash: hashOf(credential), roles });
  const { nextPageToken: pageToken } = await sessions.listSessions({ pageSize: 1 });
  const userPage = await sessions.listSessions({ userId, pageSize: 1 });
  const [lock, otherLock] = [randomUUID(), randomUUID()];
  const { lockId } = await locks.acquireLock({ name: lock });
  const { lockId: otherLockId } = await locks.acquireLock({ name: otherLock });
  const rateLimitKey = randomUUID();
  const attempt = { policy: POLICY, key: rateLimitKey };
  while ((await rateLimits.checkRateLimit(attempt)).allowed);
  return {
    ...{ userId, sessionId: requested.sessionId, token, chosenId, credential },
    ...{ createRequestId, requestedId: requested.sessionId, rotateRequestId, replacedToken },
    ...{ pageToken, userPageToken: userPage.nextPageToken },
    resumeToken: await resumeTokenOf(sessions, {}),
    userResumeToken: await resumeTokenOf(sessions, { userId }),
    ...{ lock, lockId, otherLock, otherLockId, rateLimitKey },
  };
}

async function resumeTokenOf(
  sessions: Access["sessions"],
  request: { readonly userId?: string },
): Promise<string> {
  for await (const { resumeToken } of sessions.watchSessions(request)) return resumeToken;
  throw new Error("the watch ended");
}

/** All that a namespace's own callers can see. */
async function pictureOf(access: Access, known: Secrets): Promise<object> {
  const { sessions, locks, rateLimits } = access;
  const { userId, createRequestId, rotateRequestId, replacedToken, resumeToken } = known;
  const { remaining } = await rateLimits.getRateLimit({ policy: POLICY, key: known.rateLimitKey });
  // A watch from the resume token tells of every change since, before its first checkpoint.
  const watch = SessionService.method.watchSessions;
  return {
    news: nameless(await access.answerOf(watch, { resumeToken }), known),
    verified: await sessions.verifySession({ token: known.token, noTouch: true }),
    moved: await sessions.verifySession({ token: known.credential, noTouch: true }),
    chosen: await sessions.getSession({ sessionId: known.chosenId }),
    list: await sessions.listSessions({ showExpired: true, showRevoked: true }),
    count: await sessions.countSessions({ userId }),
    created: await sessions.createSession({ userId, requestId: createRequestId }),
    rotated: await sessions.rotateSessionToken({
      token: replacedToken,
      requestId: rotateRequestId,
    }),
    locks: [
      await locks.getLock({ name: known.lock }),
      await locks.getLock({ name: `${known.lock}-2` }),
      await locks.getLock({ name: known.otherLock }),
    ],
    remaining,
  };
}

/** An answer without what differs from call to call, and with known values by their names. */
function nameless(answer: unknown, known: Secrets): unknown {
  let text = JSON.stringify(answer);
  for (const [name, value] of Object.entries(known)) text = text.replaceAll(value, `<${name}>`);
  text = text
    .replace(/"\d{4}-\d\d-\d\dT[^"]*Z"/g, '"<time>"')
    .replace(/"[0-9a-f]{64}"/g, '"<id>"')
    .replace(/"sst_[\w-]+"/g, '"<token>"')
    .replace(/"(id|etag|resumeToken|fencingToken)":"[^"<]*"/g, '"$1":"<new>"');
  return JSON.parse(text);
}

describe.each(STORES)("on $name", ({ open }) => {
  const opened = new AsyncDisposableStack();
  let server: TestServer;
  let victim: Access;
  /** A caller of another issuer, and one of the same issuer and subject, each in a namespace. */
  let attackers: readonly Access[];
  let secrets: Secrets;
  /** What a caller knows of a namespace that is not on this server at all. */
  let absent: Secrets;

  beforeAll(async () => {
    const shop = opened.adopt(await startTestIssuer(), (issuer) => issuer.close());
    const tenants = opened.adopt(await startTestIssuer(), (issuer) => issuer.close());
    const configOf = (issuer: TestIssuer) => testConfig({}, issuer).auth?.issuers ?? [];
    const issuers = [
      ...configOf(shop).map((config) => ({ ...config, namespace: "shop" })),
      ...configOf(tenants).map((config) => ({ ...config, namespaceClaim: ["tenant"] })),
    ];
    const options = {
      issuer: shop,
      keyring: Keyring.parse(Keyring.generateKey()),
      policy: { maxSessionsPerUser: LIMIT },
      config: { auth: { issuers, roles: new Map() } },
    };
    const { url: store } = opened.use(await open());
    server = opened.use(await startTestServer({ ...options, store }));
    const elsewhere = opened.use(await startTestServer(options));

    const scope = KNOWN_PERMISSIONS.join(" ");
    const tokenFor = (tenant: string) => tenants.sign({ claims: { scope, tenant } });
    const transport = GRPC.open(server);
    victim = new Access(transport, await tokenFor("blog"));
    attackers = [
      new Access(transport, await shop.sign({ claims: { scope, tenant: "blog" } })),
      new Access(transport, await tokenFor("blog-2")),
    ];
    secrets = await fill(victim);
    absent = await fill(new Access(GRPC.open(elsewhere), await tokenFor("blog")));
  });
  afterAll(() => opened.disposeAsync());

  test("a namespace is empty for its first caller, whatever the others have", async () => {
    for (const { sessions } of attackers) {
      const all = { showExpired: true, showRevoked: true };
      expect(await sessions.listSessions(all)).toMatchObject({ sessions: [], nextPageToken: "" });
      expect(await sessions.countSessions({})).toMatchObject({ count: 0 });
    }
  });

  test("there is a try for every method of every service", () => {
    const names = METHODS.map(({ parent, localName }) => `${parent.typeName}.${localName}`);
    expect([...TRIES.keys()].toSorted()).toEqual(names.toSorted());
  });

  test.each(METHODS)(
    "$name answers all that another namespace has as what is not there",
    async (method) => {
      const tries = TRIES.get(`${method.parent.typeName}.${method.localName}`);
      if (tries === undefined) throw new Error("there is no try");
      const before = await pictureOf(victim, secrets);
      for (const attacker of attackers) {
        for (const [i, request] of tries(secrets).entries()) {
          const answer = nameless(await attacker.answerOf(method, request), secrets);
          const expected = await attacker.answerOf(method, tries(absent)[i] ?? {});
          expect(answer).toEqual(nameless(expected, absent));
        }
      }
      expect(await pictureOf(victim, secrets)).toEqual(before);
    },
  );

  test("a watch tells of the changes in its own namespace only", async () => {
    const [attacker] = attackers as [Access];
    const userId = newUser();
    const told: string[] = [];
    const end = new AbortController();
    const watching = (async () => {
      for await (const { message } of attacker.sessions.watchSessions({}, { signal: end.signal })) {
        if (message.case === "checkpoint" && told.length === 0) {
          await newSession(victim.sessions, { userId });
          told.push((await newSession(attacker.sessions, { userId })).sessionId);
        }
        if (message.case !== "events") continue;
        told.push(...message.value.events.map(({ sessionId }) => sessionId));
        break;
      }
      end.abort();
    })();
    await watching;
    const [created, ...events] = told;
    expect(events).toEqual([created]);
  });

  test("the log names the caller's namespace", async () => {
    await attackers[1]?.sessions.countSessions({});
    const lines = server.logs.filter(({ namespace }) => namespace === "blog-2");
    expect(lines).toContainEqual(expect.objectContaining({ caller: "billing", msg: "call" }));
  });
});
