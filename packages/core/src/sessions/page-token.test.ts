import fc from "fast-check";
import { expect, test } from "vitest";
import { SessiondError } from "../errors.js";
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

function encode(parts: unknown): string {
  return Buffer.from(JSON.stringify(parts)).toString("base64url");
}

/** The parts of a token, to put wrong ones together. */
function decode(token: string): unknown[] {
  return JSON.parse(Buffer.from(token, "base64url").toString());
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
  const others = [
    {},
    { userId: "bob", order: "asc" },
    { userId: "ann", order: "desc" },
    { ...query, role: "admin" },
    { ...query, showExpired: true },
    { ...query, createTimeFromMs: 0 },
  ];
  for (const other of others) expect(refusal(token, other)).toContain("another query");
});

test("what is no page token is refused, and named", () => {
  const garbage = fc.oneof(
    fc.string(),
    fc.string({ unit: "binary" }),
    fc.json().map((json) => Buffer.from(json).toString("base64url")),
  );
  fc.assert(
    fc.property(garbage, (text) => {
      refusal(text);
    }),
    { numRuns: 500 },
  );
});

test("a page token with parts of the wrong kind is refused", () => {
  const [fingerprint] = decode(formatPageToken(query, { createTimeMs: 1, id: "a" }));
  const tokens = [
    encode([fingerprint]),
    encode([fingerprint, 1]),
    encode([fingerprint, "1", "a"]),
    encode([fingerprint, 1.5, "a"]),
    encode([fingerprint, 2 ** 60, "a"]),
    encode([fingerprint, null, "a"]),
    encode([fingerprint, 1, 7]),
    encode([fingerprint, 1, ""]),
    encode([fingerprint, 1, "{a}"]),
    encode([fingerprint, 1, "A".repeat(64)]),
    encode({ 0: fingerprint, 1: 1, 2: "a" }),
    encode("a text"),
    encode(null),
  ];
  for (const token of tokens) expect(refusal(token)).toContain("expected the next_page_token");
});

test("a page token that is too long is refused without being read", () => {
  const token = formatPageToken(query, { createTimeMs: 1, id: "a" });
  expect(refusal(token + "A".repeat(1_100))).toContain("page_token");
});
