import { setTimeout as sleep } from "node:timers/promises";

/** Clients have this time to read what we sent, before we cut their connection. */
export const DELIVERY_MS = 1_000;
/** How often we look whether calls are left: a hundredth of what a stop may take. */
const CHECK_MS = 100;

/**
 * Resolves once the server works on no call any more, and clients had some time to read the answers:
 * what is left are clients that do not read, or that have sent half a request. Resolves after
 * `graceMs` at the latest, and as soon as `closed` does.
 */
export async function drain(
  closed: Promise<void>,
  isWorking: () => boolean,
  graceMs: number,
): Promise<void> {
  const done = new AbortController();
  const wait = (ms: number) => sleep(ms, undefined, { signal: done.signal }).catch(() => {});
  const untilIdle = async () => {
    let workedMs = performance.now();
    while (!done.signal.aborted && performance.now() - workedMs < DELIVERY_MS) {
      await wait(CHECK_MS);
      if (isWorking()) workedMs = performance.now();
    }
  };
  await Promise.race([closed, wait(graceMs), untilIdle()]);
  done.abort();
}
