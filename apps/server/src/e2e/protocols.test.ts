import { randomUUID } from "node:crypto";
import type { JsonObject } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { beforeAll, expect, test } from "vitest";
import { SERVICES } from "../services/services.js";
import { prepareCalls } from "../testing/every-call.js";
import { failureIfAny } from "../testing/outcome.js";
import {
  clientOver,
  GRPC,
  locksOver,
  PROTOCOLS,
  type Protocol,
  pathOf,
  rateLimitsOver,
} from "../testing/protocols.js";
import { newSession, newUser, renaming } from "../testing/session-requests.js";
import { startTestServer, type TestServer } from "../testing/test-server.js";

/** What differs from one run of the same calls to the next. */
const CHANGING: readonly (readonly [pattern: RegExp, name: string])[] = [
  [/sst_[\w-]{90,}/g, "<session token>"],
  [/[0-9a-f]{64}/g, "<session id>"],
  [/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "<random>"],
  [/("etag":|"lockId":)"[\w-]+"/g, '$1"<text>"'],
  [/"seconds":"\d{10}","nanos":\d+/g, '"time":0'],
  [/"\d{13,}"/g, '"<fencing token>"'],
  [/("retryAfter":|"resetTime":)\{[^}]*\}/g, "$1{}"],
];

/** The answer or the failure of a call, without what differs from run to run. */
async function outcomeOf(call: Promise<object>): Promise<object> {
  const outcome = (await failureIfAny(call)) ?? (await call);
  let text = JSON.stringify(outcome, (_, value) =>
    typeof value === "bigint" ? `${value}` : value,
  );
  for (const [pattern, name] of CHANGING) text = text.replaceAll(pattern, name);
  const { sessions, ...rest } = JSON.parse(text);
  // Sessions of the same millisecond are listed in any order.
  const texts = sessions?.map((session: object) => JSON.stringify(session)).sort();
  return { ...rest, ...(texts && { sessions: texts }) };
}

/** The outcomes of calls of every unary method, most of them also as they fail. */
async function outcomesOver(protocol: Protocol, server: TestServer): Promise<readonly object[]> {
  const client = clientOver(protocol, server);
  const locks = locksOver(protocol, server);
  const limits = rateLimitsOver(protocol, server);
  const ready = await prepareCalls(client);
  const { sessionId } = await newSession(client);
  const fenced = (token: bigint) => ({ ...renaming(sessionId, "x"), fence: { lock: "l", token } });
  const [name, lockId, ttl] = ["a lock", randomUUID(), durationFromMs(60_000)];
  const attempt = { policy: "login", key: "203.0.113.7" };
  const calls: readonly (() => Promise<object>)[] = [
    () => client.createSession({}),
    () => client.listSessions({ orderBy: "user_id" }),
    () => client.refreshSession({}),
    () => client.updateSession({ ...renaming(sessionId, "x"), etag: "old" }),
    () => client.updateSession(fenced(5n)),
    () => client.updateSession(fenced(4n)),
    () => locks.getLock({ name }),
    () => locks.acquireLock({ name, lockId, ttl }),
    () => locks.acquireLock({ name, waitTimeout: durationFromMs(0) }),
    () => locks.getLock({ name }),
    () => locks.renewLock({ name, lockId, ttl }),
    () => locks.releaseLock({ name, lockId }),
    () => locks.releaseLock({ name, lockId }),
    () => locks.acquireLock({ name: "" }),
    () => limits.getRateLimit(attempt),
    () => limits.checkRateLimit({ ...attempt, cost: 10 }),
    () => limits.checkRateLimit(attempt),
    () => limits.resetRateLimit(attempt),
    () => limits.checkRateLimit({ ...attempt, cost: 0 }),
  ];
  const outcomes: object[] = [];
  // The second time, the sessions have been revoked.
  for (const { call } of [...ready, ...ready]) outcomes.push(await outcomeOf(call(client)));
  for (const call of calls) outcomes.push(await outcomeOf(call()));
  return outcomes;
}

let overGrpc: readonly object[];
let called: ReadonlySet<string>;
beforeAll(async () => {
  await using server = await startTestServer();
  overGrpc = await outcomesOver(GRPC, server);
  called = new Set(server.logs.map(({ method }) => `/${method}`));
});

test("the calls are of every unary method", () => {
  const methods = SERVICES.flatMap((service) => service.methods);
  const unary = methods.filter(({ methodKind }) => methodKind === "unary").map(pathOf);
  expect(unary.filter((path) => !called.has(path))).toEqual([]);
});

test.each(PROTOCOLS.filter((protocol) => protocol !== GRPC))(
  "every call over $name is answered as over gRPC",
  async (protocol) => {
    await using server = await startTestServer();
    expect(await outcomesOver(protocol, server)).toEqual(overGrpc);
  },
);

test("any key of data is set and deleted over every protocol", async () => {
  await using server = await startTestServer();
  const special: JsonObject = JSON.parse('{"__proto__": {"admin": true}, "constructor": null}');
  const keys = ["", " ", "a.b", "lastPage", "last_page", "Ä🙂", "\u0000\n", "0", "toString", "*"];
  const entries = [...Object.entries(special), ...keys.map((key) => [key, [key]] as const)];
  for (const protocol of PROTOCOLS) {
    const client = clientOver(protocol, server);
    const { sessionId } = await newSession(client, { data: { kept: true, a: { b: 1 } } });
    const setData: JsonObject = Object.fromEntries(entries);
    const { session: set } = await client.updateSession({ sessionId, setData });
    const expected = new Map<string, unknown>([["kept", true], ["a", { b: 1 }], ...entries]);
    expect(new Map(Object.entries(set?.data ?? {})), protocol.name).toEqual(expected);

    const deleteData = [...expected.keys(), "missing"].filter((key) => key !== "kept");
    const { session: rest } = await client.updateSession({ sessionId, deleteData });
    expect(Object.entries(rest?.data ?? {}), protocol.name).toEqual([["kept", true]]);
  }
});

test("a session and a repeated request are the same over every protocol", async () => {
  await using server = await startTestServer();
  const clients = PROTOCOLS.map((protocol) => clientOver(protocol, server));
  for (const creator of clients) {
    const data = { "": 1, "a.b": [true, null], deep: { number: -0.5, text: "\u0000\u2028" } };
    const request = { userId: newUser(), requestId: randomUUID(), roles: ["admin"], data };
    const first = await creator.createSession(request);
    for (const reader of clients) {
      const { session } = await reader.verifySession({ token: first.token });
      expect(session).toEqual(first.session);
      expect(await reader.createSession(request)).toEqual(first);
    }
  }
});
