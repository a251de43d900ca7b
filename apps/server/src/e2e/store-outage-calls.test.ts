import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { useDisturbedRedis } from "../testing/disturbed-redis.js";
import { prepareCalls } from "../testing/every-call.js";
import { clientOver, JSON_OVER_HTTP, type SessionServiceClient } from "../testing/protocols.js";
import { newSession } from "../testing/session-requests.js";
import {
  expectStoreUnavailable,
  orStoreUnavailable,
  timed,
  untilAnswered,
} from "../testing/store-unavailable.js";

/** The deadline of callers that do not wait for long. */
const DEADLINE_MS = 300;
/** The most that a busy machine adds to it. */
const SLACK_MS = 500;

const disturbed = useDisturbedRedis();

describe("while Redis is frozen", () => {
  /** Prepares every call, and then freezes Redis. */
  async function freeze() {
    const calls = await prepareCalls(disturbed.clients[0]);
    disturbed.redis.pause();
    return calls;
  }

  test("every call says so within two seconds, at once, in a row, and when the connection is lost", async () => {
    const calls = await freeze();
    // First the connection hangs, then there is none, then a new one hangs.
    for (let round = 1; round <= 3; round++) {
      const made = disturbed.clients.flatMap((client) =>
        calls.map(({ call }) => expectStoreUnavailable(() => call(client))),
      );
      await Promise.all(made);
    }
    for (const [i, { call }] of calls.entries()) {
      await expectStoreUnavailable(() => call(disturbed.clientAt(i)));
    }
  });

  test("fifty calls at once do not wait for each other, also where they change one session", async () => {
    const calls = await freeze();
    const names = ["updateSession", "createSession", "revokeSession", "verifySession"];
    const fifty = names.flatMap((name) => {
      const found = calls.find((call) => call.name === name);
      return Array.from({ length: 50 }, (_, i) => () => found?.call(disturbed.clientAt(i)));
    });
    await Promise.all(fifty.map((call) => expectStoreUnavailable(async () => call())));
  });

  test("a caller with a deadline of 300 ms knows after 300 ms, over each protocol", async () => {
    const calls = await freeze();
    const made = disturbed.clients.flatMap((client) =>
      calls.map(({ call }) => timed(() => call(client, { timeoutMs: DEADLINE_MS }))),
    );
    for (const { elapsedMs, failure } of await Promise.all(made)) {
      expect(failure?.code).toBe("DEADLINE_EXCEEDED");
      expect(elapsedMs).toBeGreaterThan(DEADLINE_MS - 50);
      expect(elapsedMs).toBeLessThan(DEADLINE_MS + SLACK_MS);
    }
  });

  test("so does a caller that leaves it to the server to end the call", async () => {
    const calls = await freeze();
    const client = clientOver(JSON_OVER_HTTP, disturbed.server);
    const headers = { "connect-timeout-ms": `${DEADLINE_MS}` };
    const made = calls.map(({ call }) => timed(() => call(client, { headers })));
    for (const { elapsedMs, failure } of await Promise.all(made)) {
      expect(failure?.code).toBe("DEADLINE_EXCEEDED");
      expect(elapsedMs).toBeLessThan(DEADLINE_MS + SLACK_MS);
    }
  });
});

describe("while Redis is slow", () => {
  test("every call is answered within two seconds, however many steps it needs", async () => {
    const { clients, clientAt, network } = disturbed;
    const { length } = await prepareCalls(clients[0]);
    // Each with sessions of its own, so that none ends the session of another.
    const prepared = Array.from({ length: length * clients.length }, async (_, i) => {
      const own = (await prepareCalls(clients[0]))[i % length];
      return async () => own?.call(clientAt(i));
    });
    const calls = await Promise.all(prepared);
    network.delay(350);
    const isAnswered = await Promise.all(calls.map(orStoreUnavailable));
    // Most need one step or two, which there is time for.
    expect(isAnswered.filter(Boolean).length).toBeGreaterThan(length);
  });

  test("updates of one session that wait for each other end in time, and are not made later", async () => {
    const { clients, clientAt, network } = disturbed;
    const { sessionId } = await newSession(clients[0]);
    // From now on Redis knows the script, which saves a round trip.
    const warmUp = { sessionId, session: { displayName: "Ann" } };
    await clients[0].updateSession({ ...warmUp, updateMask: { paths: ["display_name"] } });
    network.delay(250);
    const updates = Array.from({ length: 30 }, (_, i) => {
      const update = { sessionId, setData: { [`k${i}`]: true } };
      return orStoreUnavailable(() => clientAt(i).updateSession(update));
    });
    const made = (await Promise.all(updates)).filter(Boolean).length;
    expect(made).toBeGreaterThan(0);
    // The one that was under way may yet be made.
    await sleep(1_500);
    network.pass();
    const keysOf = async () =>
      Object.keys((await clients[0].getSession({ sessionId })).session?.data ?? {});
    const keys = await keysOf();
    expect(keys.length).toBeLessThanOrEqual(made + 1);
    await sleep(1_000);
    expect(await keysOf()).toEqual(keys);
  });

  // A creation with both takes three steps of 400 ms: the last is made at 1,000 ms, and known at 1,200.
  test.each([100, 500, 900, 1_100])(
    "a creation of several steps that Redis leaves after %i ms is answered in time, and can be repeated",
    async (stopAfterMs) => {
      const { clients, network, redis } = disturbed;
      // Redis knows the scripts from now on, so that no step is tried twice.
      await clients[0].createSession({ userId: "ann", sessionId: "jti-0", requestId: "0" });
      const tokens = new Set<string>();
      const create = async (client: SessionServiceClient) => {
        const request = { userId: "ann", sessionId: "jti-1", requestId: "1" };
        tokens.add((await client.createSession(request)).token);
      };
      network.delay(200);
      const answers = clients.map((client) => orStoreUnavailable(() => create(client)));
      await sleep(stopAfterMs);
      redis.pause();
      await Promise.all(answers);
      redis.resume();
      network.pass();
      for (const client of clients) await untilAnswered(() => create(client));
      expect(tokens.size).toBe(1);
      expect((await clients[0].countSessions({ userId: "ann" })).count).toBe(2);
    },
  );
});
