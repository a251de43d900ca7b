import { describe, expect, test } from "vitest";
import { SessiondError } from "../errors.js";
import { checkBatchSize, checkDuration, checkRequired, checkText, LIMITS } from "../validation.js";
import type { JsonObject, JsonValue } from "./session.js";
import {
  checkChosenId,
  checkClient,
  checkData,
  checkIp,
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

function accepts(check: () => void): void {
  expect(refusedField(check)).toBeUndefined();
}

function refuses(check: () => void, field = "field"): void {
  expect(refusedField(check)).toBe(field);
}

const LONE_SURROGATE = "a\ud800b";

describe("a text", () => {
  test("may be as long as its limit in UTF-8, and not a byte longer", () => {
    accepts(() => checkText("field", "x".repeat(10), 10));
    refuses(() => checkText("field", "x".repeat(11), 10));
    accepts(() => checkText("field", "\u00e9".repeat(5), 10));
    refuses(() => checkText("field", `${"\u00e9".repeat(5)}x`, 10));
    accepts(() => checkText("field", "\u{1f600}\u{1f600}xx", 10));
    refuses(() => checkText("field", "\u{1f600}\u{1f600}\u{1f600}", 10));
    accepts(() => checkText("field", "", 10));
  });

  test("must be well-formed Unicode", () => {
    refuses(() => checkText("field", LONE_SURROGATE, 10));
    refuses(() => checkText("field", "\udc00", 10));
    accepts(() => checkText("field", "\u{1f600}", 10));
    accepts(() => checkText("field", "\0\n\u202e", 10));
  });

  test("that is required must not be empty", () => {
    refuses(() => checkRequired("field", ""));
    accepts(() => checkRequired("field", " "));
  });
});

describe("a user id", () => {
  test("has 1 to 256 bytes", () => {
    refuses(() => checkUserId("field", ""));
    accepts(() => checkUserId("field", "x"));
    accepts(() => checkUserId("field", "x".repeat(256)));
    refuses(() => checkUserId("field", "x".repeat(257)));
    accepts(() => checkUserId("field", "\u{1f600}".repeat(64)));
    refuses(() => checkUserId("field", "\u{1f600}".repeat(65)));
  });

  test("has no control characters, and any others", () => {
    for (let code = 0; code < 0x120; code++) {
      const isControl = code < 0x20 || (code >= 0x7f && code < 0xa0);
      const check = () => checkUserId("field", `a${String.fromCharCode(code)}b`);
      if (isControl) refuses(check);
      else accepts(check);
    }
    accepts(() => checkUserId("field", "{}:*'\"\\ %_ \u202e"));
    refuses(() => checkUserId("field", LONE_SURROGATE));
  });
});

describe("a session id", () => {
  test("may be generated or chosen where a session is looked for", () => {
    accepts(() => checkSessionId("field", generateSessionId("ab")));
    accepts(() => checkSessionId("field", "x".repeat(128)));
    for (const id of ["", "x".repeat(129), "a b", "A".repeat(64), "\u00e9", "a\n"]) {
      refuses(() => checkSessionId("field", id));
    }
  });

  test("must not look generated where it is chosen", () => {
    accepts(() => checkChosenId("field", "jti-1"));
    for (const id of ["", "x".repeat(129), generateSessionId("ab"), "A".repeat(64), "{a}"]) {
      refuses(() => checkChosenId("field", id));
    }
  });
});

describe("a session token where an id belongs", () => {
  const token = formatSessionToken({
    partition: "ab",
    sessionId: generateSessionId("ab"),
    secret: generateSecret(),
  });

  test("is refused, and so is whatever begins like one, so that it is never logged as an id", () => {
    for (const text of [token, "sst_", "sst_jti-1"]) {
      refuses(() => checkSessionId("field", text));
      refuses(() => checkChosenId("field", text));
    }
    accepts(() => checkChosenId("field", "sst-jti-1"));
    accepts(() => checkSessionId("field", "a-sst_jti"));
  });

  test("is not repeated in the complaint", () => {
    expect(() => checkSessionId("session_id", token)).toThrow(
      "session_id: expected a session id, got what looks like a session token",
    );
  });
});

describe("a request id", () => {
  test("has 1 to 128 of the allowed characters; it may look like anything", () => {
    for (const id of ["a", "x".repeat(128), "A.b_c~d:e@f-9", "f".repeat(64)]) {
      accepts(() => checkRequestId("field", id));
    }
    for (const id of ["", "x".repeat(129), "a b", "a/b", "a\n", "\na", "\u00e9", "a\0"]) {
      refuses(() => checkRequestId("field", id));
    }
  });
});

describe("roles", () => {
  test("are 64 at most, each of 1 to 128 bytes, and the one at fault is named", () => {
    accepts(() => checkRoles("roles", []));
    accepts(() => checkRoles("roles", Array(64).fill("x".repeat(128))));
    refuses(() => checkRoles("roles", Array(65).fill("x")), "roles");
    refuses(() => checkRoles("roles", ["a", ""]), "roles[1]");
    refuses(() => checkRoles("roles", ["a", "b", "x".repeat(129)]), "roles[2]");
    refuses(() => checkRoles("roles", [LONE_SURROGATE]), "roles[0]");
  });
});

describe("a client", () => {
  test("may leave out any of its parts, or leave them empty", () => {
    accepts(() => checkClient("client", {}));
    accepts(() => checkClient("client", { ip: "", userAgent: "", device: "" }));
  });

  test("has parts within their limits, and the one at fault is named", () => {
    accepts(() => checkClient("client", { userAgent: "x".repeat(1024), device: "x".repeat(256) }));
    refuses(() => checkClient("client", { userAgent: "x".repeat(1025) }), "client.user_agent");
    refuses(() => checkClient("client", { device: "x".repeat(257) }), "client.device");
    refuses(() => checkClient("client", { ip: "not an address" }), "client.ip");
    refuses(() => checkClient("client", { userAgent: LONE_SURROGATE }), "client.user_agent");
  });
});

describe("an IP address", () => {
  test("is of version 4 or 6, without a port", () => {
    for (const ip of ["203.0.113.7", "::1", "2001:db8::1", "::ffff:203.0.113.7", "fe80::1%eth0"]) {
      accepts(() => checkIp("field", ip));
    }
    for (const ip of [
      "",
      "203.0.113",
      "203.0.113.256",
      "203.0.113.7:80",
      "[::1]",
      " ::1",
      "::1\n",
    ]) {
      refuses(() => checkIp("field", ip));
    }
  });

  test("is no longer than it needs to be", () => {
    // A zone may follow a version 6 address, and nothing limits its length.
    const longest = `fe80::1%${"a".repeat(LIMITS.ipBytes - "fe80::1%".length)}`;
    accepts(() => checkIp("field", longest));
    refuses(() => checkIp("field", `${longest}a`));
  });
});

describe("data", () => {
  /** Objects within each other, `levels` of them, around `innermost`. */
  function nested(levels: number, innermost: JsonObject = {}): JsonObject {
    let value = innermost;
    for (let i = 1; i < levels; i++) value = { a: value };
    return value;
  }

  test("may be 16 KiB as JSON, and not a byte more", () => {
    const overhead = JSON.stringify({ a: "" }).length;
    accepts(() => checkData("field", { a: "x".repeat(LIMITS.dataBytes - overhead) }));
    refuses(() => checkData("field", { a: "x".repeat(LIMITS.dataBytes - overhead + 1) }));
    const twoBytes = "\u00e9".repeat((LIMITS.dataBytes - overhead) / 2);
    accepts(() => checkData("field", { a: twoBytes }));
    refuses(() => checkData("field", { ab: twoBytes }));
  });

  test("may be nested so deep, and no deeper", () => {
    accepts(() => checkData("field", nested(LIMITS.dataDepth)));
    // A value that has no others in it is no level.
    accepts(() => checkData("field", nested(LIMITS.dataDepth, { a: null, b: 1, c: "" })));
    refuses(() => checkData("field", nested(LIMITS.dataDepth + 1)));
    refuses(() => checkData("field", nested(10_000)));
    const lists = JSON.parse(`{"a":${"[".repeat(33)}${"]".repeat(33)}}`);
    refuses(() => checkData("field", lists));
  });

  test("holds JSON and nothing else", () => {
    const everything = { a: [1, -1.5, 1e300, true, null, "", {}, []], "": "", "\u00e9": {} };
    accepts(() => checkData("field", everything));
    const foreign: unknown[] = [NaN, Infinity, undefined, 1n, () => {}, Symbol("s")];
    for (const value of foreign) {
      refuses(() => checkData("field", { a: value as JsonValue }));
      refuses(() => checkData("field", { a: [value as JsonValue] }));
    }
  });

  test("is well-formed Unicode in its keys and its values", () => {
    refuses(() => checkData("field", { a: LONE_SURROGATE }));
    refuses(() => checkData("field", { a: [[LONE_SURROGATE]] }));
    refuses(() => checkData("field", { [LONE_SURROGATE]: 1 }));
    refuses(() => checkData("field", { a: { [LONE_SURROGATE]: 1 } }));
  });

  test("may have a key that means something to JavaScript", () => {
    accepts(() => checkData("field", JSON.parse('{"__proto__": {"a": 1}, "constructor": 2}')));
    const tooLarge = JSON.stringify({ a: "x".repeat(17_000) });
    refuses(() => checkData("field", JSON.parse(`{"__proto__": ${tooLarge}}`)));
  });
});

test("a duration is a whole number of milliseconds, from one to the maximum", () => {
  accepts(() => checkDuration("field", 1, 1_000));
  accepts(() => checkDuration("field", 1_000, 1_000));
  for (const ms of [0, -1, -0, 0.5, 1.5, 1_001, NaN, Infinity, -Infinity]) {
    refuses(() => checkDuration("field", ms, 1_000));
  }
});

test("a batch has from one to a thousand entries", () => {
  refuses(() => checkBatchSize("field", 0));
  accepts(() => checkBatchSize("field", 1));
  accepts(() => checkBatchSize("field", 1_000));
  refuses(() => checkBatchSize("field", 1_001));
});
