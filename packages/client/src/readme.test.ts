import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, onTestFinished, test } from "vitest";
import { SessionClient } from "./client.js";
import { codeByReason } from "./error.js";
import { LockClient } from "./locks/lock-client.js";
import { RateLimitClient } from "./rate-limits/rate-limit-client.js";
import {
  collect,
  protoSession,
  type SessionServer,
  startSessionServer,
} from "./testing/session-server.js";

const packageRoot = fileURLToPath(new URL("..", import.meta.url));
const readme = readFileSync(`${packageRoot}/README.md`, "utf8");

/** Runs the first example after a heading, in a process of its own that ends with the test. */
function runExample(heading: string, edit: (example: string) => string) {
  const [, example = ""] = /```ts\n(.*?)```/s.exec(readme.slice(readme.indexOf(heading))) ?? [];
  const child = spawn(
    process.execPath,
    ["--input-type=module-typescript", "--eval", edit(example)],
    {
      cwd: packageRoot,
      env: { SESSIOND_TOKEN: "token" },
      stdio: ["ignore", "pipe", "inherit"],
      timeout: 10_000,
    },
  );
  onTestFinished(() => {
    child.kill();
  });
  return child.stdout.setEncoding("utf8");
}

test("the README's example runs and prints what it says", async () => {
  const session = protoSession({ displayName: "Ada Lovelace" });
  const server = await startSessionServer("grpc", {
    createSession: () => ({ session, token: "sst_1", evictedSessionIds: ["old"] }),
    verifySession: () => ({ session }),
    updateSession: () => ({ session }),
    revokeUserSessions: () => ({ revokedCount: 2 }),
    revokeSession: () => ({ revoked: true }),
  });
  const output = runExample("# @sessiond/client", (example) =>
    example.replace("http://127.0.0.1:50051", server.baseUrl),
  );
  expect((await collect(output)).join("").split("\n")).toEqual([
    "session-1 lives until 2023-11-15T22:13:20.000Z at most",
    "1 older sessions had to go",
    "hello, Ada Lovelace",
    "2 other sessions ended",
    "",
  ]);
});

test("the README's middleware counts attempts and refuses one too many", async () => {
  const server: SessionServer = await startSessionServer("grpc", {
    checkRateLimit: () => ({
      ...{ allowed: server.calls.length === 1, limit: 1, remaining: 0 },
      ...{ resetTime: timestampFromMs(0), window: durationFromMs(60_000) },
      retryAfter: durationFromMs(7_000),
    }),
  });
  const printPort = "listen(0, '127.0.0.1', function () { console.log(this.address().port); })";
  const output = runExample("### In front of an HTTP server", (example) =>
    example.replace("http://127.0.0.1:50051", server.baseUrl).replace("listen(3000)", printPort),
  );
  const [port] = await once(output, "data");
  const url = `http://127.0.0.1:${String(port).trim()}/`;
  const welcome = await fetch(url);
  expect([welcome.status, await welcome.text()]).toEqual([200, "welcome"]);
  const refused = await fetch(url);
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "7"]);
  const attempt = { policy: "login", key: "127.0.0.1" };
  expect(server.requests("checkRateLimit")).toMatchObject([attempt, attempt]);
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
