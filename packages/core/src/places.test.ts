import { expect, test } from "vitest";
import { Places, Share } from "./places.js";

/** Takes places until there is none left to take. Answers how many it got. */
function takeAll(share: Share): number {
  const before = share.taken;
  while (share.take());
  return share.taken - before;
}

test("a namespace that is alone gets all that a namespace can get, and again what it gave back", () => {
  const share = new Share(new Places(100));
  expect(takeAll(share)).toBe(100);
  share.giveBack();
  share.giveBack();
  expect(takeAll(share)).toBe(2);
});

test("a dozen greedy namespaces leave places to the next one", () => {
  const places = new Places(10_000);
  const shares = Array.from({ length: 12 }, () => new Share(places));
  for (let round = 0; round < 3; round++) for (const share of shares) takeAll(share);
  expect(shares.reduce((sum, share) => sum + share.taken, places.free)).toBe(20_000);
  expect(takeAll(new Share(places))).toBeGreaterThanOrEqual(1);
});

test("greedy namespaces get even shares as places are given back", () => {
  const shares = [new Places(100)].flatMap((places) => [new Share(places), new Share(places)]);
  for (let round = 0; round < 200; round++) {
    for (const share of shares) {
      takeAll(share);
      share.giveBack();
    }
  }
  const [first = 0, second = 0] = shares.map((share) => share.taken);
  expect(Math.abs(first - second)).toBeLessThanOrEqual(2);
});
