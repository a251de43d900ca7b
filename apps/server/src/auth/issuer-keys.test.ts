import { afterEach, beforeEach, expect, test } from "vitest";
import { TestIssuer } from "../testing/test-issuer.js";
import { within } from "../testing/within.js";
import { IssuerKeys, type KeyChanges } from "./issuer-keys.js";
import type { KeySet } from "./key-set.js";

const REFRESH_AFTER_MS = 60_000;
const WAIT_AFTER_MS = 120_000;
const MAX_AGE_MS = 3_600_000;
const COOLDOWN_MS = 10_000;
const RETRY_AFTER_MS = 1_000;

let nowMs = 0;
let failures: unknown[] = [];
let changes: KeyChanges[] = [];
let issuer: TestIssuer;
let keys: IssuerKeys;
let closing: AbortController;

beforeEach(async () => {
  nowMs = Date.UTC(2026, 0, 1);
  failures = [];
  changes = [];
  issuer = await TestIssuer.start();
  await issuer.addKey("k1");
  closing = new AbortController();
  keys = keysWith(2_000);
});
afterEach(() => issuer.close());

function keysWith(timeoutMs: number): IssuerKeys {
  // A load that ends after its test must not count in the next.
  const ownFailures = failures;
  const onLoadFailure = (_: string, cause: unknown) => ownFailures.push(cause);
  const bounds = { timeoutMs, answerWaitMs: 1_000, maxAgeMs: MAX_AGE_MS };
  const ownChanges = changes;
  const onKeysChanged = (_: string, change: KeyChanges) => ownChanges.push(change);
  const reports = { onLoadFailure, onKeysChanged };
  const options = { now: () => nowMs, ...bounds, closing: closing.signal, ...reports };
  return new IssuerKeys(issuer.url, { kind: "url", url: issuer.jwksUrl }, options);
}

function failLoads(): void {
  issuer.respond = (_, response) => response.writeHead(503).end();
}

/** Waits for a load in the background. `get` would not wait, and return the old keys. */
async function loaded(requests: number): Promise<void> {
  await expect.poll(() => issuer.requests.length).toBe(requests);
  await new Promise((resolve) => setTimeout(resolve, 50));
}

async function unavailable(attempt: Promise<KeySet>): Promise<void> {
  await expect(attempt).rejects.toMatchObject({
    reason: "ISSUER_UNAVAILABLE",
    message: `the signing keys of issuer ${issuer.url} are unavailable`,
  });
}

test("keys are loaded when first needed, once for all who wait for them", async () => {
  expect(issuer.requests).toHaveLength(0);
  const sets = await Promise.all([keys.get(), keys.get(), keys.get()]);
  expect(new Set(sets).size).toBe(1);
  expect(issuer.requests).toHaveLength(1);
});

test("keys are reloaded behind their use once they are a minute old, and stay the same set", async () => {
  const keySet = await keys.get();
  nowMs += REFRESH_AFTER_MS - 1;
  expect(keys.isCurrent(keySet)).toBe(true);
  await loaded(1);
  nowMs += 1;
  expect(keys.isCurrent(keySet)).toBe(true);
  await loaded(2);
  expect(await keys.get()).toBe(keySet);
  expect(issuer.requests).toHaveLength(2);
});

test("keys that were in use lately serve until a reload finds others", async () => {
  const keySet = await keys.get();
  await issuer.addKey("k2");
  nowMs += WAIT_AFTER_MS - 1;
  expect(keys.isCurrent(keySet)).toBe(true);
  expect(await keys.get()).toBe(keySet);
  await loaded(2);
  expect(keys.isCurrent(keySet)).toBe(false);
  const newKeySet = await keys.get();
  expect(newKeySet).not.toBe(keySet);
  expect(keys.isCurrent(newKeySet)).toBe(true);
});

test("a change of the published keys is told once, with the ids that came and went", async () => {
  await keys.get();
  await issuer.addKey("k2");
  issuer.withdrawKey("k1");
  for (let minute = 0; minute < 3; minute++) {
    nowMs += WAIT_AFTER_MS;
    await keys.get();
  }
  expect(issuer.requests).toHaveLength(4);
  expect(changes).toEqual([{ added: ["k2"], removed: ["k1"] }]);
  expect([keys.hasPublished("k1"), keys.hasPublished("k2")]).toEqual([true, true]);
  expect(keys.hasPublished("k3")).toBe(false);
});

test.each([
  ["if nobody used them for two minutes", WAIT_AFTER_MS],
  ["after the clock was set back", -86_400_000],
])("keys are reloaded before use %s", async (_, passedMs) => {
  const keySet = await keys.get();
  await issuer.addKey("k2");
  nowMs += passedMs;
  expect(keys.isCurrent(keySet)).toBe(false);
  expect(await keys.get()).not.toBe(keySet);
  expect(issuer.requests).toHaveLength(2);
});

