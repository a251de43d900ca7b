import { createContextValues } from "@connectrpc/connect";
import { DEFAULT_SESSION_POLICY, Keyring, Places } from "@sessiond/core";
import { openSqliteStores, type SqliteStores } from "@sessiond/core/sqlite";
import { afterEach, beforeEach, expect, test } from "vitest";
import { callerKey } from "../auth/caller.js";
import { Namespaces } from "./namespaces.js";

const REMEMBERED = 1_000;
const LEASE = { name: "invoices", waitTimeoutMs: 60_000 };

let stores: SqliteStores;
let namespaces: Namespaces;

beforeEach(async () => {
  stores = await openSqliteStores({ path: ":memory:" });
  const keyring = Keyring.parse(Keyring.generateKey());
  const sessionPolicy = DEFAULT_SESSION_POLICY;
  const places = { watches: new Places(10), lockWaiters: new Places(10_000) };
  namespaces = new Namespaces({ stores, keyring, sessionPolicy, rateLimits: [], places });
});
afterEach(async () => {
  await namespaces.close();
  await stores.close();
});

function valuesOf(namespace: string) {
  const caller = { issuer: "i", subject: "s", namespace, permissions: new Set<string>() };
  return createContextValues().set(callerKey, caller);
}

const of = (name: string) => namespaces.of(valuesOf(name));

function useMany(): void {
  for (let i = 0; i < REMEMBERED; i++) of(`tenant-${i}`);
}

test("the calls of one namespace share what serves them, and nobody else's", () => {
  expect(of("shop")).toBe(of("shop"));
  expect(of("shop")).not.toBe(of("blog"));
  expect(of("")).toBe(of(""));
});

test("a call without a caller is led nowhere", () => {
  expect(() => namespaces.of(createContextValues())).toThrow("without a caller");
});

test("the namespace that was not used for the longest time is forgotten, and its sessions stay", async () => {
  const { sessions } = of("shop");
  const { token } = await sessions.create({ userId: "ann" });
  useMany();
  expect(of("shop").sessions).not.toBe(sessions);
  expect(await of("shop").sessions.verify(token)).toMatchObject({ userId: "ann" });
});

test("a namespace in use is remembered, and one whose callers wait for a lock", async () => {
  const waiting = of("waiting");
  const { lockId } = await waiting.locks.acquire(LEASE);
  const next = waiting.locks.acquire(LEASE);
  const used = of("used");
  for (let i = 0; i < 3 * REMEMBERED; i++) {
    of(`tenant-${i}`);
    expect(of("used")).toBe(used);
  }
  // A release through another object would be heard of later, or only by polling.
  expect(of("waiting")).toBe(waiting);
  await of("waiting").locks.release(LEASE.name, lockId);
  expect((await next).name).toBe(LEASE.name);
});

test("the waiting calls of one namespace leave places to others", async () => {
  const end = new AbortController();
  const acquire = (name: string) =>
    of(name)
      .locks.acquire({ ...LEASE, signal: end.signal })
      .then(
        () => "held",
        (error: { readonly reason?: string }) => error.reason ?? "ended",
      );
  await acquire("greedy");
  const calls = Array.from({ length: 10_001 }, () => acquire("greedy"));
  expect(await Promise.race(calls)).toBe("OVERLOADED");
  expect(await acquire("modest")).toBe("held");
  end.abort(new Error("over"));
  await Promise.all(calls);
});
