import { expect, test } from "vitest";
import { closestName, didYouMean } from "./closest-name.js";

const NAMES = ["GRPC_ADDRESS", "HTTP_ADDRESS", "STORE", "LIFETIME", "MAX_LIFETIME", "DATA_DIR"];

test.each([
  ["STROE", "STORE"],
  ["STORES", "STORE"],
  ["GRPC_ADDR", "GRPC_ADDRESS"],
  ["GRPC_ADRESS", "GRPC_ADDRESS"],
  ["LIFE_TIME", "LIFETIME"],
  ["DATA", "DATA_DIR"],
  ["STORE_LOCATION", "STORE"],
])("%s is taken for %s", (name, expected) => {
  expect(closestName(name, NAMES)).toBe(expected);
});

test.each(["PORT", "PASSWORD", "", "D", "X".repeat(50)])('"%s" is like none', (name) => {
  expect(closestName(name, NAMES)).toBeUndefined();
  expect(didYouMean(name, NAMES)).toBe("");
});
