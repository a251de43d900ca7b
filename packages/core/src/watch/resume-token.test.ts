import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SessiondError } from "../errors.js";
import { anyCharacter } from "../testing/contract/any-character.js";
import { formatResumeToken, parseResumeToken } from "./resume-token.js";
import type { EventCursor, EventPosition } from "./session-event.js";

const T = 1_760_000_000_000;
const times = fc.integer({ min: 0, max: 2 ** 45 });
const positions = fc.record({
  source: fc.oneof(fc.constantFrom(0, 1), fc.integer({ min: 0, max: 2 ** 32 - 1 })),
  epoch: fc.oneof(fc.constant(0), times),
  sequence: fc.oneof(fc.constant(0), fc.maxSafeNat()),
  timeMs: times,
});
const cursors: fc.Arbitrary<EventCursor> = fc
  .uniqueArray(fc.tuple(fc.nat({ max: 300 }), positions), {
    selector: ([lane]) => lane,
    minLength: 1,
    maxLength: 256,
  })
  .map((entries) => new Map(entries));

/** A cursor of consecutive lanes. */
function lanes(count: number, position: (lane: number) => Partial<EventPosition>): EventCursor {
  const start = { source: 7, epoch: 0, sequence: 0, timeMs: T };
  return new Map(Array.from({ length: count }, (_, i) => [i, { ...start, ...position(i) }]));
}

function refusal(userId: string | undefined, token: string, namespace = ""): string {
  try {
    parseResumeToken({ namespace, userId }, token);
  } catch (error) {
    expect(error).toBeInstanceOf(SessiondError);
    expect(error).toMatchObject({
      reason: "INVALID_ARGUMENT",
      metadata: { field: "resume_token" },
    });
    return String(error);
  }
  throw new Error("it was accepted");
}

test("a resume token says where a watch was in every lane, and since when at the latest", () => {
  fc.assert(
    fc.property(cursors, fc.option(fc.string(), { nil: undefined }), (cursor, userId) => {
      const filter = { userId };
      const timeMs = Math.min(...[...cursor.values()].map((position) => position.timeMs));
      const expected = [...cursor].map(([lane, position]) => [lane, { ...position, timeMs }]);
      const token = formatResumeToken(filter, cursor);
      expect(parseResumeToken(filter, token)).toEqual(new Map(expected as never));
      expect(token).toMatch(/^[A-Za-z0-9_-]+$/);
      expect(token.length).toBeLessThanOrEqual(8192);
    }),
  );
});

describe("a resume token stays small enough to be sent with every message", () => {
  test.each([
    ["an SQLite file, after billions of events", 100, lanes(1, () => ({ sequence: 2 ** 50 }))],
    ["256 empty lanes", 100, lanes(256, () => ({}))],
    [
      "256 lanes of three processes that began within three days and had a million events each",
      2_500,
      lanes(256, (lane) => ({
        source: (lane % 3) * 1_000_000_007,
        epoch: T - lane * 337_500,
        sequence: 1_000_000 + lane,
      })),
    ],
  ])("%s: at most %i characters", (_, limit, cursor) => {
    expect(formatResumeToken({ userId: undefined }, cursor).length).toBeLessThanOrEqual(limit);
  });
});

test("a resume token is good for the same user only", () => {
  const cursor = lanes(1, () => ({ sequence: 5 }));
  for (const [userId, other] of [
    ["ann", "bob"],
    ["ann", undefined],
    [undefined, "ann"],
    [undefined, "all"],
  ] as const) {
    expect(refusal(other, formatResumeToken({ userId }, cursor))).toContain("another user_id");
  }
});

test("a resume token is good in its own namespace only", () => {
  const cursor = lanes(1, () => ({ sequence: 5 }));
  for (const userId of ["ann", undefined]) {
    for (const [namespace, other] of [
      ["shop", ""],
      ["", "shop"],
      ["shop", "shop-2"],
    ] as const) {
      const token = formatResumeToken({ namespace, userId }, cursor);
      expect(parseResumeToken({ namespace, userId }, token).size).toBe(1);
      expect(refusal(userId, token, other)).toContain("another namespace");
    }
  }
});

test("a resume token that was changed anywhere, or is none at all, is refused by name", () => {
  const position = (lane: number) => ({ epoch: T + lane, sequence: lane });
  const token = formatResumeToken({ userId: "ann" }, lanes(3, position));
  for (let i = 0; i < token.length; i++) {
    const other = token[i] === "A" ? "B" : "A";
    refusal("ann", token.slice(0, i) + other + token.slice(i + 1));
    refusal("ann", token.slice(0, i));
  }
  for (const spelling of [`${token}A`, `${token}=`, ` ${token}`, "A".repeat(8_193)]) {
    refusal("ann", spelling);
  }
  const bytes = fc.uint8Array({ maxLength: 300 });
  const encoded = bytes.map((some) => Buffer.from(some).toString("base64url"));
  const garbage = fc.oneof(fc.string({ unit: anyCharacter }), encoded);
  fc.assert(fc.property(garbage, (text) => void refusal(undefined, text)));
});
