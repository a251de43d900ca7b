import { describe, expect, test } from "vitest";
import { describeStore, parseStoreLocation } from "./store-location.js";

const SECRET = "hunter2";

test.each([
  ["sqlite:sessions.db", "sqlite:sessions.db", {}],
  ["sqlite:/var/lib/sessiond/s.db", "sqlite:/var/lib/sessiond/s.db", {}],
  ["sqlite::memory:", "sqlite::memory:", { path: ":memory:" }],
  ["redis://localhost", "redis://localhost:6379/0", { kind: "redis", tls: false }],
  [
    "rediss://user:p%40ss@[::1]:1/15",
    "rediss://[::1]:1/15",
    { username: "user", password: "p@ss" },
  ],
  ["redis://:pa/s:s@h@localhost:1/", "redis://localhost:1/0", { password: "pa/s:s@h" }],
  [
    "redis+cluster://:pw@10.0.0.1:7000,10.0.0.2,[2001:db8::1]",
    "redis+cluster://10.0.0.1:7000,10.0.0.2:6379,[2001:db8::1]:6379",
    { kind: "redis-cluster", tls: false, password: "pw" },
  ],
  [
    "rediss+sentinel://:pw@a:26380,b/main/2",
    "rediss+sentinel://a:26380,b:26379/main/2",
    { kind: "redis-sentinel", tls: true, password: "pw", db: 2 },
  ],
])("%s is a store, which is described without its login", (text, description, expected) => {
  const location = parseStoreLocation(text);
  expect(describeStore(location)).toBe(description);
  expect(location).toMatchObject(expected);
});

describe("a malformed store is refused without repeating any of it", () => {
  test.each([
    "",
    "hunter2",
    "sqlite:",
    "sqlite::memory",
    "sqlite://hunter2.db",
    "postgres://u:hunter2@localhost/db",
    "REDIS://:hunter2@localhost",
    "redis://user:hunter2",
    "redis://:hunter2@localhost:99999",
    "redis://:hunter2@a,b",
    "redis://:hunter2@localhost/one",
    "redis://:hunter2@localhost?tls=hunter2",
    "redis://:%hunter2@localhost",
    "redis+cluster://:hunter2@a:1/3",
    "redis+sentinel://:hunter2@a:1",
    "redis+sentinel://:hunter2@a:1/m/0/hunter2",
  ])("%s", (text) => {
    let message = "";
    try {
      parseStoreLocation(text);
    } catch (error) {
      message = String(error);
    }
    expect(message).toMatch(/expected/);
    expect(message).not.toContain(SECRET);
  });
});

test.each([
  ["redis://", "the host is missing"],
  ["redis+sentinel:///main", "the host is missing"],
  ["redis+cluster://a:1,,b:1", "the host number 2, of those separated by commas, is missing"],
  ["redis://a:99999", "host 1 is not"],
])("%s: %s", (text, expected) => {
  expect(() => parseStoreLocation(text)).toThrow(expected);
});
