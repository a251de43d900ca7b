import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  generateSessionId,
  isChosenId,
  isGeneratedId,
  PARTITION_COUNT,
  PARTITIONS,
  partitionOfUser,
} from "./session-id.js";

test("there are 256 partitions, from 00 to ff", () => {
  expect(PARTITIONS).toHaveLength(PARTITION_COUNT);
  expect([PARTITIONS[0], PARTITIONS[10], PARTITIONS.at(-1)]).toEqual(["00", "0a", "ff"]);
  expect(new Set(PARTITIONS).size).toBe(PARTITION_COUNT);
});

test("a user's partition is the first byte of the SHA-256 of the user's id in UTF-8", () => {
  const users = fc.string({ unit: "binary" }).filter((text) => text.isWellFormed());
  fc.assert(
    fc.property(users, (userId) => {
      const digest = createHash("sha256").update(Buffer.from(userId, "utf8")).digest();
      expect(partitionOfUser(userId)).toBe(digest.toString("hex", 0, 1));
    }),
  );
  expect(partitionOfUser("ann")).toMatch(/^[0-9a-f]{2}$/);
});

test("users are spread over all partitions", () => {
  const used = new Set(Array.from({ length: 5_000 }, (_, i) => partitionOfUser(`user-${i}`)));
  expect(used.size).toBe(PARTITION_COUNT);
});

test("a generated id is 64 lowercase hex digits, the first two its partition", () => {
  for (const partition of PARTITIONS) {
    const id = generateSessionId(partition);
    expect(id).toMatch(/^[0-9a-f]{64}$/);
    expect(id.slice(0, 2)).toBe(partition);
    expect(isGeneratedId(id)).toBe(true);
    expect(isChosenId(id)).toBe(false);
  }
});

test("generated ids do not repeat", () => {
  const ids = new Set(Array.from({ length: 10_000 }, () => generateSessionId("00")));
  expect(ids.size).toBe(10_000);
});

test("a caller may choose 1 to 128 of the allowed characters", () => {
  for (const id of ["a", "~", "A.b_c~d:e@f-9", "x".repeat(128), "f".repeat(63), "f".repeat(65)]) {
    expect(isChosenId(id), id).toBe(true);
    expect(isGeneratedId(id), id).toBe(false);
  }
  for (const id of [
    "",
    "x".repeat(129),
    "a b",
    "a/b",
    "{a}",
    "a*",
    "\u00e9",
    "a\n",
    "\na",
    "a\0",
  ]) {
    expect(isChosenId(id), JSON.stringify(id)).toBe(false);
  }
});

test("a caller may not choose 64 hex digits, in any case", () => {
  for (const id of ["a".repeat(64), "A".repeat(64), "aA0".repeat(22).slice(0, 64)]) {
    expect(isChosenId(id), id).toBe(false);
  }
  expect(isGeneratedId("A".repeat(64))).toBe(false);
  expect(isChosenId("g".repeat(64))).toBe(true);
});

test("no text is both a generated and a chosen id", () => {
  const hexDigits = fc.constantFrom(..."0123456789abcdefABCDEF");
  const nearlyHex = fc.string({ unit: hexDigits, minLength: 62, maxLength: 66 });
  fc.assert(
    fc.property(fc.oneof(nearlyHex, fc.string()), (text) => {
      expect(isGeneratedId(text) && isChosenId(text)).toBe(false);
    }),
  );
});
