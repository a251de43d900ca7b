import { connect, type Socket } from "node:net";
import { createClient } from "@connectrpc/connect";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { describe, expect, onTestFinished, test } from "vitest";
import { DEFAULT_EDGE_LIMITS } from "../edge/edge-limits.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { beginHttp2, grpcHeaders } from "../testing/attack.js";
import { failureIfAny, failureOf } from "../testing/outcome.js";
import { bearer, clientOver, GRPC, PROTOCOLS, pathOf } from "../testing/protocols.js";
import { scrape } from "../testing/scrape.js";
import { byId, newUser } from "../testing/session-requests.js";
import {
  startTestServer,
  type TestServer,
  type TestServerOptions,
} from "../testing/test-server.js";

type Bounds = NonNullable<NonNullable<TestServerOptions["config"]>["callBounds"]>;

const BOUNDS: Bounds = {
  maxInFlight: 1_000,
  watches: { perNamespace: 1_000, perCaller: 1_000 },
  lockWaiters: { perNamespace: 10_000, perCaller: 1_000 },
  namesPerCaller: 100_000,
};
/** More than arrive at a time, whatever the protocol. */
const FLOOD = 150;

async function startBounded(bounds: Partial<Bounds>): Promise<TestServer> {
  const server = await startTestServer({ config: { callBounds: { ...BOUNDS, ...bounds } } });
  onTestFinished(() => server[Symbol.asyncDispose]());
  return server;
}

/** Calls as a caller, over gRPC unless another protocol is named. */
async function callerOf(server: TestServer, subject: string, protocol = GRPC) {
  const claims = { scope: KNOWN_PERMISSIONS.join(" "), sub: subject };
  const headers = bearer(await server.issuer.sign({ claims }));
  const sessions = createClient(SessionService, protocol.open(server));
  const locks = createClient(LockService, protocol.open(server));
  const { session, token } = await sessions.createSession({ userId: newUser() }, { headers });
  return {
    id: session?.id ?? "",
    headers,
    verify: () => sessions.verifySession({ token }, { headers }),
    revoke: (id: string) => sessions.revokeSession(byId(id), { headers }),
    list: () => sessions.listSessions({}, { headers }),
    acquire: (name: string) =>
      locks.acquireLock({ name, waitTimeout: { seconds: 10n } }, { headers }),
    watch: () => sessions.watchSessions({}, { headers, timeoutMs: 2_000 }),
  };
}

describe.each(PROTOCOLS)("$name", (protocol) => {
  test("calls beyond the bound are told when to come back, revocations pass, and the server recovers", async () => {
    const server = await startBounded({ maxInFlight: 1 });
    const ada = await callerOf(server, "ada", protocol);
    const verifyMany = () => Array.from({ length: FLOOD }, () => failureIfAny(ada.verify()));
    // HTTP/1.1 opens its connections one after the other, and only then calls at a time.
    await Promise.all(verifyMany());
    const flood = verifyMany();
    const revocations = Array.from({ length: 10 }, () => ada.revoke("none"));
    const ready = await fetch(`${server.httpUrl}/readyz`);
    const outcomes = await Promise.all(flood);

    const refused = outcomes.filter((failure) => failure !== undefined);
    expect(refused.length).toBeGreaterThan(0);
    expect(refused.length).toBeLessThan(FLOOD);
    for (const failure of refused) {
      expect(failure).toMatchObject({ code: "RESOURCE_EXHAUSTED", reason: "OVERLOADED" });
      expect(failure.retryDelayMs).toBeGreaterThanOrEqual(250);
    }
    expect(new Set(refused.map(({ retryDelayMs }) => retryDelayMs)).size).toBeGreaterThan(1);
    expect(await Promise.all(revocations)).toHaveLength(10);
    expect(ready.status).toBe(200);
    await ada.verify();
    const shed = (await scrape(server.httpUrl)).sum("sessiond_shed_total");
    expect(shed).toBeGreaterThan(0);
  });

  test.each([
    ["a request", 25_000],
    ["an answer", 15_000],
  ])(
    "%s for which there is no room is refused, and its caller is told when to come back",
    async (_, length) => {
      const edge = { ...DEFAULT_EDGE_LIMITS, maxBufferedBytes: 20_000 };
      await using server = await startTestServer({ config: { edge } });
      const client = clientOver(protocol, server);
      const create = (text: string) => client.createSession({ userId: newUser(), data: { text } });
      const failure = await failureOf(create("x".repeat(length)));
      expect(failure).toMatchObject({ code: "RESOURCE_EXHAUSTED", reason: "OVERLOADED" });
      expect(failure.retryDelayMs).toBeGreaterThan(0);
      await create("x");
    },
  );
});

