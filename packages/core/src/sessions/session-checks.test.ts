import { expect, test } from "vitest";
import { SessiondError } from "../errors.js";
import { checkBatchSize, checkDuration, checkRequired, checkText, LIMITS } from "../validation.js";
import type { JsonObject, JsonValue } from "./session.js";
import {
  checkChosenId,
  checkData,
  checkRequestId,
  checkRoles,
  checkSessionId,
  checkUserId,
} from "./session-checks.js";
import { generateSessionId } from "./session-id.js";
import { formatSessionToken, generateSecret } from "./session-token.js";

/** The field that a check refuses, or undefined where it lets everything pass. */
function refusedField(check: () => void): string | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    if (!(error instanceof SessiondError)) throw error;
    expect(error.reason).toBe("INVALID_ARGUMENT");
    const { field, description } = error.metadata;
    expect(error.message).toBe(`${field}: ${description}`);
    return field;
  }
}

/** Expects a check to let some values pass and to refuse others, naming the field. */
function expectChecks<T>(
  check: (field: string, value: T) => void,
  { accepts, refuses }: { readonly accepts: readonly T[]; readonly refuses: readonly T[] },
): void {
  for (const value of accepts) {
    expect(
      refusedField(() => check("field", value)),
      `${value}`,
    ).toBeUndefined();
  }
  for (const value of refuses) {
    expect(
      refusedField(() => check("field", value)),
      `${value}`,
    ).toBe("field");
  }
}

const LONE_SURROGATE = "a\ud800b";
const SMILE = "\u{1f600}";
const GENERATED_ID = generateSessionId("ab");
const NO_IDS = ["", "x".repeat(129), "a b", "a/b", "a\n", "\na", "\u00e9", "a\0"];

test("a text is as long as its limit in UTF-8, and not a byte longer, and well-formed", () => {
  expectChecks((field, text: string) => checkText(field, text, 10), {
    accepts: ["", "x".repeat(10), "\u00e9".repeat(5), `${SMILE}${SMILE}xx`, "\0\n\u202e"],
    refuses: ["x".repeat(11), `${"\u00e9".repeat(5)}x`, SMILE.repeat(3), LONE_SURROGATE],
  });
  expectChecks(checkRequired, { accepts: [" "], refuses: [""] });
});

test("a user id has 1 to 256 bytes and no control characters", () => {
  const codes = Array.from({ length: 0x120 }, (_, code) => code);
  const isControl = (code: number) => code < 0x20 || (code >= 0x7f && code < 0xa0);
  const withCode = (code: number) => `a${String.fromCharCode(code)}b`;
  const others = codes.filter((code) => !isControl(code)).map(withCode);
  expectChecks(checkUserId, {
    accepts: ["x", "x".repeat(256), SMILE.repeat(64), "{}:*'\"\\ %_ \u202e", ...others],
    refuses: ["", "x".repeat(257), SMILE.repeat(65), LONE_SURROGATE].concat(
      codes.filter(isControl).map(withCode),
    ),
  });
});

test("a session id may be generated or chosen, but a chosen one must not look generated", () => {
  expectChecks(checkSessionId, {
    accepts: [GENERATED_ID, "x".repeat(128), "jti-1"],
    refuses: [...NO_IDS, "A".repeat(64)],
  });
  expectChecks(checkChosenId, {
    accepts: ["x".repeat(128), "jti-1", "sst-jti-1"],
    refuses: [...NO_IDS, "A".repeat(64), GENERATED_ID],
  });
  expectChecks(checkRequestId, {
    accepts: ["a", "x".repeat(128), "A.b_c~d:e@f-9", GENERATED_ID],
    refuses: NO_IDS,
  });
});

test("a session token is refused as an id and not repeated, so that no log shows one", () => {
  const secret = generateSecret();
  const token = formatSessionToken({ partition: "ab", sessionId: GENERATED_ID, secret });
  for (const check of [checkSessionId, checkChosenId]) {
    expectChecks(check, { accepts: ["a-sst_jti"], refuses: [token, "sst_", "sst_jti-1"] });
  }
  expect(() => checkSessionId("session_id", token)).toThrow(
    /^session_id: expected a session id, got what looks like a session token$/,
  );
});

test("roles are 64 at most, each of 1 to 128 bytes, and the one at fault is named", () => {
  const refused = (roles: readonly string[]) => refusedField(() => checkRoles("roles", roles));
  expect(refused([])).toBeUndefined();
  expect(refused(Array(64).fill("x".repeat(128)))).toBeUndefined();
  expect(refused(Array(65).fill("x"))).toBe("roles");
  expect(refused(["a", ""])).toBe("roles[1]");
  expect(refused(["a", "b", "x".repeat(129)])).toBe("roles[2]");
  expect(refused([LONE_SURROGATE])).toBe("roles[0]");
});

test("data is at most 16 KiB as JSON, nested to a bounded depth", () => {
  const nested = (levels: number, innermost: JsonObject = {}): JsonObject =>
    levels === 1 ? innermost : nested(levels - 1, { a: innermost });
  const room = LIMITS.dataBytes - JSON.stringify({ a: "" }).length;
  const lists = JSON.parse(`{"a":${"[".repeat(33)}${"]".repeat(33)}}`);
  expectChecks(checkData, {
    accepts: [
      { a: "x".repeat(room) },
      { a: "\u00e9".repeat(room / 2) },
      // A value that has no others in it is no level.
      nested(LIMITS.dataDepth, { a: null, b: 1, c: "" }),
    ],
    refuses: [
      { a: "x".repeat(room + 1) },
      { ab: "\u00e9".repeat(room / 2) },
      nested(LIMITS.dataDepth + 1),
      lists,
    ],
  });
});

test("data holds well-formed JSON and nothing else, under any key", () => {
  const foreign: unknown[] = [NaN, Infinity, undefined, 1n, () => {}, LONE_SURROGATE];
  const values = foreign as JsonValue[];
  const tooLarge = JSON.stringify({ a: "x".repeat(17_000) });
  expectChecks(checkData, {
    accepts: [
      { a: [1, -1.5, 1e300, true, null, "", {}, []], "": "", "\u00e9": {} },
      JSON.parse('{"__proto__": {"a": 1}, "constructor": 2}'),
    ],
    refuses: [
      ...values.flatMap((value) => [{ a: value }, { a: [[value]] }]),
      { [LONE_SURROGATE]: 1 },
      { a: { [LONE_SURROGATE]: 1 } },
      JSON.parse(`{"__proto__": ${tooLarge}}`),
    ],
  });
});

test("a duration is a whole number of milliseconds up to its maximum, a batch up to a thousand", () => {
  expectChecks((field, ms: number) => checkDuration(field, ms, 1_000), {
    accepts: [1, 1_000],
    refuses: [0, -1, -0, 0.5, 1.5, 1_001, NaN, Infinity],
  });
  expectChecks(checkBatchSize, { accepts: [1, 1_000], refuses: [0, 1_001] });
});
