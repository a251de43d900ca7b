import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { SessionClient } from "./client.js";
import { codeByReason } from "./error.js";
import { LockClient } from "./locks/lock-client.js";
import { RateLimitClient } from "./rate-limits/rate-limit-client.js";
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

test("the README's middleware counts attempts and refuses one too many", async () => {
  const asked: unknown[] = [];
  await using server = await startSessionServer("grpc", {
    checkRateLimit: ({ policy, key }) => ({
      allowed: asked.push({ policy, key }) === 1,
      ...{ limit: 1, remaining: 0, resetTime: timestampFromMs(0) },
      ...{ retryAfter: durationFromMs(7_000), window: durationFromMs(60_000) },
    }),
  });
  const section = readme.slice(readme.indexOf("### In front of an HTTP server"));
  const [, example = ""] = /```ts\n(.*?)```/s.exec(section) ?? [];
  const printPort = "listen(0, '127.0.0.1', function () { console.log(this.address().port); })";
  const child = spawn(
    process.execPath,
    [
      "--input-type=module-typescript",
      "--eval",
      example.replace("http://127.0.0.1:50051", server.baseUrl).replace("listen(3000)", printPort),
    ],
    { cwd: packageRoot, env: { SESSIOND_TOKEN: "token" }, stdio: ["ignore", "pipe", "inherit"] },
  );
  try {
    const [port] = await once(child.stdout, "data", { signal: AbortSignal.timeout(10_000) });
    const url = `http://127.0.0.1:${String(port).trim()}/`;
    const welcome = await fetch(url);
    expect([welcome.status, await welcome.text()]).toEqual([200, "welcome"]);
    const refused = await fetch(url);
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "7"]);
    expect(asked).toEqual(asked.map(() => ({ policy: "login", key: "127.0.0.1" })));
  } finally {
    child.kill();
  }
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