test("keys serve while their issuer is down, for as long as they may and no longer", async () => {
  const keySet = await keys.get();
  failLoads();
  nowMs += MAX_AGE_MS - 1;
  expect(await keys.get()).toBe(keySet);
  expect(keys.isCurrent(keySet)).toBe(true);
  expect(failures).toHaveLength(1);
  nowMs += 1;
  expect(keys.isCurrent(keySet)).toBe(false);
  await unavailable(keys.get());
});

test("only the first call waits for an issuer that does not answer, while there are keys", async () => {
  keys = keysWith(200);
  const keySet = await keys.get();
  issuer.respond = () => {};
  nowMs += WAIT_AFTER_MS;
  expect(await keys.get()).toBe(keySet);
  expect(failures).toHaveLength(1);
  nowMs += RETRY_AFTER_MS;
  expect(keys.isCurrent(keySet)).toBe(true);
  await loaded(3);
  expect(failures).toHaveLength(1);
});

test("a failed load is tried again after a second, behind calls, and its success ends the outage", async () => {
  failLoads();
  await unavailable(keys.get());
  issuer.respond = undefined;
  nowMs += RETRY_AFTER_MS - 1;
  await unavailable(keys.get());
  expect(issuer.requests).toHaveLength(1);
  nowMs += 1;
  await unavailable(keys.get());
  await loaded(2);
  const keySet = await keys.get();
  expect(failures).toHaveLength(1);
  // Calls wait for keys that were not in use, as if there had been no outage.
  nowMs += WAIT_AFTER_MS;
  expect(keys.isCurrent(keySet)).toBe(false);
  expect(await keys.get()).toBe(keySet);
});

test("calls wait a second for an issuer that hangs, and later calls fail at once", async () => {
  issuer.respond = () => {};
  keys = keysWith(5_000);
  await within(2_000, Promise.all([unavailable(keys.get()), unavailable(keys.get())]));
  nowMs += RETRY_AFTER_MS;
  await within(100, unavailable(keys.get()));
  expect(issuer.requests).toHaveLength(1);
  expect(keys.areMissing).toBe(true);
});

test("keys that an issuer sends late serve from then on", async () => {
  issuer.respond = (_, response) => setTimeout(() => response.end(issuer.jwks), 1_500);
  keys = keysWith(5_000);
  await unavailable(keys.get());
  await expect.poll(() => keys.areMissing, { timeout: 3_000 }).toBe(false);
  await keys.get();
  expect(issuer.requests).toHaveLength(1);
});

test("a key that its issuer uses right after a reload is found", async () => {
  const keySet = await keys.get();
  await issuer.addKey("k2");
  expect(await keys.getAfterMiss(keySet)).not.toBe(keySet);
});

test("a key that its issuer begins to use during a reload is found", async () => {
  const keySet = await keys.get();
  const before = issuer.jwks;
  issuer.respond = (_, response) => setTimeout(() => response.end(before), 100);
  nowMs += REFRESH_AFTER_MS;
  keys.isCurrent(keySet);
  await expect.poll(() => issuer.requests.length).toBe(2);
  issuer.respond = undefined;
  await issuer.addKey("k2");
  expect(await keys.getAfterMiss(keySet)).not.toBe(keySet);
});

test("missing keys cause at most one load in ten seconds, which serves all who miss one", async () => {
  const keySet = await keys.get();
  const misses = () => Promise.all([keys.getAfterMiss(keySet), keys.getAfterMiss(keySet)]);
  expect(await misses()).toEqual([keySet, keySet]);
  expect(issuer.requests).toHaveLength(2);
  await issuer.addKey("k2");
  nowMs += COOLDOWN_MS - 1;
  expect(await keys.getAfterMiss(keySet)).toBe(keySet);
  expect(issuer.requests).toHaveLength(2);
  nowMs += 1;
  expect(await keys.getAfterMiss(keySet)).not.toBe(keySet);
  expect(issuer.requests).toHaveLength(3);
});

test("a missing key is not the caller's fault if its issuer is down", async () => {
  const keySet = await keys.get();
  failLoads();
  nowMs += COOLDOWN_MS;
  await unavailable(keys.getAfterMiss(keySet));
  expect(keys.isCurrent(keySet)).toBe(true);
});

test("a load that takes longer than the time limit fails", async () => {
  issuer.respond = () => {};
  await unavailable(keysWith(100).get());
  expect(failures).toMatchObject([{ name: "TimeoutError" }]);
});

test("closing ends a load that is under way", async () => {
  issuer.respond = () => {};
  const attempt = keys.get();
  await loaded(1);
  closing.abort(new Error("stopping"));
  await unavailable(attempt);
  expect(failures).toMatchObject([{ message: "stopping" }]);
});
