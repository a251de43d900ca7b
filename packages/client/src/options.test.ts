import { createRouterTransport } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { SessiondError } from "./error.js";
import { checkOptions, type SessionClientOptions } from "./options.js";

const valid = { baseUrl: "http://127.0.0.1:50051", token: "header.payload.signature" };
const transport = createRouterTransport(() => {});

/** The names of the refused options. */
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
  expect(checkOptions(valid)).toEqual({
    server: { baseUrls: [valid.baseUrl], protocol: "grpc", tls: undefined },
    token: valid.token,
    timeoutMs: 5000,
    maxAttempts: 3,
    batching: true,
    nearCache: undefined,
  });
});

test("a near cache has bounds by default", () => {
  const defaults = { maxStaleMs: 5000, maxSessions: 100_000 };
  expect(checkOptions({ ...valid, nearCache: true }).nearCache).toEqual(defaults);
  expect(checkOptions({ ...valid, nearCache: false }).nearCache).toBeUndefined();
  const own = { maxStaleMs: 2000, maxSessions: 10 };
  expect(checkOptions({ ...valid, nearCache: own }).nearCache).toEqual(own);
  const wrong = { maxStaleMs: 999, maxSessions: 0.5, maxBytes: 1 };
  expect(refused({ ...valid, nearCache: wrong })).toEqual([
    "nearCache.maxBytes",
    "nearCache.maxStaleMs",
    "nearCache.maxSessions",
  ]);
});

test("a transport of the caller's own replaces the address", () => {
  expect(checkOptions({ transport, token: "t" }).server).toBe(transport);
  const both = { transport, token: "t", baseUrl: "http://a", protocol: "grpc" };
  expect(refused(both)).toEqual(["baseUrl", "protocol"]);
  expect(refused({ transport: {}, token: "t" })).toEqual(["transport"]);
});

test("one error names every fault", () => {
  const options = { token: "", timeoutMs: 0, maxAttempts: 0, protocol: "http" };
  expect(refused(options)).toEqual(["baseUrl", "protocol", "token", "timeoutMs", "maxAttempts"]);
  expect(() => checkOptions(options as unknown as SessionClientOptions)).toThrow(
    /^baseUrl: expected a URL such as http:\/\/127\.0\.0\.1:50051; protocol: /,
  );
});

test.each([
  ["baseUrl", ["http://h:1", "https://h", "http://[::1]:50051/", "https://h/sessiond"]],
  ["baseUrl", ["dns:///h:1", "dns:///[::1]:1", ["http://h"], ["https://a:1", "https://b:1"]]],
  ["token", ["a", "a.b-c_d~e+f/g==", () => ""]],
  ["timeoutMs", [1, 1.5, 99_999_999]],
  ["maxAttempts", [1, 10]],
])("%s may be one of %o", (name, values) => {
  for (const value of values) expect(refused({ ...valid, [name]: value })).toEqual([]);
});

test.each([
  ["baseUrl", ["", "127.0.0.1:50051", "localhost:50051", "grpc://h:1", new URL("http://h")]],
  ["baseUrl", ["http://user:secret@h", "http://user@h", "http://h?x=1", "http://h#x", undefined]],
  ["baseUrl", [[], ["http://a", "https://b"], ["dns:///a:1", "dns:///b:1"], ["http://a", "b"]]],
  ["baseUrl", ["dns:h:1", "dns:///h", "dns://8.8.8.8/h:1", "dns:///h:1/x"]],
  ["token", ["", "Bearer abc", "abc\n", "ab c", "ä", "a=b", undefined, 5]],
  ["timeoutMs", [0, -1, 0.5, 100_000_000, Number.NaN, Number.POSITIVE_INFINITY, "5000", null]],
  ["batching", ["yes", 0, null]],
  ["nearCache", ["yes", 5, null]],
  ["maxAttempts", [0, 11, 1.5, Number.NaN, "3"]],
])("%s may be none of %o", (name, values) => {
  for (const value of values) expect(refused({ ...valid, [name]: value })).toEqual([name]);
});

test("protocol connect has one server", () => {
  for (const baseUrl of [["http://a", "http://b"], "dns:///h:1"]) {
    expect(refused({ ...valid, baseUrl, protocol: "connect" })).toEqual(["baseUrl"]);
  }
});

test("a message does not repeat the address, which might contain a password", () => {
  const options = { ...valid, baseUrl: "http://user:secret@h" };
  expect(() => checkOptions(options)).toThrow(/^(?!.*secret)/);
});

test.each([
  ["", "token: expected an access token, not an empty string"],
  [undefined, "token: expected an access token, not undefined"],
  [null, "token: expected an access token, not null"],
  ["Bearer abc", "token: expected an access token without `Bearer` in front"],
  ["bearer ", "token: expected an access token without `Bearer` in front"],
  ["secret\n", /^(?!.*secret)token: .*line break/],
  ["…", /^(?!.*…)token: .*characters that none has/],
])("the message about the token %j says why, without the token", (token, expected) => {
  expect(() => checkOptions({ ...valid, token } as SessionClientOptions)).toThrow(expected);
});
