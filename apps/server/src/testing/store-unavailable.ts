import { setTimeout as sleep } from "node:timers/promises";
import { expect, vi } from "vitest";
import { type Failure, failureOf } from "./outcome.js";
import type { TestServer } from "./test-server.js";

/** How fast every call is answered, whatever the store does. */
export const MAX_ANSWER_MS = 2_000;
/** Checks of the store come once a second, and so do tries to reconnect; both within this, then. */
const PATIENCE = { timeout: 15_000, interval: 20 };

/** How soon after the store is back calls succeed again. A try to reconnect comes every second. */
const BACK_MS = 3_000;
const RETRY_PAUSE_MS = 50;

/** What a call is told while the store does not answer. */
export const STORE_UNAVAILABLE = {
  code: "UNAVAILABLE",
  reason: "STORE_UNAVAILABLE",
  domain: "sessiond",
  message: expect.stringContaining("the session store is unavailable"),
};

/** How long a call took, and how it failed if it did. */
export interface TimedOutcome {
  readonly elapsedMs: number;
  readonly failure: Failure | undefined;
}

/** Makes a call, which may fail. */
export async function timed(call: () => Promise<unknown>): Promise<TimedOutcome> {
  const startMs = performance.now();
  const failed = await call().then(
    () => undefined,
    (error: unknown) => failureOf(Promise.reject(error)),
  );
  return { elapsedMs: performance.now() - startMs, failure: failed };
}

/** Makes a call that must fail for want of the store, in time, saying when to try again. */
export async function expectStoreUnavailable(call: () => Promise<unknown>): Promise<void> {
  const { elapsedMs, failure } = await timed(call);
  expect(failure).toMatchObject(STORE_UNAVAILABLE);
  expect(failure?.retryDelayMs).toBeGreaterThan(0);
  expect(elapsedMs).toBeLessThan(MAX_ANSWER_MS);
}

/** Makes a call that may fail for want of the store, but only for that, and in time. Answers whether it did not. */
export async function orStoreUnavailable(call: () => Promise<unknown>): Promise<boolean> {
  const { elapsedMs, failure } = await timed(call);
  if (failure !== undefined) expect(failure).toMatchObject(STORE_UNAVAILABLE);
  expect(elapsedMs).toBeLessThan(MAX_ANSWER_MS);
  return failure === undefined;
}

/** Repeats a call for as long as the store is unavailable to it, which must end soon. */
export async function untilAnswered<T>(call: () => Promise<T>): Promise<T> {
  const giveUpMs = performance.now() + BACK_MS;
  for (;;) {
    let answer: { readonly value: T } | undefined;
    const isAnswered = await orStoreUnavailable(async () => {
      answer = { value: await call() };
    });
    if (isAnswered && answer !== undefined) return answer.value;
    expect(performance.now(), "a store that is back is not used again").toBeLessThan(giveUpMs);
    await sleep(RETRY_PAUSE_MS);
  }
}

/** Waits until `/readyz` answers with this status. */
export function expectReadiness(server: TestServer, status: 200 | 503): Promise<void> {
  return vi.waitFor(
    async () => expect((await getText(server, "/readyz"))[0]).toBe(status),
    PATIENCE,
  );
}

/** What a path of the HTTP port answers. */
export async function getText(
  server: TestServer,
  path: string,
): Promise<[status: number, text: string]> {
  const response = await fetch(server.httpUrl + path);
  return [response.status, await response.text()];
}
