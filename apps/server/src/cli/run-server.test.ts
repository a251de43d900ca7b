import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect as connectHttp2 } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Keyring } from "@sessiond/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { holdKeys } from "../testing/held-issuer.js";
import {
  bearer,
  GRPC,
  JSON_OVER_HTTP,
  type Protocol,
  type SessionServiceClient,
  sessionClient,
} from "../testing/protocols.js";
import { spawnServer, spawnSessiond } from "../testing/server-process.js";
import type { TestIssuer } from "../testing/test-issuer.js";
import { startTestIssuer } from "../testing/test-server.js";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sessiond-run-"));
});
afterAll(() => rm(directory, { recursive: true }));

/** Starts a server that accepts an issuer's tokens, as an operator would set it up. */
async function start(issuer: TestIssuer) {
  const auth = {
    issuer: issuer.url,
    audience: "sessiond",
    algorithms: ["ES256"],
    jwks_uri: issuer.jwksUrl,
  };
  const file = join(directory, `auth-${new URL(issuer.url).port}.json`);
  await writeFile(file, JSON.stringify({ issuers: [auth] }));
  return spawnServer({
    env: {
      SESSIOND_AUTH: file,
      SESSIOND_KEYRING: Keyring.generateKey("test"),
      SESSIOND_STORE: "sqlite::memory:",
    },
  });
}

type Started = Awaited<ReturnType<typeof start>>;

async function clientOf(
  server: Started,
  issuer: TestIssuer,
  wire: Protocol = GRPC,
): Promise<SessionServiceClient> {
  const token = await issuer.sign({ claims: { scope: KNOWN_PERMISSIONS.join(" ") } });
  return sessionClient(wire.open(server), bearer(token));
}

describe.concurrent("a server process", () => {
  test.for([
    ["SIGTERM", GRPC],
    ["SIGINT", JSON_OVER_HTTP],
  ] as const)(
    "lets a call under way finish on %s, and then exits with 0",
    async ([signal, wire]) => {
      await using issuer = await disposable();
      await using server = await start(issuer.started);
      const keys = holdKeys(issuer.started);
      const call = (await clientOf(server, issuer.started, wire)).createSession({ userId: "ann" });
      await keys.asked();
      server.kill(signal);
      expect(await server.logged("stopping")).toMatchObject({ level: 30 });
      keys.release();
      expect((await call).session?.userId).toBe("ann");
      expect(await server.ended).toBe(0);
      const messages = server.logs.map(({ msg }) => msg);
      expect(messages.filter((message) => message === "call")).toHaveLength(1);
      expect(messages.indexOf("stopping")).toBeLessThan(messages.indexOf("call"));
      expect(messages.at(-1)).toBe("stopped");
      expect(server.stderr).toBe("");
    },
  );

  test("ends at once on a second signal, of whichever kind", async () => {
    await using issuer = await disposable();
    await using server = await start(issuer.started);
    const keys = holdKeys(issuer.started);
    const call = (await clientOf(server, issuer.started)).createSession({ userId: "ann" });
    const failed = call.then(
      () => false,
      () => true,
    );
    await keys.asked();
    server.kill("SIGTERM");
    await server.logged("stopping");
    server.kill("SIGINT");
    expect(await server.ended).toBe(1);
    expect(await failed).toBe(true);
    keys.release();
  });

  test("says which port is taken, and exits with 1", async () => {
    await using issuer = await disposable();
    await using server = await start(issuer.started);
    for (const [flag, url] of [
      ["--grpc-address", server.grpcUrl],
      ["--http-address", server.httpUrl],
    ] as const) {
      const taken = new URL(url).host;
      const other = flag === "--grpc-address" ? "--http-address" : "--grpc-address";
      const args = ["serve", flag, taken, other, "127.0.0.1:0", "--data-dir", directory];
      await using second = spawnSessiond(args);
      expect(await second.ended).toBe(1);
      expect(second.stderr).toContain(
        `sessiond: cannot listen on ${taken}: the address is in use (EADDRINUSE); ${flag} takes another\n`,
      );
      // No stack, nor a welcome to a server that is none.
      expect(second.stderr + second.stdout).not.toMatch(/\n +at |TOKEN=/);
    }
  });

  test("says that its store cannot be opened, and exits with 1", async () => {
    const args = ["serve", "--store", "sqlite:/dev/null/x.db", "--data-dir", directory];
    await using server = spawnSessiond([
      ...args,
      "--grpc-address=127.0.0.1:0",
      "--http-address=127.0.0.1:0",
    ]);
    expect(await server.ended).toBe(1);
    expect(server.stderr).toContain("sessiond: the session store is unavailable: cannot open");
  });

  test("repeats nothing of headers that gRPC cannot carry, on stderr neither", async () => {
    await using issuer = await disposable();
    await using server = await start(issuer.started);
    const session = connectHttp2(server.grpcUrl);
    const call = session.request({
      ":method": "POST",
      ":path": "/sessiond.v1.SessionService/CountSessions",
      "content-type": "application/grpc",
      authorization: "Bearer canary-\u00ff",
    });
    call.end(Buffer.alloc(5)).resume();
    await once(call, "close");
    session.close();
    expect(await server.logged("call")).toMatchObject({ code: "unauthenticated" });
    server.kill("SIGTERM");
    expect(await server.ended).toBe(0);
    expect(server.stderr).toBe("");
    expect(server.stdout).not.toContain("canary");
  });

  test("writes its log as JSON lines with the time, and no welcome once it has an auth file", async () => {
    await using issuer = await disposable();
    await using server = await start(issuer.started);
    await (await clientOf(server, issuer.started)).countSessions({});
    const call = await server.logged("call");
    expect(call["time"]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(call).not.toHaveProperty("hostname");
    for (const line of server.stdout.trimEnd().split("\n")) expect(JSON.parse(line)).toBeTruthy();
  });
});

/** An issuer that is closed when disposed of. */
async function disposable() {
  const started = await startTestIssuer();
  return { started, [Symbol.asyncDispose]: () => started.close() };
}
