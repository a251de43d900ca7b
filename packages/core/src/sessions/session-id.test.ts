import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { anyCharacter } from "../testing/contract/any-character.js";
import {
  generateSessionId,
  isChosenId,
  isGeneratedId,
  PARTITIONS,
  partitionOfUser,
} from "./session-id.js";

test("a user's partition is the first byte of the SHA-256 of the user's id in UTF-8", () => {
  const users = fc.string({ unit: anyCharacter }).filter((text) => text.isWellFormed());
  fc.assert(
    fc.property(users, (userId) => {
      const digest = createHash("sha256").update(Buffer.from(userId, "utf8")).digest();
      expect(partitionOfUser(userId)).toBe(digest.toString("hex", 0, 1));
    }),
  );
});

test("there are 256 partitions, from 00 to ff, and users are spread over all of them", () => {
  expect([PARTITIONS[0], PARTITIONS[10], PARTITIONS.at(-1)]).toEqual(["00", "0a", "ff"]);
  const used = new Set(Array.from({ length: 5_000 }, (_, i) => partitionOfUser(`user-${i}`)));
  expect([...used].sort()).toEqual(PARTITIONS);
  expect(PARTITIONS).toHaveLength(256);
});

test("a generated id is 64 lowercase hex digits, the first two its partition, and new", () => {
  const ids = PARTITIONS.flatMap((partition) => {
    const some = Array.from({ length: 10 }, () => generateSessionId(partition));
    for (const id of some) expect(id.slice(0, 2)).toBe(partition);
    return some;
  });
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{64}$/);
  expect(new Set(ids).size).toBe(ids.length);
});

test("a caller may choose 1 to 128 of the allowed characters, but not 64 hex digits in any case", () => {
  for (const id of ["a", "~", "A.b_c~d:e@f-9", "x".repeat(128), "f".repeat(63), "g".repeat(64)]) {
    expect([isChosenId(id), isGeneratedId(id)], id).toEqual([true, false]);
  }
  for (const id of ["", "x".repeat(129), "a b", "a/b", "{a}", "\u00e9", "a\n", "\na", "a\0"]) {
    expect(isChosenId(id), JSON.stringify(id)).toBe(false);
  }
  for (const id of ["a".repeat(64), "A".repeat(64), "aA0".repeat(22).slice(0, 64)]) {
    expect(isChosenId(id), id).toBe(false);
  }
  expect([isGeneratedId("a".repeat(64)), isGeneratedId("A".repeat(64))]).toEqual([true, false]);
});
