import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectError } from "@connectrpc/connect";
import { StatusSchema } from "@sessiond/proto/google/rpc/status";
import fc from "fast-check";
import { expect, onTestFinished, test, vi } from "vitest";
import type { SessionClient } from "../client.js";
import { SessiondError } from "../error.js";
import {
  answer,
  connectClient,
  type Handlers,
  never,
  notFound,
  protoSession,
  rejection,
  startClient,
  startSessionServer,
  storeUnavailable,
} from "../testing/session-server.js";

/** What the server says about a token: a name that begins with the answer. */
function verdict(token: string): ConnectError | undefined {
  if (token.startsWith("gone")) return notFound();
  if (token.startsWith("sealed")) return answer(Code.DataLoss, "SESSION_UNREADABLE");
  if (token.startsWith("down")) return storeUnavailable();
  if (token.startsWith("wrong")) {
    const violations = [{ field: "token", description: "expected less" }];
    return answer(Code.InvalidArgument, "INVALID_ARGUMENT", { violations, metadata: { a: "b" } });
  }
  return undefined;
}

function statusOf(error: ConnectError) {
  const details = error.details.map((detail) => {
    if (!("desc" in detail)) throw new Error("expected an outgoing detail");
    return anyPack(detail.desc, create(detail.desc, detail.value));
  });
  return create(StatusSchema, { code: error.code, message: error.rawMessage, details });
}

function batch(items: readonly string[]) {
  const results = items.map((id) => {
    const error = verdict(id);
    return error === undefined
      ? { result: { case: "session" as const, value: protoSession({ id }) } }
      : { result: { case: "error" as const, value: statusOf(error) } };
  });
  return { results };
}

function one(item: string) {
  const error = verdict(item);
  if (error !== undefined) throw error;
  return { session: protoSession({ id: item }) };
}

/** A server that answers single calls and batches alike, after a while. Some never. */
function consistent(delayMs: number): Handlers {
  const wait = async (items: readonly string[]) => {
    await sleep(delayMs);
    if (items.some((item) => item.startsWith("slow"))) await sleep(10_000);
  };
  return {
    async verifySession({ token }) {
      await wait([token]);
      return one(token);
    },
    async batchVerifySessions({ tokens }) {
      await wait(tokens);
      return batch(tokens);
    },
    async getSession({ sessionId }) {
      await wait([sessionId]);
      return one(sessionId);
    },
    async batchGetSessions({ sessionIds }) {
      await wait(sessionIds);
      return batch(sessionIds);
    },
  };
}

/** What a caller sees of a call. */
async function outcomeOf(call: Promise<object | undefined>): Promise<unknown> {
  try {
    return { session: await call };
  } catch (error) {
    if (!(error instanceof SessiondError)) throw error;
    const { reason, code, message, metadata, fieldViolations } = error;
    return { reason, code, message, metadata, fieldViolations };
  }
}

interface Step {
  readonly kind: "verify" | "get";
  readonly item: string;
  readonly noTouch: boolean;
  readonly fields: readonly ("id" | "roles")[] | undefined;
  readonly pause: boolean;
  readonly abort: "never" | "before" | "meanwhile";
}

const steps = fc.array(
  fc.record({
    kind: fc.constantFrom("verify", "get"),
    item: fc.constantFrom("a", "b", "c", "gone", "sealed", "wrong", "down"),
    noTouch: fc.constantFrom(false, false, true),
    fields: fc.constantFrom(
      undefined,
      undefined,
      ["id" as const],
      ["id" as const, "roles" as const],
    ),
    pause: fc.constantFrom(false, false, false, false, true),
    abort: fc.constantFrom("never", "never", "never", "before", "meanwhile"),
  }) satisfies fc.Arbitrary<Step>,
  { maxLength: 60, size: "max" },
);

async function run(client: SessionClient, all: readonly Step[]): Promise<unknown[]> {
  const outcomes: Promise<unknown>[] = [];
  for (const { kind, item, noTouch, fields, pause, abort } of all) {
    const controller = new AbortController();
    const reason = new Error("the user went away");
    if (abort === "before") controller.abort(reason);
    // A call that is aborted meanwhile has no answer that could come first.
    const name = abort === "meanwhile" ? `slow-${outcomes.length}` : item;
    const options = { signal: controller.signal };
    const call =
      kind === "verify"
        ? client.verifySession(name, { ...options, noTouch })
        : client.getSession(name, { ...options, ...(fields && { fields }) });
    outcomes.push(outcomeOf(call));
    if (abort === "meanwhile") setTimeout(() => controller.abort(reason), 5);
    if (pause) await sleep(1);
  }
  return Promise.all(outcomes);
}

