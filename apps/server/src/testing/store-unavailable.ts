import { setTimeout as sleep } from "node:timers/promises";
import { expect, vi } from "vitest";
import { failureIfAny } from "./outcome.js";
import type { TestServer } from "./test-server.js";

/** How fast every call is answered, whatever the store does. */
export const MAX_ANSWER_MS = 2_000;
/** How soon after the store is back calls succeed again. The server reconnects every second. */
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
export async function timed(call: () => Promise<unknown>) {
  const startMs = performance.now();
  const failure = await failureIfAny(call());
  return { elapsedMs: performance.now() - startMs, failure };
}

/** Makes a call that must fail in time because of the store, and say when to try again. */
export async function expectStoreUnavailable(call: () => Promise<unknown>): Promise<void> {
  const { elapsedMs, failure } = await timed(call);
  expect(failure).toMatchObject(STORE_UNAVAILABLE);
  expect(failure?.retryDelayMs).toBeGreaterThan(0);
  expect(elapsedMs).toBeLessThan(MAX_ANSWER_MS);
}

/** Makes a call that may fail, but only because of the store, and in time. Tells if it succeeded. */
export async function orStoreUnavailable(call: () => Promise<unknown>): Promise<boolean> {
  const { elapsedMs, failure } = await timed(call);
  if (failure !== undefined) expect(failure).toMatchObject(STORE_UNAVAILABLE);
  expect(elapsedMs).toBeLessThan(MAX_ANSWER_MS);
  return failure === undefined;
}

/** Repeats a call while the store is unavailable to it, which must end soon. */
export async function untilAnswered(call: () => Promise<unknown>): Promise<void> {
  const giveUpMs = performance.now() + BACK_MS;
  while (!(await orStoreUnavailable(call))) {
    expect(performance.now(), "a store that is back is not used again").toBeLessThan(giveUpMs);
    await sleep(RETRY_PAUSE_MS);
  }
}

/** Waits until `/readyz` answers with this status. */
export function expectReadiness(server: TestServer, status: 200 | 503): Promise<void> {
  const check = async () => expect((await getText(server, "/readyz"))[0]).toBe(status);
  return vi.waitFor(check, { timeout: 15_000, interval: 20 });
}

/** The status and the text that a path of the HTTP port answers with. */
export async function getText({ httpUrl }: TestServer, path: string): Promise<[number, string]> {
  const response = await fetch(httpUrl + path);
  return [response.status, await response.text()];
}
