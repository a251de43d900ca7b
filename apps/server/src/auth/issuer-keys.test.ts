import { afterEach, beforeEach, expect, test } from "vitest";
import { TestIssuer } from "../testing/test-issuer.js";
import { IssuerKeys } from "./issuer-keys.js";
import type { KeySet } from "./key-set.js";

const REFRESH_AFTER_MS = 60_000;
const WAIT_AFTER_MS = 120_000;
const MAX_AGE_MS = 3_600_000;
const COOLDOWN_MS = 10_000;
const RETRY_AFTER_MS = 1_000;

let nowMs = 0;
let failures: unknown[] = [];
let issuer: TestIssuer;
let keys: IssuerKeys;
let closing: AbortController;

beforeEach(async () => {
  nowMs = Date.UTC(2026, 0, 1);
  failures = [];
  issuer = await TestIssuer.start();
  await issuer.addKey("k1");
  closing = new AbortController();
  keys = keysWith(2_000);
});
afterEach(() => issuer.close());

function keysWith(timeoutMs: number): IssuerKeys {
  // A load that ends after its test must not be counted by the next.
  const ownFailures = failures;
  return new IssuerKeys(
    issuer.url,
    { kind: "url", url: issuer.jwksUrl },
    {
      now: () => nowMs,
      timeoutMs,
      closing: closing.signal,
      onLoadFailure: (_, cause) => ownFailures.push(cause),
    },
  );
}

function failLoads(): void {
  issuer.respond = (_, response) => response.writeHead(503).end();
}

/** Waits for a load in the background: `get` without a wait would see the keys of before. */
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

test("keys are loaded anew behind their use, once they are a minute old", async () => {
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

test("once a load finds other keys, the set of before is not current any more", async () => {
  const keySet = await keys.get();
  await issuer.addKey("k2");
  nowMs += REFRESH_AFTER_MS;
  keys.isCurrent(keySet);
  await loaded(2);
  expect(keys.isCurrent(keySet)).toBe(false);
  const newKeySet = await keys.get();
  expect(newKeySet).not.toBe(keySet);
  expect(keys.isCurrent(newKeySet)).toBe(true);
});

test("keys that were in use lately serve while others are loaded", async () => {
  const keySet = await keys.get();
  await issuer.addKey("k2");
  nowMs += WAIT_AFTER_MS - 1;
  expect(keys.isCurrent(keySet)).toBe(true);
  expect(await keys.get()).toBe(keySet);
  await loaded(2);
});

test("keys that were not in use for two minutes are loaded anew before they are used", async () => {
  const keySet = await keys.get();
  await issuer.addKey("k2");
  nowMs += WAIT_AFTER_MS;
  expect(keys.isCurrent(keySet)).toBe(false);
  expect(await keys.get()).not.toBe(keySet);
  expect(issuer.requests).toHaveLength(2);
});

test("keys serve while their issuer is down, for an hour and no longer", async () => {
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

test("a failed load is not tried again for a second, and then is", async () => {
  failLoads();
  await unavailable(keys.get());
  issuer.respond = undefined;
  nowMs += RETRY_AFTER_MS - 1;
  await unavailable(keys.get());
  expect(issuer.requests).toHaveLength(1);
  nowMs += 1;
  await expect(keys.get()).resolves.toBeDefined();
  expect(issuer.requests).toHaveLength(2);
  expect(failures).toHaveLength(1);
});

test("an outage that is over is forgotten: unused keys are waited for again", async () => {
  failLoads();
  await unavailable(keys.get());
  issuer.respond = undefined;
  nowMs += RETRY_AFTER_MS;
  const keySet = await keys.get();
  nowMs += WAIT_AFTER_MS;
  expect(keys.isCurrent(keySet)).toBe(false);
  await keys.get();
});

test("a missing key has the keys loaded anew, at most once in ten seconds", async () => {
  const keySet = await keys.get();
  await issuer.addKey("k2");
  nowMs += COOLDOWN_MS - 1;
  expect(await keys.getAfterMiss(keySet)).toBe(keySet);
  expect(issuer.requests).toHaveLength(1);
  nowMs += 1;
  expect(await keys.getAfterMiss(keySet)).not.toBe(keySet);
  expect(issuer.requests).toHaveLength(2);
});

test("who missed a key in a set of before gets the current one without a load", async () => {
  const keySet = await keys.get();
  await issuer.addKey("k2");
  nowMs += COOLDOWN_MS;
  const newKeySet = await keys.getAfterMiss(keySet);
  nowMs += COOLDOWN_MS;
  expect(await keys.getAfterMiss(keySet)).toBe(newKeySet);
  expect(issuer.requests).toHaveLength(2);
});

test("a missing key at an issuer that is down is nobody's fault", async () => {
  const keySet = await keys.get();
  failLoads();
  nowMs += COOLDOWN_MS;
  await unavailable(keys.getAfterMiss(keySet));
  expect(keys.isCurrent(keySet)).toBe(true);
});

test("a clock that was set back has the keys loaded anew", async () => {
  const keySet = await keys.get();
  nowMs -= 86_400_000;
  expect(keys.isCurrent(keySet)).toBe(false);
  expect(await keys.get()).toBe(keySet);
  expect(issuer.requests).toHaveLength(2);
});

test("a load that takes too long fails", async () => {
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