test("any mix of calls has the same outcomes in batches as without", async () => {
  const server = await startSessionServer("grpc", consistent(3));
  const options = { maxAttempts: 2, timeoutMs: 2000 };
  const single = connectClient(server.baseUrl, { ...options, batching: false });
  const batched = connectClient(server.baseUrl, options);
  const random = vi.spyOn(Math, "random").mockReturnValue(0.01);
  onTestFinished(() => random.mockRestore());
  // A batch with a slow call is slow for all, which a deadline would show. So those are apart.
  const isSlow = ({ abort }: Step) => abort === "meanwhile";
  await fc.assert(
    fc.asyncProperty(steps, async (all) => {
      const quick = all.filter((step) => !isSlow(step));
      expect(await run(batched, quick)).toEqual(await run(single, quick));
      const slow = all.filter(isSlow);
      expect(await run(batched, slow)).toEqual(await run(single, slow));
    }),
    { numRuns: 40 },
  );
  const batches = server.calls.filter(({ method }) => method.startsWith("batch"));
  expect(batches.length).toBeGreaterThan(10);
}, 60_000);

test("calls that start together are one, and a call alone is itself", async () => {
  const { server, client } = await startClient(consistent(0));
  await client.verifySession("lone");
  const names = Array.from({ length: 250 }, (_, i) => `t${i}`);
  const sessions = await Promise.all(names.map((name) => client.verifySession(name)));
  expect(sessions.map((session) => session?.id)).toEqual(names);
  expect(server.calls.map(({ method }) => method)).toEqual([
    "verifySession",
    ...Array(3).fill("batchVerifySessions"),
  ]);
  expect(server.requests("batchVerifySessions").map(({ tokens }) => tokens.length)).toEqual([
    100, 100, 50,
  ]);
});

test("a call leaves at once while few are under way, and others together when one returns", async () => {
  const gates: (() => void)[] = [];
  const gate = () => new Promise<void>((open) => gates.push(open));
  const { server, client } = await startClient({
    async verifySession({ token }) {
      await gate();
      return one(token);
    },
    batchVerifySessions: ({ tokens }) => batch(tokens),
  });
  const calls: Promise<unknown>[] = [];
  for (let i = 0; i < 10; i++) {
    calls.push(client.verifySession(`t${i}`));
    await sleep(5);
  }
  expect(server.calls.map(({ method }) => method)).toEqual(Array(4).fill("verifySession"));
  gates[0]?.();
  await expect.poll(() => server.calls.length).toBe(5);
  expect(server.requests("batchVerifySessions")[0]?.tokens).toHaveLength(6);
  for (const open of gates) open();
  await Promise.all(calls);
});

test("calls about one token share an answer, and each has a session of its own", async () => {
  const { server, client } = await startClient(consistent(0));
  const sessions = await Promise.all(Array.from({ length: 5 }, () => client.verifySession("a")));
  expect(server.requests("verifySession")).toHaveLength(1);
  expect(new Set(sessions).size).toBe(5);
  (sessions.at(0) as { roles: string[] } | undefined)?.roles.push("mine");
  expect(sessions[1]?.roles).toEqual([]);
});

test("no call gets an answer that was asked for before the call", async () => {
  const gate = Promise.withResolvers<void>();
  let isRevoked = false;
  const { client } = await startClient({
    async verifySession() {
      const wasRevoked = isRevoked;
      if (!wasRevoked) await gate.promise;
      if (wasRevoked) throw notFound();
      return { session: protoSession() };
    },
  });
  const before = client.verifySession("a");
  await sleep(50);
  isRevoked = true;
  expect(await client.verifySession("a")).toBeUndefined();
  gate.resolve();
  expect(await before).toBeDefined();
});

test("a signal or a deadline of one call ends no other, and the last one ends the batch", async () => {
  const ended = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const { server, client } = await startClient({
    async batchVerifySessions({ tokens }, { signal }) {
      if (tokens.includes("never")) {
        signal.addEventListener("abort", () => ended.resolve());
        return never();
      }
      await gate.promise;
      return batch(tokens);
    },
  });
  const cancel = new AbortController();
  const { signal } = cancel;
  const calls = [
    client.verifySession("a", { signal }),
    client.verifySession("a"),
    client.verifySession("b", { timeoutMs: 60 }),
    client.verifySession("c"),
  ];
  const [aborted, late] = [rejection(calls[0] as never), rejection(calls[2] as never)];
  await expect.poll(() => server.calls.length).toBe(1);
  cancel.abort();
  expect((await aborted).reason).toBe("CANCELED");
  expect((await late).reason).toBe("DEADLINE_EXCEEDED");
  gate.resolve();
  expect(await calls[1]).toMatchObject({ id: "a" });
  expect(await calls[3]).toMatchObject({ id: "c" });

  const both = ["never", "never-2"].map((token) =>
    rejection(client.verifySession(token, { timeoutMs: 100 })),
  );
  for (const call of both) expect((await call).reason).toBe("DEADLINE_EXCEEDED");
  await ended.promise;
});

