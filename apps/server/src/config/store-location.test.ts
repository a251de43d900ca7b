import { describe, expect, test } from "vitest";
import { describeStore, parseStoreLocation } from "./store-location.js";

const SECRET = "hunter2";

test.each([
  ["sqlite:sessions.db", { kind: "sqlite", path: "sessions.db" }],
  ["sqlite:/var/lib/sessiond/s.db", { kind: "sqlite", path: "/var/lib/sessiond/s.db" }],
  ["sqlite::memory:", { kind: "sqlite", path: ":memory:" }],
  [
    "redis://localhost",
    { kind: "redis", address: { host: "localhost", port: 6379 }, db: 0, tls: false },
  ],
  [
    "rediss://user:p%40ss@[::1]:7000/15",
    {
      kind: "redis",
      address: { host: "::1", port: 7000 },
      ...{ db: 15, tls: true, username: "user", password: "p@ss" },
    },
  ],
  [
    "redis://:pa/s:s@h@localhost:1/",
    {
      kind: "redis",
      address: { host: "localhost", port: 1 },
      ...{ db: 0, tls: false, password: "pa/s:s@h" },
    },
  ],
  [
    "redis+cluster://:pw@10.0.0.1:7000,10.0.0.2,[2001:db8::1]",
    {
      kind: "redis-cluster",
      nodes: [
        { host: "10.0.0.1", port: 7000 },
        { host: "10.0.0.2", port: 6379 },
        { host: "2001:db8::1", port: 6379 },
      ],
      ...{ tls: false, password: "pw" },
    },
  ],
  [
    "rediss+sentinel://a:26380,b/main/2",
    {
      kind: "redis-sentinel",
      sentinels: [
        { host: "a", port: 26_380 },
        { host: "b", port: 26_379 },
      ],
      ...{ masterName: "main", db: 2, tls: true },
    },
  ],
])("%s is a store", (text, expected) => {
  expect(parseStoreLocation(text)).toEqual(expected);
});

describe("a malformed store is refused without repeating any of it", () => {
  test.each([
    "",
    "hunter2",
    "sqlite:",
    "sqlite::memory",
    "sqlite:///hunter2.db",
    "sqlite://hunter2.db",
    "postgres://u:hunter2@localhost/db",
    "REDIS://:hunter2@localhost",
    "redis:hunter2",
    "redis://",
    "redis://user:hunter2",
    "redis://:hunter2@",
    "redis://:hunter2@localhost:99999",
    "redis://:hunter2@a,b",
    "redis://:hunter2@localhost/one",
    "redis://:hunter2@localhost/0/1",
    "redis://:hunter2@localhost?tls=hunter2",
    "redis://:%hunter2@localhost",
    "redis+cluster://:hunter2@a:1/3",
    "redis+cluster://:hunter2@a:1,,b:1",
    "redis+sentinel://:hunter2@a:1",
    "redis+sentinel://:hunter2@a:1/",
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
  ["redis:///3", "the host is missing"],
  ["redis://:hunter2@", "the host is missing"],
  ["redis+sentinel:///main", "the host is missing"],
  ["redis+cluster://a:1,,b:1", "the host number 2, of those separated by commas, is missing"],
  ["redis://a:99999", "host 1 is not"],
])("%s: %s", (text, expected) => {
  expect(() => parseStoreLocation(text)).toThrow(expected);
});

test.each([
  ["sqlite:sessions.db", "sqlite:sessions.db"],
  ["redis://user:hunter2@localhost", "redis://localhost:6379/0"],
  ["rediss://:hunter2@[::1]:1/3", "rediss://[::1]:1/3"],
  ["redis+cluster://:hunter2@a,b:2", "redis+cluster://a:6379,b:2"],
  ["redis+sentinel://:hunter2@a/main", "redis+sentinel://a:26379/main/0"],
])("%s is described without its password", (text, expected) => {
  expect(describeStore(parseStoreLocation(text))).toBe(expected);
});
