import { setTimeout as sleep } from "node:timers/promises";

const POLL_INTERVAL_MS = 20;

/**
 * Asks again and again what is wrong, until that is nothing. Throws an Error
 * with the last answer once `timeoutMs` have passed. A question that fails is
 * an answer too.
 */
export async function waitUntilWell(
  whatIsWrong: () => Promise<string | undefined>,
  timeoutMs: number,
): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    const wrong = await whatIsWrong().catch(String);
    if (wrong === undefined) return;
    if (performance.now() >= deadlineMs) throw new Error(`after ${timeoutMs} ms: ${wrong}`);
    await sleep(POLL_INTERVAL_MS);
  }
}
