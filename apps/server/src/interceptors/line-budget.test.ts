import { expect, test } from "vitest";
import { LineBudget } from "./line-budget.js";

test("a second has room for a hundred lines, and the first of the next says how many are missing", () => {
  const budget = new LineBudget();
  const taken = Array.from({ length: 130 }, () => budget.take(5_000));
  expect(taken.filter((skipped) => skipped === 0)).toHaveLength(100);
  expect(taken.filter((skipped) => skipped === undefined)).toHaveLength(30);
  expect(budget.take(5_999)).toBeUndefined();
  expect(budget.take(6_000)).toBe(31);
  expect(budget.take(6_000)).toBe(0);
});
