import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { expect, onTestFinished, test } from "vitest";
import { SessionClient } from "./client.js";
import { httpStatusByReason } from "./error.js";
import { LockClient } from "./locks/lock-client.js";
import { RateLimitClient } from "./rate-limits/rate-limit-client.js";
import { BasketService } from "./testing/basket-service.js";
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

test("the example of a near cache runs", async () => {
  const session = protoSession({ displayName: "Ada Lovelace" });
  const server = await startSessionServer("grpc", { verifySession: () => ({ session }) });
  const output = runExample("## Near cache", (example) =>
    example.replace("http://127.0.0.1:50051", server.baseUrl),
  );
  const text = (await collect(output)).join("");
  expect(text).toContain("hello, Ada Lovelace");
  expect(text).toContain("misses: 1");
});

test("the README's example runs and prints what it says", async () => {
  const session = protoSession({ displayName: "Ada Lovelace" });
  const server = await startSessionServer("grpc", {
    createSession: () => ({
      ...{ session, token: "sst_1", evictedSessionIds: ["old"] },
      notices: [{ field: "client.user_agent", description: "cut to 1024 bytes" }],
    }),
    verifySession: () => ({ session }),
    updateSession: () => ({ session }),
    rotateSessionToken: () => ({ session, token: "sst_2" }),
    revokeUserSessions: () => ({ revokedCount: 2 }),
    revokeSession: () => ({ revoked: true }),
  });
  const output = runExample("# @sessiond/client", (example) =>
    example.replace("http://127.0.0.1:50051", server.baseUrl),
  );
  expect((await collect(output)).join("").split("\n")).toEqual([
    "session-1 lives until 2023-11-15T22:13:20.000Z at most",
    "1 older sessions had to go",
    "client.user_agent: cut to 1024 bytes",
    "hello, Ada Lovelace",
    "signed out",
    "2 other sessions ended",
    "",
  ]);
  expect(server.requests("revokeSession")).toMatchObject([
    { target: { value: "session-7" }, userId: "user-1" },
    { target: { value: "sst_2" } },
  ]);
});

test("the README's session of another system moves in with its cookie", async () => {
  const session = protoSession({ data: { cart: ["tea"] } });
  const server = await startSessionServer("grpc", {
    createSession: () => ({ session }),
    verifySession: () => ({ session }),
  });
  const output = runExample("## Moving in", (example) =>
    example.replace("http://127.0.0.1:50051", server.baseUrl),
  );
  expect((await collect(output)).join("")).toBe("[ 'tea' ]\n");
  const [{ token = "" } = {}] = server.requests("verifySession");
  const tokenHash = new Uint8Array(createHash("sha256").update(token).digest());
  expect(server.requests("createSession")).toMatchObject([{ userId: "user-1", tokenHash }]);
});

test("the README's work under a lock writes with its fence", async () => {
  const server = await startSessionServer("grpc", {
    acquireLock: () => ({ lockId: "1", fencingToken: 7n, expireTime: timestampFromMs(0) }),
    updateSession: () => ({ session: protoSession() }),
    releaseLock: () => ({}),
  });
  const output = runExample("## Locks", (example) =>
    example
      .replace("http://127.0.0.1:50051", server.baseUrl)
      .replace("http://127.0.0.1:9000/score", "data:,42"),
  );
  await collect(output);
  expect(server.requests("updateSession")).toMatchObject([
    { setData: { score: "42" }, fence: { lock: "recompute", token: 7n } },
  ]);
});

test("the README's login counts for two keys, and resets only the one with the user", async () => {
  const server = await startSessionServer("grpc", {
    checkRateLimit: () => ({
      ...{ allowed: true, resetTime: timestampFromMs(0), window: durationFromMs(60_000) },
      retryAfter: durationFromMs(0),
    }),
    resetRateLimit: () => ({}),
    createSession: () => ({ session: protoSession() }),
  });
  const right = 'await logIn("203.0.113.7", "user-1", async () => true); client.close();';
  const output = runExample("## Rate limits", (example) =>
    example.replace("http://127.0.0.1:50051", server.baseUrl).replace("client.close();", right),
  );
  expect((await collect(output)).join("")).toBe("wrong\n");
  const keys = ["203.0.113.7", "203.0.113.7 user-1"];
  const checked = server.requests("checkRateLimit").map(({ key }) => key);
  expect(checked).toEqual([...keys, ...keys]);
  expect(server.requests("resetRateLimit")).toMatchObject([{ key: keys[1] }]);
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

test.each([
  ["Connect", "With [Connect]", "basket_pb", "basket-service"],
  ["grpc-js", "With [@grpc/grpc-js]", "basket_grpc_pb", "basket-service-grpc"],
])("the README's service on %s answers for the user of a call", async (_, text, stub, module) => {
  const session = protoSession({ data: { basket: ["tea"] } });
  const server = await startSessionServer("grpc", { verifySession: () => ({ session }) });
  const printPort = "listen(0, '127.0.0.1', function () { console.log(this.address().port); })";
  const output = runExample(text, (example) =>
    example
      .replace("http://127.0.0.1:50051", server.baseUrl)
      .replace("nearCache: true", "nearCache: false")
      .replace(`./gen/${stub}.js`, `./dist/testing/${module}.js`)
      .replace("listen(3000)", printPort)
      .replace("127.0.0.1:3000", "127.0.0.1:0")
      .replace("() => {}", "(_error, port) => console.log(port)"),
  );
  const [port] = await once(output, "data");
  const transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${String(port).trim()}` });
  const shop = createClient(BasketService, transport);
  await expect(shop.getBasket({})).rejects.toMatchObject({ code: Code.Unauthenticated });
  const headers = { "session-token": "sst_1" };
  expect(await shop.getBasket({}, { headers })).toMatchObject({ items: ["tea"] });
  expect(server.requests("verifySession")).toMatchObject([{ token: "sst_1" }]);
});

test("the README's client credentials are a token that the server gets", async () => {
  const issuer = createServer((request, response) => {
    const issuerUrl = `http://${request.headers.host}`;
    const document = { issuer: issuerUrl, token_endpoint: `${issuerUrl}/token` };
    const token = { access_token: "token-of-the-issuer", token_type: "Bearer", expires_in: 600 };
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(request.url === "/token" ? token : document));
  });
  await new Promise<void>((resolve) => issuer.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void issuer.close());
  const { port } = issuer.address() as AddressInfo;
  const server = await startSessionServer("grpc", { countSessions: () => ({ count: 7 }) });
  const output = runExample("## Access to sessiond", (example) =>
    example
      .replace("https://issuer.example", `http://127.0.0.1:${port}`)
      .replace('process.env.CLIENT_SECRET ?? ""', '"secret"')
      .replace("http://127.0.0.1:50051", server.baseUrl),
  );
  expect((await collect(output)).join("")).toBe("7\n");
  expect(server.calls).toMatchObject([{ authorization: "Bearer token-of-the-issuer" }]);
});

test("the README names every reason, with its HTTP status", () => {
  const section = readme.slice(readme.indexOf("## Errors"));
  const rows = section.matchAll(/^\| `([A-Z_]+)` +\| (\d+) +\|/gm);
  const named = Object.fromEntries([...rows].map(([, reason, status]) => [reason, Number(status)]));
  expect(named).toEqual(httpStatusByReason);
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
