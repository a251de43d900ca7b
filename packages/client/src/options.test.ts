import { createRouterTransport } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { SessiondError } from "./error.js";
import { checkOptions, type SessionClientOptions } from "./options.js";

const valid = { baseUrl: "http://127.0.0.1:50051", token: "header.payload.signature" };
const transport = createRouterTransport(() => {});

/** The fields that are refused, by name. */
function refused(options: object): string[] {
  try {
    checkOptions(options as SessionClientOptions);
  } catch (error) {
    if (error instanceof SessiondError && error.reason === "INVALID_ARGUMENT") {
      return error.fieldViolations.map(({ field }) => field);
    }
    throw error;
  }
  return [];
}

test("an address and a token are enough", () => {
  const options = checkOptions(valid);
  expect(options.server).toEqual({ baseUrl: new URL(valid.baseUrl), protocol: "grpc" });
  expect(options.timeoutMs).toBe(5000);
  expect(options.maxAttempts).toBe(3);
});

test("a transport of the caller's own takes the place of an address", () => {
  expect(checkOptions({ transport, token: "t" }).server).toBe(transport);
  expect(refused({ transport, token: "t", baseUrl: "http://a", protocol: "grpc" })).toEqual([
    "baseUrl",
    "protocol",
  ]);
  expect(refused({ transport: {}, token: "t" })).toEqual(["transport"]);
});

test("every fault is named at once", () => {
  const options = { token: "", timeoutMs: 0, maxAttempts: 0, protocol: "http" };
  expect(refused(options)).toEqual(["baseUrl", "protocol", "token", "timeoutMs", "maxAttempts"]);
  expect(() => checkOptions(options as unknown as SessionClientOptions)).toThrow(
    /^baseUrl: expected a URL such as http:\/\/127\.0\.0\.1:50051; protocol: /,
  );
});

describe("baseUrl", () => {
  test.each(["http://h:1", "https://h", "http://[::1]:50051/", "https://h/sessiond"])(
    "%s is accepted",
    (baseUrl) => {
      expect(refused({ ...valid, baseUrl })).toEqual([]);
    },
  );

  test.each([
    "",
    "127.0.0.1:50051",
    "localhost:50051",
    "grpc://h:1",
    "http://user:secret@h",
    "http://h?x=1",
    "http://h#x",
    new URL("http://h"),
    undefined,
  ])("%s is refused", (baseUrl) => {
    expect(refused({ ...valid, baseUrl })).toEqual(["baseUrl"]);
  });

  test("is not repeated in the message, for it might carry a password", () => {
    const options = { ...valid, baseUrl: "http://user:secret@h" };
    expect(() => checkOptions(options)).toThrow(/^(?!.*secret)/);
  });
});

describe("token", () => {
  test.each(["a", "a.b-c_d~e+f/g==", () => ""])("%s is accepted", (token) => {
    expect(refused({ ...valid, token })).toEqual([]);
  });

  test.each(["", "Bearer abc", "abc\n", "ab c", "ä", "a=b", undefined, 5])(
    "%j is refused and not repeated",
    (token) => {
      expect(refused({ ...valid, token })).toEqual(["token"]);
    },
  );

  test.each([
    ["", "token: expected an access token, not an empty string"],
    [undefined, "token: expected an access token, not undefined"],
    [null, "token: expected an access token, not null"],
    ["Bearer abc", "token: expected an access token without `Bearer` in front"],
    ["bearer ", "token: expected an access token without `Bearer` in front"],
    ["secret\n", /^(?!.*secret)token: .*line break/],
    ["…", /^(?!.*…)token: .*characters that none has/],
  ])("%j is refused for what it is", (token, expected) => {
    const options = { ...valid, token } as SessionClientOptions;
    expect(() => checkOptions(options)).toThrow(expected);
  });
});

describe("numbers", () => {
  test.each([1, 0.5 + 1, 99_999_999])("timeoutMs %d is accepted", (timeoutMs) => {
    expect(refused({ ...valid, timeoutMs })).toEqual([]);
  });

  test.each([0, -1, 0.5, 100_000_000, Number.NaN, Number.POSITIVE_INFINITY, "5000", null])(
    "timeoutMs %s is refused",
    (timeoutMs) => {
      expect(refused({ ...valid, timeoutMs })).toEqual(["timeoutMs"]);
    },
  );

  test.each([1, 10])("maxAttempts %d is accepted", (maxAttempts) => {
    expect(refused({ ...valid, maxAttempts })).toEqual([]);
  });

  test.each([0, 11, 1.5, Number.NaN, "3"])("maxAttempts %s is refused", (maxAttempts) => {
    expect(refused({ ...valid, maxAttempts })).toEqual(["maxAttempts"]);
  });
});
