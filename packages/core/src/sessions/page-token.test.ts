import fc from "fast-check";
import { expect, test } from "vitest";
import { SessiondError } from "../errors.js";
import { anyCharacter } from "../testing/contract/any-character.js";
import { formatPageToken, parsePageToken } from "./page-token.js";
import { generateSessionId } from "./session-id.js";

const query = { userId: "ann", order: "asc" };
const cursors = fc.record({
  createTimeMs: fc.integer({ min: 0, max: 8_640_000_000_000_000 }),
  id: fc.oneof(
    fc.constantFrom(generateSessionId("00"), generateSessionId("ff")),
    fc.string({ unit: fc.constantFrom(..."aZ9._~:@-"), minLength: 1, maxLength: 128, size: "max" }),
  ),
});

function refusal(token: string, forQuery: object = query): string {
  try {
    parsePageToken(forQuery, token);
  } catch (error) {
    expect(error).toBeInstanceOf(SessiondError);
    expect(error).toMatchObject({ reason: "INVALID_ARGUMENT", metadata: { field: "page_token" } });
    return String(error);
  }
  throw new Error("it was accepted");
}

test("a page token says which session the page comes after", () => {
  fc.assert(
    fc.property(cursors, (cursor) => {
      const token = formatPageToken(query, cursor);
      expect(parsePageToken(query, token)).toEqual(cursor);
      expect(token).toMatch(/^[A-Za-z0-9_-]{1,1024}$/);
    }),
  );
});

test("a page token is good for its own query only", () => {
  const token = formatPageToken(query, { createTimeMs: 1, id: "a" });
  for (const other of [{}, { ...query, userId: "bob" }, { ...query, showExpired: true }]) {
    expect(refusal(token, other)).toContain("another query");
  }
});

test("anything that is no page token is refused by name", () => {
  const encode = (json: string) => Buffer.from(json).toString("base64url");
  const garbage = fc.oneof(fc.string({ unit: anyCharacter }), fc.json().map(encode));
  fc.assert(fc.property(garbage, (text) => void refusal(text)));
  refusal("A".repeat(1_025));
});
