import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openRedisStores } from "../redis/open-redis-stores.js";
import { SqliteDatabase } from "../sqlite/sqlite-database.js";
import { SqliteRateLimitStore } from "../sqlite/sqlite-rate-limit-store.js";
import { FakeClock } from "../testing/contract/fake-clock.js";
import { connectTo } from "../testing/redis/connect-to.js";
import { startRedisServer } from "../testing/redis/redis-server.js";
import { parseRateLimitPolicies } from "./rate-limit-policy.js";
import { RateLimits } from "./rate-limits.js";

const MINUTE_MS = 60_000;
const POLICIES = parseRateLimitPolicies(
  "login: 2 per 15m, 3 per 24h; mail: 2 per 1h (count refused);" +
    "search: 5 per 1m, 100 per 1h (allow when unavailable)",
);

let clock: FakeClock;
let database: SqliteDatabase;
let rateLimits: RateLimits;
beforeEach(async () => {
  clock = new FakeClock();
  database = await SqliteDatabase.open({ path: ":memory:", now: clock.now });
  rateLimits = new RateLimits({
    store: new SqliteRateLimitStore(database),
    policies: POLICIES,
    now: clock.now,
  });
});
afterEach(() => database.close());

const ANN = { policy: "login", key: "ann" };

test("an attempt counts one unless it says what it costs", async () => {
  expect(await rateLimits.check(ANN)).toMatchObject({ isAllowed: true, remaining: 1 });
  expect(await rateLimits.check({ ...ANN, cost: 2 })).toMatchObject({ isAllowed: false });
  expect(await rateLimits.check({ ...ANN, cost: 1 })).toMatchObject({ remaining: 0 });
});

test("each policy has its own windows, and says whether refused attempts count", async () => {
  for (const policy of ["login", "mail"]) {
    for (let i = 0; i < 2; i++) await rateLimits.check({ policy, key: "ann" });
    clock.advance(1_000);
    for (let i = 0; i < 2; i++) await rateLimits.check({ policy, key: "ann" });
  }
  const login = { isAllowed: false, retryAfterMs: 15 * MINUTE_MS - 2_000 };
  expect(await rateLimits.check(ANN)).toMatchObject(login);
  const mail = { isAllowed: false, retryAfterMs: 60 * MINUTE_MS };
  expect(await rateLimits.check({ ...ANN, policy: "mail" })).toMatchObject(mail);
});

test("a key under one policy has nothing to do with the same key under another", async () => {
  await rateLimits.check({ ...ANN, cost: 2 });
  expect(await rateLimits.get({ policy: "mail", key: "ann" })).toMatchObject({ remaining: 2 });
  await rateLimits.reset({ policy: "mail", key: "ann" });
  expect(await rateLimits.get(ANN)).toMatchObject({ isAllowed: false, remaining: 0 });
  await rateLimits.reset(ANN);
  expect(await rateLimits.get(ANN)).toMatchObject({ isAllowed: true, remaining: 2 });
});

/** Expects every call on a key to be refused before the store is asked. */
async function expectInvalid(target: { policy: string; key: string }, message: string) {
  for (const method of ["check", "get", "reset"] as const) {
    await expect(rateLimits[method](target)).rejects.toMatchObject({
      reason: "INVALID_ARGUMENT",
      message: expect.stringContaining(message),
    });
  }
}

test("an unknown policy is refused, and the known ones are listed", async () => {
  for (const [policy, named] of [
    ["logn", '"logn"'],
    ["__proto__", '"__proto__"'],
    [`\n${"x".repeat(100)}`, `"\\n${"x".repeat(63)}…"`],
  ] as const) {
    const message = `policy: there is no policy ${named}; expected login, mail, or search`;
    await expectInvalid({ policy, key: "ann" }, message);
  }
});

test("a faulty key is refused, and so is a cost beyond the least limit of the policy", async () => {
  for (const key of ["", "a".repeat(257), "é".repeat(129), "a\nb", "a\u007f", "\ud800"]) {
    await expectInvalid({ policy: "login", key }, "key: ");
  }
  for (const cost of [0, -1, 1.5, 3, Number.NaN, Number.POSITIVE_INFINITY]) {
    const message = "cost: expected a whole number from 1 to 2";
    await expect(rateLimits.check({ ...ANN, cost })).rejects.toMatchObject({ message });
    await expect(rateLimits.get({ ...ANN, cost })).rejects.toMatchObject({ message });
  }
  for (const key of ["2001:db8::1", "a".repeat(256), "é".repeat(128), "a b", "{x}:y"]) {
    expect(await rateLimits.check({ policy: "login", key })).toMatchObject({ remaining: 1 });
  }
});

describe("while the store is down,", () => {
  beforeEach(() => database.close());

  test("a policy that says nothing else lets nobody pass", async () => {
    for (const method of ["check", "get", "reset"] as const) {
      await expect(rateLimits[method](ANN)).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
    }
  });

  test("a policy that says so lets pass as if nothing had been counted, and says why", async () => {
    const target = { policy: "search", key: "ann" };
    for (const method of ["check", "get"] as const) {
      for (let i = 0; i < 10; i++) {
        expect(await rateLimits[method]({ ...target, cost: 5 })).toEqual({
          isAllowed: true,
          window: { limit: 5, windowMs: MINUTE_MS },
          remaining: 5,
          retryAfterMs: 0,
          resetTimeMs: clock.now(),
          storeFailure: expect.objectContaining({ reason: "STORE_UNAVAILABLE" }),
        });
      }
    }
    // But nobody is told that a key was reset, and a faulty request stays one.
    await expect(rateLimits.reset(target)).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
    const faulty = rateLimits.check({ ...target, key: "" });
    await expect(faulty).rejects.toMatchObject({ reason: "INVALID_ARGUMENT" });
  });
});

describe("while the store is full,", () => {
  /** Expects the policies to decide about a key that the store has no room for. */
  async function expectPoliciesToDecide(key: string): Promise<void> {
    const full = { reason: "OVERLOADED" };
    await expect(rateLimits.check({ policy: "login", key })).rejects.toMatchObject(full);
    for (let i = 0; i < 10; i++) {
      expect(await rateLimits.check({ policy: "search", key })).toMatchObject({
        isAllowed: true,
        remaining: 5,
        storeFailure: full,
      });
    }
  }

  test("policies decide about an attempt that SQLite cannot count", async () => {
    const pages = database.db.prepare("PRAGMA page_count").get()?.["page_count"];
    database.db.exec(`PRAGMA max_page_count = ${Number(pages)}`);
    const longKey = (i: number) => `${i}-${"x".repeat(240)}`;
    const fill = async () => {
      for (let i = 0; i < 10_000; i++) await rateLimits.check({ policy: "login", key: longKey(i) });
    };
    await expect(fill()).rejects.toMatchObject({ reason: "OVERLOADED" });
    // The longest key of all finds no room where another might.
    await expectPoliciesToDecide("y".repeat(256));
  });

  test("policies decide about an attempt that Redis cannot count", async () => {
    await using server = await startRedisServer({ args: ["--maxmemory", "1"] });
    const stores = openRedisStores({ redis: await connectTo(server) });
    rateLimits = new RateLimits({ store: stores.rateLimits, policies: POLICIES });
    await expectPoliciesToDecide("ann").finally(() => stores.close());
  });
});
