import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { RecentRevocations } from "./recent-revocations.js";

const MINUTE_MS = 60_000;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function revocationOf(namespace: string, id: string) {
  return { namespace, key: { partition: "00", id }, reason: "", storeTimeMs: 0 };
}

function idsOf(revocations: RecentRevocations): string[] {
  return revocations.all().map(({ namespace, key }) => `${namespace}/${key.id}`);
}

test("revocations are remembered for five minutes", () => {
  const revocations = new RecentRevocations();
  revocations.add(revocationOf("", "one"));
  vi.advanceTimersByTime(MINUTE_MS);
  revocations.add(revocationOf("shop", "two"));
  expect(idsOf(revocations)).toEqual(["/one", "shop/two"]);
  vi.advanceTimersByTime(4 * MINUTE_MS);
  expect(idsOf(revocations)).toEqual(["shop/two"]);
  vi.advanceTimersByTime(MINUTE_MS);
  expect(idsOf(revocations)).toEqual([]);
});

test("a namespace that revokes very much forgets its own oldest, and no other's", () => {
  const revocations = new RecentRevocations();
  revocations.add(revocationOf("quiet", "one"));
  for (let i = 0; i < 10_005; i++) revocations.add(revocationOf("busy", `${i}`));
  const ids = idsOf(revocations);
  expect(ids).toHaveLength(10_000);
  expect(ids.slice(0, 2)).toEqual(["quiet/one", "busy/6"]);
});
