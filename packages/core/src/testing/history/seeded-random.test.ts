import { expect, test } from "vitest";
import { SeededRandom } from "./seeded-random.js";

function numbers(random: SeededRandom): number[] {
  return Array.from({ length: 1_000 }, () => random.between(-3, 3));
}

test("the same seed gives the same numbers, another seed others", () => {
  expect(numbers(new SeededRandom(7))).toEqual(numbers(new SeededRandom(7)));
  expect(numbers(new SeededRandom(7))).not.toEqual(numbers(new SeededRandom(8)));
  expect(numbers(new SeededRandom(7).fork())).toEqual(numbers(new SeededRandom(7).fork()));
});

test("numbers have both ends of their range, and nothing beyond", () => {
  expect(new Set(numbers(new SeededRandom(1)))).toEqual(new Set([-3, -2, -1, 0, 1, 2, 3]));
  expect(new SeededRandom(1).pick([])).toBeUndefined();
});
