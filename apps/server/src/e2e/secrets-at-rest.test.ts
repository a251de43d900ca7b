import { createHash, hash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { connectRedis } from "@sessiond/core/redis";
import { startRedisServer } from "@sessiond/core/testing";
import { expect, test } from "vitest";
import { parseStoreLocation } from "../config/store-location.js";
import { clientOver, PROTOCOLS } from "../testing/protocols.js";
import { byToken } from "../testing/session-requests.js";
import { temporaryDirectory } from "../testing/temporary-directory.js";
import { startTestServer, type TestServer } from "../testing/test-server.js";

/** Content that is sealed: no store, and nobody who listens to one, learns of it. */
const CONTENT = {
  displayName: "canary-display-name",
  roles: ["canary-role"],
  client: { ip: "203.0.113.77", userAgent: "canary-user-agent", device: "canary-device" },
  data: { "canary-data-key": "canary-data-value" },
};
const UPDATED = "canary-updated";
const CANARIES: readonly string[] = [
  ...[CONTENT.displayName, ...CONTENT.roles, ...Object.values(CONTENT.client)],
  ...[...Object.entries(CONTENT.data).flat(), UPDATED],
];
/** Text that is stored as it is. It shows that the search finds what is there. */
const PLAIN = {
  userId: "plain-user-id",
  sessionId: "plain-session-id",
  requestId: "plain-request-id",
  reason: "plain-reason",
};

type Places = Readonly<Record<string, Buffer>>;

interface Credentials {
  readonly tokens: readonly string[];
  /** Of sessions that moved in, in the form of express-session's. */
  readonly movedIn: readonly string[];
}

/** Makes every call that writes to a store, over every protocol. Answers all credentials. */
async function useEveryCall(server: TestServer): Promise<Credentials> {
  const tokens: string[] = [];
  const movedIn: string[] = [];
  for (const [i, protocol] of PROTOCOLS.entries()) {
    const client = clientOver(protocol, server);
    const { userId, reason } = PLAIN;
    const sessionId = i % 2 ? `${PLAIN.sessionId}-${i}` : "";
    const request = { userId, sessionId, ...CONTENT, requestId: `${PLAIN.requestId}-${i}` };
    const { session, token } = await client.createSession(request);
    await client.verifySession({ token });
    await client.refreshSession(byToken(token));
    await client.updateSession({
      sessionId: session?.id ?? "",
      session: CONTENT,
      updateMask: { paths: ["display_name"] },
      setData: { key: UPDATED },
    });
    const { token: rotated } = await client.rotateSessionToken({ token });
    const { token: revoked } = await client.createSession({ userId, ...CONTENT });
    await client.revokeSession({ ...byToken(revoked), reason });

    const cookie = randomBytes(24).toString("base64url");
    const tokenHash = hash("sha256", cookie, "buffer");
    await client.createSession({ userId: `${userId}-moved`, ...CONTENT, tokenHash });
    await client.verifySession({ token: cookie });
    await client.refreshSession(byToken(cookie));
    const { token: moved } = await client.rotateSessionToken({ token: cookie });
    await client.verifySession({ token: moved });
    await expect(client.verifySession({ token: cookie })).rejects.toThrow("not found");
    tokens.push(token, rotated, revoked, moved);
    movedIn.push(cookie);
  }
  return { tokens, movedIn };
}

/** Everything that must not be found, in every form in which it might be kept. */
function secretsIn({
  tokens,
  movedIn,
}: Credentials): readonly (readonly [name: string, bytes: Buffer])[] {
  return [
    ...movedIn.flatMap((cookie, i) => [
      ...formsOf(`cookie ${i}`, Buffer.from(cookie)),
      ...formsOf(`the bytes of cookie ${i}`, Buffer.from(cookie, "base64url")),
    ]),
    ...CANARIES.flatMap((text) => formsOf(text, Buffer.from(text))),
    ...tokens.flatMap((token, i) => formsOf(`secret ${i}`, secretOf(token))),
    ...tokens.map((token, i) => [`token ${i}`, Buffer.from(token.slice("sst_".length))] as const),
  ];
}

function formsOf(name: string, bytes: Buffer) {
  // Without the padding, and without a letter that shares its bits with what follows.
  const letters = Math.floor((bytes.length * 8) / 6);
  return [
    [name, bytes],
    [`${name} in hex`, Buffer.from(bytes.toString("hex"))],
    [`${name} in base64`, Buffer.from(bytes.toString("base64").slice(0, letters))],
    [`${name} in base64url`, Buffer.from(bytes.toString("base64url").slice(0, letters))],
    [`${name} in UTF-16`, Buffer.from(bytes.toString("latin1"), "utf16le")],
  ] as const;
}

/** The 32 bytes after the version. */
function secretOf(token: string): Buffer {
  return Buffer.from(token.slice("sst_".length), "base64url").subarray(1, 33);
}

function expectNoSecrets(places: Places, credentials: Credentials): void {
  const secrets = secretsIn(credentials);
  for (const [place, bytes] of Object.entries(places)) {
    const found = secrets.filter(([, secret]) => bytes.includes(secret)).map(([name]) => name);
    expect(found, place).toEqual([]);
  }
}

function expectFound(place: Buffer | undefined, { tokens }: Credentials): void {
  for (const text of Object.values(PLAIN)) expect(place?.includes(text), text).toBe(true);
  // The rotated token is the one whose hash is still kept.
  const hash = createHash("sha256").update(secretOf(tokens[1] ?? ""));
  expect(place?.includes(hash.digest()), "the hash of a secret").toBe(true);
}

test("neither Redis, nor its dump, nor a listener on its connection sees a secret", async () => {
  await using directory = await temporaryDirectory();
  const args = ["--dir", directory.path, "--dbfilename", "dump.rdb", "--rdbcompression", "no"];
  await using redis = await startRedisServer({ args });
  using tapped = await tap(redis.port);
  await using server = await startTestServer({ store: tapped.url });
  const credentials = await useEveryCall(server);

  const kept = {
    traffic: Buffer.concat(tapped.traffic),
    "keys and values": await dumpKeys(redis.url),
    "dump.rdb": await readFile(join(directory.path, "dump.rdb")),
  };
  expectNoSecrets({ ...kept, log: Buffer.from(JSON.stringify(server.logs)) }, credentials);
  for (const place of Object.values(kept)) expectFound(place, credentials);
});

test("the files of SQLite hold no secret, while it is open and once it is closed", async () => {
  await using directory = await temporaryDirectory();
  const server = await startTestServer({ store: `sqlite:${join(directory.path, "sessions.db")}` });
  const credentials = await useEveryCall(server);
  const open = await readFiles(directory.path);
  const suffixes = ["", "-reserve", "-shm", "-wal"];
  expect(Object.keys(open).sort()).toEqual(suffixes.map((suffix) => `sessions.db${suffix}`));
  expectNoSecrets(open, credentials);
  expectFound(open["sessions.db-wal"], credentials);

  await server[Symbol.asyncDispose]();
  const closed = await readFiles(directory.path);
  expectNoSecrets(closed, credentials);
  expectFound(closed["sessions.db"], credentials);
});

async function readFiles(directory: string): Promise<Places> {
  const names = await readdir(directory);
  const contents = names.map(async (name) => [name, await readFile(join(directory, name))]);
  return Object.fromEntries(await Promise.all(contents));
}

/** Every key with its value, as Redis has it. Also has Redis save `dump.rdb`. */
async function dumpKeys(url: string): Promise<Buffer> {
  const location = parseStoreLocation(url);
  if (location.kind !== "redis") throw new Error("expected a Redis");
  const redis = connectRedis(location, () => undefined);
  try {
    await once(redis, "ready");
    const parts: Buffer[] = [];
    for (const key of await redis.keysBuffer("*")) {
      parts.push(key, (await redis.callBuffer("dump", key)) as Buffer);
    }
    await redis.call("SAVE");
    return Buffer.concat(parts);
  } finally {
    redis.disconnect();
  }
}

/** Passes connections on to a Redis, and keeps all bytes of both directions. */
async function tap(targetPort: number) {
  const traffic: Buffer[] = [];
  const server = createServer((client) => {
    const target = connect(targetPort, "127.0.0.1");
    for (const [from, to] of [
      [client, target],
      [target, client],
    ] as const) {
      from.on("data", (bytes: Buffer) => traffic.push(bytes)).on("error", () => to.destroy());
      from.pipe(to);
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `redis://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, traffic, [Symbol.dispose]: () => void server.close() };
}
