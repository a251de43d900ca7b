const SAMPLE_MS = 10;

/**
 * Measures how late the event loop runs what is due, which is how long everything that arrives has
 * to wait for it. Calls `onSample` with each delay, in ms.
 */
export function sampleLoopDelay(onSample: (delayMs: number, nowMs: number) => void): Disposable {
  let dueMs = performance.now() + SAMPLE_MS;
  let timer = setTimeout(sample, SAMPLE_MS).unref();
  function sample() {
    const nowMs = performance.now();
    onSample(Math.max(0, nowMs - dueMs), nowMs);
    dueMs = nowMs + SAMPLE_MS;
    timer = setTimeout(sample, SAMPLE_MS).unref();
  }
  return { [Symbol.dispose]: () => clearTimeout(timer) };
}
