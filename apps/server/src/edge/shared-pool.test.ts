import { array, assert, constantFrom, nat, property, record } from "fast-check";
import { expect, test } from "vitest";
import { SharedPool } from "./shared-pool.js";

const MAX = 1_000;

test("one greedy holder leaves as much as it gets", () => {
  const pool = new SharedPool(MAX);
  const greedy = pool.join();
  while (greedy.take(1));
  expect(greedy.held).toBe(MAX / 2);
  expect(pool.join().take(MAX / 2)).toBe(true);
});

test("however holders take and give, all together never hold more than the pool has, and a newcomer gets all that is free", () => {
  const step = record({ holder: nat(5), take: constantFrom(true, false), amount: nat(MAX) });
  const run = property(array(step, { maxLength: 200 }), (steps) => {
    const pool = new SharedPool(MAX);
    const holders = Array.from({ length: 6 }, () => pool.join());
    for (const { holder, take, amount } of steps) {
      const share = holders[holder];
      if (share === undefined) continue;
      if (take) share.take(amount);
      else share.give(Math.min(amount, share.held));
      expect(pool.held).toBeLessThanOrEqual(MAX);
      expect(pool.held).toBe(holders.reduce((sum, { held }) => sum + held, 0));
    }
    expect(pool.join().take(MAX - pool.held)).toBe(true);
  });
  assert(run);
});
