import { AsyncLocalStorage } from "node:async_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { anyPack, durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { ErrorInfoSchema } from "@sessiond/proto/google/rpc/error_details";
import { StatusSchema } from "@sessiond/proto/google/rpc/status";
import { expect, test } from "vitest";
import {
  type Handlers,
  protoSession,
  startClient,
  storeUnavailable,
} from "../testing/session-server.js";

const checkpoint = () =>
  ({
    message: { case: "checkpoint", value: { time: timestampFromMs(Date.now()) } },
    resumeToken: "1",
  }) as const;

const NOT_FOUND = create(StatusSchema, {
  code: Code.NotFound,
  details: [
    anyPack(
      ErrorInfoSchema,
      create(ErrorInfoSchema, { reason: "SESSION_NOT_FOUND", domain: "sessiond" }),
    ),
  ],
});

/** A session that lives for that long. */
function living(idleTimeoutMs: number) {
  const now = timestampFromMs(Date.now());
  const idleTimeout = durationFromMs(idleTimeoutMs);
  const expireTime = timestampFromMs(Date.now() + idleTimeoutMs);
  const session = protoSession({ lastAccessTime: now, expireTime, idleTimeout });
  return { session };
}

const handlers: Handlers = {
  verifySession: () => living(1_000),
  batchVerifySessions: ({ tokens }) => ({
    results: tokens.map(() => ({ result: { case: "session", value: living(1_000).session } })),
  }),
  async *watchSessions(_, { signal }) {
    for (;;) {
      yield checkpoint();
      await sleep(100, undefined, { signal });
    }
  },
};

test("the watch and the reports of a near cache are no part of the request that causes them", async () => {
  const requests = new AsyncLocalStorage<string>();
  const seen: unknown[] = [];
  const token = () => {
    seen.push(requests.getStore());
    return "token";
  };
  const { server, client } = await startClient(handlers, { token, nearCache: true });
  await requests.run("request", async () => {
    await client.verifySession("a");
    await expect.poll(() => client.nearCache.stats().ageMs).toBeDefined();
    await client.verifySession("a");
    await sleep(150);
    await client.verifySession("a");
  });
  await expect.poll(() => server.requests("batchVerifySessions").length).toBe(1);
  expect(seen.toSorted()).toEqual(["request", "request", undefined, undefined]);
});

test("a server that cannot be watched is asked each time, and not flooded with watches", async () => {
  const { server, client } = await startClient(
    {
      verifySession: () => living(60_000),
      async *watchSessions() {
        yield checkpoint();
        throw storeUnavailable();
      },
    },
    { nearCache: true },
  );
  for (let i = 0; i < 20; i++) {
    expect(await client.verifySession("a")).toBeDefined();
    await sleep(50);
  }
  expect(server.requests("watchSessions").length).toBeLessThan(15);
});

test("a session of which the server says no when activity is reported is not given out again", async () => {
  const { client } = await startClient(
    {
      ...handlers,
      batchVerifySessions: () => ({
        results: [{ result: { case: "error", value: NOT_FOUND } }],
      }),
    },
    { nearCache: true },
  );
  await client.verifySession("a");
  await expect.poll(() => client.nearCache.stats().ageMs).toBeDefined();
  await client.verifySession("a");
  expect(client.nearCache.stats().entries).toBe(1);
  await sleep(120);
  await client.verifySession("a");
  await expect.poll(() => client.nearCache.stats().entries).toBe(0);
});