test("a caller that floods a server takes nothing from another", async () => {
  const server = await startBounded({ maxInFlight: 40 });
  const [ada, bob] = [await callerOf(server, "ada"), await callerOf(server, "bob")];
  let isOver = false;
  const flood = Array.from({ length: FLOOD }, async () => {
    while (!isOver) await ada.verify().catch(() => {});
  });
  for (let i = 0; i < 20; i++) await bob.verify();
  isOver = true;
  await Promise.all(flood);
});

test("a caller that has used up its quota is refused, except that it may revoke", async () => {
  const server = await startBounded({ quota: [{ limit: 5, windowMs: 3_600_000 }] });
  const ada = await callerOf(server, "ada");
  // Its first call made it known.
  for (let i = 0; i < 5; i++) await ada.verify();
  const failure = await failureOf(ada.verify());
  expect(failure).toMatchObject({ code: "RESOURCE_EXHAUSTED", reason: "OVERLOADED" });
  expect(failure.message).toContain("quota");
  expect(failure.retryDelayMs).toBeGreaterThan(600_000);
  expect(await ada.revoke(ada.id)).toMatchObject({ revoked: true });
  await (await callerOf(server, "bob")).verify();
});

test.each<[string, (socket: Socket, path: string, headers: Record<string, string>) => void]>([
  [
    "HTTP/1.1",
    (socket, path, headers) => {
      const all = {
        host: "x",
        "content-length": "9",
        "content-type": "application/json",
        ...headers,
      };
      const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
      socket.write(`POST ${path} HTTP/1.1\r\n${lines.join("")}\r\n{`);
    },
  ],
  [
    "gRPC",
    (socket, path, headers) => {
      beginHttp2(socket);
      socket.write(grpcHeaders(1, path, { headers }));
    },
  ],
])("half a request over %s does not keep a place from others for long", async (name, begin) => {
  const server = await startBounded({ maxInFlight: 1 });
  const [ada, bob] = [await callerOf(server, "ada"), await callerOf(server, "bob")];
  const socket = connect(Number(new URL(name === "gRPC" ? server.grpcUrl : server.httpUrl).port));
  onTestFinished(() => void socket.destroy());
  begin(socket, pathOf(SessionService.method.verifySession), ada.headers);
  const refusal = async () => (await failureIfAny(bob.verify()))?.code;
  await expect.poll(refusal).toBe("RESOURCE_EXHAUSTED");
  await expect.poll(refusal, { timeout: 5_000 }).toBe(undefined);
  expect(socket.readyState).toBe("open");
});

test("one caller's watches and waiting calls do not keep another from watching, or a free lock from anybody", async () => {
  const server = await startBounded({
    watches: { perNamespace: 10, perCaller: 1 },
    lockWaiters: { perNamespace: 10, perCaller: 1 },
  });
  const [ada, bob] = [await callerOf(server, "ada"), await callerOf(server, "bob")];
  const first = async (messages: AsyncIterable<unknown>) => {
    for await (const message of messages) return message;
    return undefined;
  };
  const held = ada.watch()[Symbol.asyncIterator]();
  await held.next();
  expect(await failureOf(first(ada.watch()))).toMatchObject({ reason: "OVERLOADED" });
  await first(bob.watch());
  await held.return?.();

  await bob.acquire("taken");
  const waiting = failureIfAny(ada.acquire("taken"));
  await expect
    .poll(async () => (await scrape(server.httpUrl)).sum("sessiond_locks_waiting"))
    .toBe(1);
  expect(await failureOf(ada.acquire("taken"))).toMatchObject({ reason: "OVERLOADED" });
  await ada.acquire("free");
  await server.stop();
  await waiting;
});
