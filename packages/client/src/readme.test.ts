import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { SessionClient } from "./client.js";
import { codeByReason } from "./error.js";
import { LockClient } from "./lock-client.js";
import { RateLimitClient } from "./rate-limit-client.js";
import { startSessionServer, wireSession } from "./testing/session-server.js";

const packageRoot = fileURLToPath(new URL("..", import.meta.url));
const readme = readFileSync(`${packageRoot}/README.md`, "utf8");

test("the README's example runs and prints what it says", async () => {
  const session = wireSession({ displayName: "Ada Lovelace" });
  await using server = await startSessionServer("grpc", {
    createSession: () => ({ session, token: "sst_1", evictedSessionIds: ["old"] }),
    verifySession: () => ({ session }),
    updateSession: () => ({ session }),
    revokeUserSessions: () => ({ revokedCount: 2 }),
    revokeSession: () => ({ revoked: true }),
  });
  const [, example = ""] = /```ts\n(.*?)```/s.exec(readme) ?? [];
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [
      "--input-type=module-typescript",
      "--eval",
      example.replace("http://127.0.0.1:50051", server.baseUrl),
    ],
    { cwd: packageRoot, timeout: 10_000, env: { SESSIOND_TOKEN: "token" } },
  );
  expect(stdout.split("\n")).toEqual([
    "session-1 lives until 2023-11-15T22:13:20.000Z at most",
    "1 older sessions had to go",
    "hello, Ada Lovelace",
    "2 other sessions ended",
    "",
  ]);
});

test("the README names every reason", () => {
  const section = readme.slice(readme.indexOf("## Errors"));
  const named = [...section.matchAll(/^\| `([A-Z_]+)` +\|/gm)].map(([, reason]) => reason);
  expect(named.toSorted()).toEqual(Object.keys(codeByReason).toSorted());
});

test.each([
  ["", SessionClient],
  ["locks.", LockClient],
  ["rateLimits.", RateLimitClient],
])("the README names every method (of %j)", (prefix, { prototype }) => {
  for (const method of Object.getOwnPropertyNames(prototype)) {
    if (method !== "constructor") {
      expect(readme).toContain(`| \`${prefix}${method}(`);
    }
  }
});