test("a call that waits for its turn ends at its own deadline, and is not sent afterwards", async () => {
  const gate = Promise.withResolvers<void>();
  const { server, client } = await startClient({
    async verifySession({ token }) {
      await gate.promise;
      return one(token);
    },
  });
  const first: Promise<unknown>[] = [];
  for (const token of ["a", "b", "c", "d"]) {
    first.push(client.verifySession(token));
    await expect.poll(() => server.calls.length).toBe(first.length);
  }
  const startMs = performance.now();
  const short = rejection(client.verifySession("short", { timeoutMs: 60 }));
  const long = client.verifySession("long");
  expect((await short).reason).toBe("DEADLINE_EXCEEDED");
  expect(performance.now() - startMs).toBeLessThan(1_000);
  gate.resolve();
  expect(await long).toMatchObject({ id: "long" });
  await Promise.all(first);
  expect(JSON.stringify(server.calls)).not.toContain("short");
});

test("calls that are activity and calls that are not are never in one batch", async () => {
  const { server, client } = await startClient(consistent(0));
  const calls = Array.from({ length: 6 }, (_, i) =>
    client.verifySession(`t${Math.floor(i / 2)}`, { noTouch: i % 2 === 0 }),
  );
  await Promise.all(calls);
  const carried = server
    .requests("batchVerifySessions")
    .map(({ noTouch, tokens }) => [noTouch, tokens]);
  const tokens = ["t0", "t1", "t2"];
  expect(carried.toSorted()).toEqual([
    [false, tokens],
    [true, tokens],
  ]);
});

test("a call that is aborted in the turn in which it starts ends no other", async () => {
  const { client } = await startClient(consistent(0), { maxAttempts: 1 });
  const cancel = new AbortController();
  const aborted = rejection(client.verifySession("a", { signal: cancel.signal }));
  const others = ["b", "c"].map((token) => client.verifySession(token));
  for (let i = 0; i < 10; i++) await undefined;
  cancel.abort();
  expect((await aborted).reason).toBe("CANCELED");
  expect((await Promise.all(others)).map((session) => session?.id)).toEqual(["b", "c"]);
});

test("a batch that fails is tried again", async () => {
  const seen: string[] = [];
  const { client } = await startClient({
    ...consistent(0),
    batchVerifySessions({ tokens }) {
      seen.push(...tokens);
      throw storeUnavailable();
    },
  });
  const calls = ["a", "b"].map((token) => client.verifySession(token).catch(() => undefined));
  expect((await Promise.all(calls)).map((session) => session?.id)).toEqual(["a", "b"]);
  expect(seen.slice(0, 2)).toEqual(["a", "b"]);
});

test("a batch that is refused because of one of its calls is taken apart", async () => {
  const { server, client } = await startClient({
    ...consistent(0),
    batchVerifySessions({ tokens }) {
      throw answer(Code.InvalidArgument, "INVALID_ARGUMENT", { message: `not ${tokens}` });
    },
  });
  const calls = ["a", "gone", "b"].map((token) => client.verifySession(token));
  expect((await Promise.all(calls)).map((session) => session?.id)).toEqual(["a", undefined, "b"]);
  expect(server.requests("verifySession")).toHaveLength(3);
});

test("an answer with too few results is nobody's", async () => {
  const { client } = await startClient({
    batchVerifySessions: ({ tokens }) => batch(tokens.slice(1)),
  });
  for (const call of [client.verifySession("a"), client.verifySession("b")]) {
    expect((await rejection(call)).reason).toBe("INTERNAL");
  }
});

test("calls with different access tokens are never in one batch", async () => {
  let count = 0;
  const { server, client } = await startClient(consistent(0), {
    token: () => (count++ % 2 === 0 ? "even" : "odd"),
  });
  await Promise.all(Array.from({ length: 6 }, (_, i) => client.verifySession(`t${i}`)));
  const carried = server.calls.map(({ authorization, request }) => [
    authorization,
    (request as { tokens: string[] }).tokens,
  ]);
  expect(carried.toSorted()).toEqual([
    ["Bearer even", ["t0", "t2", "t4"]],
    ["Bearer odd", ["t1", "t3", "t5"]],
  ]);
});

test("what no token can be goes alone, so that it spoils no batch", async () => {
  const { server, client } = await startClient(consistent(0));
  const long = "x".repeat(5000);
  await Promise.all(["a", "b", long].map((token) => client.verifySession(token)));
  expect(server.requests("verifySession").map(({ token }) => token)).toEqual([long]);
});
