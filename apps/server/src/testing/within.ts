import { expect } from "vitest";

/** The answer of a task, which must come within this time. */
export async function within<T>(limitMs: number, task: Promise<T>): Promise<T> {
  const startMs = performance.now();
  const answer = await task;
  expect(performance.now() - startMs).toBeLessThan(limitMs);
  return answer;
}
