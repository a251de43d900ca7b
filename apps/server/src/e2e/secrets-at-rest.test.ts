import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectRedis } from "@sessiond/core/redis";
import { startRedisServer } from "@sessiond/core/testing";
import { afterEach, beforeEach, expect, test } from "vitest";
import { clientOver, PROTOCOLS } from "../testing/protocols.js";
import { startTestServer, type TestServer } from "../testing/test-server.js";

/** What is sealed: no store, and nobody who listens to one, learns of it. */
const CANARIES = {
  displayName: "canary-display-name",
  role: "canary-role",
  userAgent: "canary-user-agent",
  device: "canary-device",
  dataKey: "canary-data-key",
  dataValue: "canary-data-value",
  updated: "canary-updated",
};
/** What is stored as it is; it shows that the search finds what is there. */
const PLAIN = {
  userId: "plain-user-id",
  sessionId: "plain-session-id",
  requestId: "plain-request-id",
  reason: "plain-reason",
};

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sessiond-secrets-"));
});
afterEach(() => rm(directory, { recursive: true }));

/** Does over every protocol what writes to a store. Answers every token there was. */
async function useEveryCall(server: TestServer): Promise<readonly string[]> {
  const tokens: string[] = [];
  for (const [i, protocol] of PROTOCOLS.entries()) {
    const client = clientOver(protocol, server);
    const content = {
      displayName: CANARIES.displayName,
      roles: [CANARIES.role],
      client: { userAgent: CANARIES.userAgent, device: CANARIES.device, ip: "203.0.113.77" },
      data: { [CANARIES.dataKey]: CANARIES.dataValue },
    };
    const { userId, reason } = PLAIN;
    const sessionId = i % 2 ? `${PLAIN.sessionId}-${i}` : "";
    const request = { userId, sessionId, ...content, requestId: `${PLAIN.requestId}-${i}` };
    const { session, token } = await client.createSession(request);
    await client.verifySession({ token });
    await client.refreshSession({ target: { case: "token", value: token } });
    await client.updateSession({
      sessionId: session?.id ?? "",
      session: { ...content, data: { key: CANARIES.updated } },
      updateMask: { paths: ["display_name", "data.key"] },
    });
    const { token: rotated } = await client.rotateSessionToken({ token });
    const { token: revoked } = await client.createSession({ userId, ...content });
    await client.revokeSession({ target: { case: "token", value: revoked }, reason });
    tokens.push(token, rotated, revoked);
  }
  return tokens;
}

/** Everything that must not be found, in every form it might be kept in. */
function secretsIn(tokens: readonly string[]): ReadonlyMap<string, Buffer> {
  const needles = new Map<string, Buffer>();
  for (const [name, text] of [...Object.entries(CANARIES), ["ip", "203.0.113.77"] as const]) {
    needles.set(name, Buffer.from(text));
    needles.set(`${name} in base64`, Buffer.from(Buffer.from(text).toString("base64url")));
    needles.set(`${name} in hex`, Buffer.from(Buffer.from(text).toString("hex")));
    needles.set(`${name} in UTF-16`, Buffer.from(text, "utf16le"));
  }
  for (const [i, token] of tokens.entries()) {
    const secret = secretOf(token);
    needles.set(`token ${i}`, Buffer.from(token.slice("sst_".length)));
    needles.set(`secret ${i}`, secret);
    needles.set(`secret ${i} in hex`, Buffer.from(secret.toString("hex")));
    // Without the padding, and what of the last byte shares a letter with it.
    needles.set(`secret ${i} in base64`, Buffer.from(secret.toString("base64").slice(0, 42)));
    needles.set(`secret ${i} in base64url`, Buffer.from(secret.toString("base64url").slice(0, 42)));
  }
  return needles;
}

/** The 32 bytes after the version. */
function secretOf(token: string): Buffer {
  return Buffer.from(token.slice("sst_".length), "base64url").subarray(1, 33);
}

