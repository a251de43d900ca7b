import { describe, expect, test } from "vitest";
import { formatAddress, isLoopback, parseAddress } from "./address.js";

test.each([
  ["127.0.0.1:50051", "127.0.0.1", 50_051],
  ["0.0.0.0:0", "0.0.0.0", 0],
  ["localhost:65535", "localhost", 65_535],
  ["redis-0.redis.svc:6379", "redis-0.redis.svc", 6379],
  ["[::1]:50051", "::1", 50_051],
  ["[2001:db8::7]:1", "2001:db8::7", 1],
])("%s is read, and written the same way", (text, host, port) => {
  expect(parseAddress(text)).toEqual({ host, port });
  expect(formatAddress({ host, port })).toBe(text);
});

test.each([
  ...["", ":", ":8080", "8080", "localhost", "localhost:", "localhost:65536", "localhost:-1"],
  ...["localhost:8080x", "::1:50051", "[::1]", "[::1:50051", "[127.0.0.1]:50051", "[nonsense]:1"],
  ...["256.0.0.1:80", "1.2.3:80", "a b:80", "-a:80", "http://localhost:80"],
])('"%s" is not an address', (text) => {
  expect(() => parseAddress(text)).toThrow("expected host:port");
});

describe("loopback", () => {
  test.each(["127.0.0.1", "127.255.255.254", "::1", "0:0:0:0:0:0:0:1", "localhost", "LOCALHOST"])(
    "%s reaches this machine alone",
    (host) => expect(isLoopback(host)).toBe(true),
  );

  test.each(["0.0.0.0", "128.0.0.1", "126.255.255.255", "::", "::2", "localhost.example.com"])(
    "%s may be reached by others",
    (host) => expect(isLoopback(host)).toBe(false),
  );
});
