import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import type { HeldLock, LockStore } from "../../../locks/lock-store.js";

export const NAME = "invoices/2024-07";
/** The lease of locks whose lease does not matter. */
export const TTL_MS = 30_000;
/** How soon a hint must come, on a machine that does much else. */
const HINT_TIMEOUT_MS = 5_000;

/** Takes a lock that is free. */
export async function take(
  store: LockStore,
  lockId: string,
  { name = NAME, ttlMs = TTL_MS }: { readonly name?: string; readonly ttlMs?: number } = {},
): Promise<HeldLock> {
  const answer = await store.acquire(name, lockId, ttlMs);
  assert.ok(!("occupied" in answer), `${lockId} was refused a lock that is free`);
  return answer;
}

/** Asserts that a lock is refused, and that the store says until when. */
export async function assertRefused(
  store: LockStore,
  lockId: string,
  { name = NAME, queueForMs }: { readonly name?: string; readonly queueForMs?: number } = {},
): Promise<{ readonly expireTimeMs: number; readonly readTimeMs: number }> {
  const answer = await store.acquire(name, lockId, TTL_MS, queueForMs);
  assert.ok("occupied" in answer, `${lockId} was given a lock that it must not have`);
  return answer;
}

/** What does not depend on when it was read. */
export function factsOf(lock: HeldLock | undefined): Omit<HeldLock, "readTimeMs"> | undefined {
  if (lock === undefined) return undefined;
  const { readTimeMs: _, ...facts } = lock;
  return facts;
}

/** Returns once `condition` is so, or fails. */
export async function eventually(what: string, condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + HINT_TIMEOUT_MS;
  while (!condition()) {
    assert.ok(performance.now() < deadlineMs, `it never came to be that ${what}`);
    await sleep(5);
  }
}