function expectNoSecrets(haystacks: ReadonlyMap<string, Buffer>, tokens: readonly string[]): void {
  const secrets = secretsIn(tokens);
  for (const [place, bytes] of haystacks) {
    const found = [...secrets].filter(([, needle]) => bytes.includes(needle)).map(([name]) => name);
    expect(found, place).toEqual([]);
  }
}

function expectFound(haystack: Buffer | undefined, tokens: readonly string[]): void {
  for (const text of Object.values(PLAIN)) expect(haystack?.includes(text), text).toBe(true);
  // The rotated token is the one whose hash is still kept.
  const hash = createHash("sha256")
    .update(secretOf(tokens[1] ?? ""))
    .digest();
  expect(haystack?.includes(hash), "the hash of a secret").toBe(true);
}

test("neither Redis, nor its dump, nor who listens to it, sees a secret", async () => {
  const args = ["--dir", directory, "--dbfilename", "dump.rdb", "--rdbcompression", "no"];
  await using redis = await startRedisServer({ args });
  await using tapped = await tap(redis.port);
  await using server = await startTestServer({ store: `redis://127.0.0.1:${tapped.port}` });
  const tokens = await useEveryCall(server);

  const haystacks = new Map([
    ["traffic", Buffer.concat(tapped.traffic)],
    ["keys and values", await dumpKeys(redis.port)],
    ["dump.rdb", await readFile(join(directory, "dump.rdb"))],
    ["log", Buffer.from(JSON.stringify(server.logs))],
  ]);
  expectNoSecrets(haystacks, tokens);
  for (const place of ["traffic", "keys and values", "dump.rdb"]) {
    expectFound(haystacks.get(place), tokens);
  }
});

test("the files of SQLite hold no secret, while it is open and once it is closed", async () => {
  const server = await startTestServer({ store: `sqlite:${join(directory, "sessions.db")}` });
  const tokens = await useEveryCall(server);
  const open = await readFiles();
  expect([...open.keys()].sort()).toEqual(["sessions.db", "sessions.db-shm", "sessions.db-wal"]);
  expectNoSecrets(open, tokens);
  expectFound(open.get("sessions.db-wal"), tokens);

  await server[Symbol.asyncDispose]();
  const closed = await readFiles();
  expectNoSecrets(closed, tokens);
  expectFound(closed.get("sessions.db"), tokens);
});

async function readFiles(): Promise<ReadonlyMap<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for (const name of await readdir(directory)) {
    files.set(name, await readFile(join(directory, name)));
  }
  return files;
}

/** Every key with its value, as Redis has it; also has it save `dump.rdb`. */
async function dumpKeys(port: number): Promise<Buffer> {
  const location = {
    kind: "redis",
    address: { host: "127.0.0.1", port },
    db: 0,
    tls: false,
  } as const;
  const redis = connectRedis(location, () => undefined);
  try {
    await once(redis, "ready");
    const parts: Buffer[] = [];
    for (const key of await redis.keys("*")) {
      parts.push(Buffer.from(key), (await redis.callBuffer("dump", key)) as Buffer);
    }
    await redis.call("SAVE");
    return Buffer.concat(parts);
  } finally {
    redis.disconnect();
  }
}

interface Tap extends AsyncDisposable {
  readonly port: number;
  /** All bytes that went through, in either direction. */
  readonly traffic: readonly Buffer[];
}

/** Listens in on whoever connects to a port by way of this one. */
async function tap(targetPort: number): Promise<Tap> {
  const traffic: Buffer[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const target = connect(targetPort, "127.0.0.1");
    for (const [from, to] of [
      [client, target],
      [target, client],
    ] as const) {
      sockets.add(from);
      from.on("data", (bytes: Buffer) => traffic.push(bytes)).on("error", () => to.destroy());
      from.pipe(to);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    traffic,
    [Symbol.asyncDispose]: async () => {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, "close");
    },
  };
}
