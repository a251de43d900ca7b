import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { request as httpRequest } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { type DescMethod, fromJson, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { credentials, Client as GrpcClient, Metadata } from "@grpc/grpc-js";
import { Keyring } from "@sessiond/core";
import { connectRedis } from "@sessiond/core/redis";
import { startRedisServer } from "@sessiond/core/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { SERVICES } from "../services/services.js";
import { Canaries } from "../testing/canaries.js";
import { requestsWith } from "../testing/field-requests.js";
import { type OtlpReceiver, startOtlpReceiver } from "../testing/otlp-receiver.js";
import { bearer, clientOver, GRPC, locksOver, pathOf } from "../testing/protocols.js";
import { type ListeningServerProcess, spawnServer } from "../testing/server-process.js";
import { byToken } from "../testing/session-requests.js";
import type { TestIssuer } from "../testing/test-issuer.js";
import { startTestIssuer } from "../testing/test-server.js";

/** Calls at once. More would only wait for each other. */
const CONCURRENCY = 24;
/** Long enough for all that does not wait. In milliseconds. */
const PATIENCE_MS = 150;
const MIB = 1024 * 1024;
/** Also a shape that JSON and URLs escape. */
const secretText = () => `canary "${randomBytes(24).toString("base64")}" \\ 50%`;

/** A server process on a store, and all that it has let out. */
interface Watched {
  readonly server: ListeningServerProcess;
  readonly traces: OtlpReceiver;
  /** What failed calls were answered, with their request. */
  readonly answers: Map<string, string>;
}

interface Faults {
  /** As SESSIOND_STORE names it, with a password if there can be one. */
  readonly url: string;
  corrupt(sessionId: string): Promise<void>;
  fill(): Promise<void>;
  empty(): Promise<void>;
  kill(): Promise<void>;
}

const canaries = new Canaries();
const opened = new AsyncDisposableStack();
let directory: string;
let issuer: TestIssuer;
let authFile: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sessiond-canary-"));
  opened.defer(() => rm(directory, { recursive: true, force: true }));
  issuer = opened.adopt(await startTestIssuer(), (started) => started.close());
  authFile = join(directory, "auth.json");
  const entry = { issuer: issuer.url, audience: "sessiond", algorithms: ["ES256"] };
  await writeFile(authFile, JSON.stringify({ issuers: [{ ...entry, jwks_uri: issuer.jwksUrl }] }));
});
afterAll(() => opened.disposeAsync());

/** A secret of this test that nothing may let out. */
function canary(name: string, text: string): string {
  canaries.add(name, text);
  return text;
}

/** A session token. Its end names the session, which is no secret. */
function sessionToken(name: string, token: string): string {
  canaries.add(name, token.slice("sst_".length, "sst_".length + 48));
  canaries.add(`${name}, its bytes`, secretOf(token).toString("hex"));
  return token;
}

/** The 32 bytes after the version. */
function secretOf(token: string): Buffer {
  return Buffer.from(token.slice("sst_".length), "base64url").subarray(1, 33);
}

function newKeyring(): string {
  const keyring = Keyring.generateKey("k1");
  canaries.add("keyring", keyring.slice("k1:".length));
  return keyring;
}

async function openRedis(stack: AsyncDisposableStack): Promise<Faults> {
  const redis = stack.use(await startRedisServer());
  const password = canary("Redis password", randomBytes(24).toString("base64url"));
  const location = { kind: "redis", address: { host: "127.0.0.1", port: redis.port } } as const;
  const admin = connectRedis({ ...location, db: 0, tls: false }, () => undefined);
  stack.defer(() => admin.disconnect());
  await once(admin, "ready");
  await admin.call("CONFIG", "SET", "requirepass", password);
  const set = (name: string, value: string) => admin.call("CONFIG", "SET", name, value);
  return {
    url: `redis://:${password}@127.0.0.1:${redis.port}`,
    corrupt: async (id) => {
      const keys = (await admin.callBuffer("KEYS", "*session:{*}:*")) as Buffer[];
      const key = keys.find((one) => one.includes(id.slice(2), 0, "hex")) ?? "";
      // The record stands at the end.
      await admin.setrange(key, (await admin.strlen(key)) - 64, randomBytes(64));
    },
    fill: async () => void (await set("maxmemory", "1")),
    empty: async () => void (await set("maxmemory", "0")),
    kill: () => redis.kill(),
  };
}

async function openSqlite(): Promise<Faults> {
  const home = await mkdtemp(join(directory, "sqlite-"));
  const path = join(home, "sessions.db");
  return {
    url: `sqlite:${path}`,
    corrupt: async (id) => {
      using database = new DatabaseSync(path);
      const change = database.prepare("UPDATE sessions SET record = randomblob(64) WHERE id = ?");
      change.run(id);
    },
    // Disks fill in the tests of the reserve.
    fill: async () => {},
    empty: async () => {},
    kill: () => rm(home, { recursive: true }),
  };
}

async function watch(
  stack: AsyncDisposableStack,
  store: string,
  keyring: string,
): Promise<Watched> {
  const traces = stack.use(await startOtlpReceiver());
  // Throws as a bug in ioredis's parser would: with the command and its arguments.
  const bug = join(directory, "bug.mjs");
  await writeFile(
    bug,
    `process.on("SIGUSR2", () => {
      const args = ["key", process.env.SESSIOND_KEYRING, process.env.SESSIOND_STORE];
      throw Object.assign(new Error("a bug"), { command: { name: "hset", args } });
    });`,
  );
  const server = stack.use(
    await spawnServer({
      env: {
        NODE_OPTIONS: `--import=${bug}`,
        SESSIOND_STORE: store,
        SESSIOND_KEYRING: keyring,
        SESSIOND_AUTH: authFile,
        SESSIOND_LOG_LEVEL: "trace",
        OTEL_EXPORTER_OTLP_ENDPOINT: traces.url,
        OTEL_EXPORTER_OTLP_HEADERS: `api-key=${canary("collector key", randomBytes(24).toString("hex"))}`,
      },
    }),
  );
  return { server, traces, answers: new Map() };
}

function accessTo({ grpcUrl, httpUrl }: ListeningServerProcess, accessToken: string) {
  return { grpcUrl, httpUrl, accessToken };
}

interface HttpCall {
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly method?: string;
  readonly body?: string | Buffer;
}

/** Sends anything to the HTTP port, and keeps the answer unless the call succeeds. */
function send({ server, answers }: Watched, call: HttpCall): Promise<void> {
  const { path, headers = {}, method = "POST", body = "{}" } = call;
  const usual = { "content-type": "application/json", "connect-timeout-ms": `${PATIENCE_MS}` };
  return new Promise((resolve) => {
    const options = { method, headers: { ...usual, ...headers }, agent: false };
    const request = httpRequest(server.httpUrl + path, options, (response) => {
      let text = JSON.stringify(response.headers);
      response.setEncoding("utf8").on("data", (chunk) => {
        text += chunk;
      });
      response.on("close", () => {
        const isError = response.statusCode !== 200 || /"error":/.test(text);
        if (isError) answers.set(JSON.stringify(call).slice(0, 500), text);
        resolve();
      });
    });
    request.on("error", () => resolve());
    request.on("continue", () => undefined);
    request.end(body);
  });
}

/** Sends a message to the gRPC port, and keeps the answer unless the call succeeds. */
function sendGrpc(
  { answers }: Watched,
  client: GrpcClient,
  { method, bytes, token }: { method: DescMethod; bytes: Uint8Array; token: string },
): Promise<void> {
  const metadata = new Metadata();
  metadata.set("authorization", bearer(token).authorization);
  const serialize = (message: Uint8Array) => Buffer.from(message);
  const options = { deadline: Date.now() + PATIENCE_MS };
  const args = [pathOf(method), serialize, serialize, bytes, metadata, options] as const;
  const stream = client.makeServerStreamRequest(...args);
  return new Promise((resolve) => {
    stream.on("data", () => stream.cancel());
    stream.on("error", (error) => {
      answers.set(`${method.name} ${Buffer.from(bytes).toString("latin1")}`, JSON.stringify(error));
    });
    stream.on("close", resolve).on("status", () => resolve());
  });
}

async function inTurns(calls: Iterable<() => Promise<void>>): Promise<void> {
  const queue = calls[Symbol.iterator]();
  const work = async () => {
    for (let next = queue.next(); !next.done; next = queue.next()) await next.value();
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, work));
}

/** Every method, with every secret in every field, over both ports. */
function* everyField(
  watched: Watched,
  values: readonly string[],
  known: { readonly token: string; readonly base: JsonObject },
): Generator<() => Promise<void>> {
  const client = new GrpcClient(watched.server.grpcAddress, credentials.createInsecure());
  opened.defer(() => client.close());
  const { token, base } = known;
  for (const method of SERVICES.flatMap(({ methods }) => methods as readonly DescMethod[])) {
    for (const value of values) {
      for (const json of requestsWith(method.input, value, base)) {
        // Whoever makes a secret the id of a session has made it a name.
        if (method.name === "CreateSession" && json["sessionId"] === value) continue;
        yield () => send(watched, jsonCall(method, JSON.stringify(json), token));
        const bytes = bytesOf(method, json);
        if (bytes) yield () => sendGrpc(watched, client, { method, bytes, token });
      }
      for (const body of [`{"x":"${value}`, `"${value}"`, value]) {
        yield () => send(watched, jsonCall(method, body, token));
        const bytes = Buffer.from(body);
        yield () => sendGrpc(watched, client, { method, bytes, token });
      }
    }
  }
}

function jsonCall(method: DescMethod, json: string, token: string): HttpCall {
  const path = pathOf(method);
  const headers = bearer(token);
  if (method.methodKind === "unary") return { path, headers, body: json };
  const envelope = Buffer.alloc(5);
  envelope.writeUInt32BE(Buffer.byteLength(json), 1);
  const type = { "content-type": "application/connect+json" };
  return {
    path,
    headers: { ...headers, ...type },
    body: Buffer.concat([envelope, Buffer.from(json)]),
  };
}

function bytesOf({ input }: DescMethod, json: JsonObject): Uint8Array | undefined {
  try {
    return toBinary(input, fromJson(input, json));
  } catch {
    return undefined;
  }
}

/** What gets no further than the ports, with each secret in each place of an HTTP request. */
function* everyPlace(
  watched: Watched,
  secret: string,
  token: string,
): Generator<() => Promise<void>> {
  const path = "/sessiond.v1.SessionService/VerifySession";
  const encoded = encodeURIComponent(secret);
  const places: readonly HttpCall[] = [
    { path: `${path}/${encoded}` },
    { path: `/${encoded}` },
    { path: `${path}?access_token=${encoded}` },
    { path: `/healthz/${encoded}?token=${encoded}`, method: "GET" },
    { path: `${path}?connect=v1&encoding=json&message=${encoded}`, method: "GET" },
    { path: `${path}?connect=v1&encoding=${encoded}&message=${encoded}`, method: "GET" },
    { path, method: "PUT" },
    { path, body: Buffer.alloc(5 * MIB, secret) },
    ...[
      "authorization",
      ...["content-type", "content-encoding", "accept-encoding", "connect-timeout-ms"],
      ...["connect-protocol-version", "grpc-timeout", "host", "origin", "expect", "cookie"],
      ...["x-request-id", "traceparent", "baggage", "user-agent", "accept", "x-forwarded-for"],
    ].map((name) => ({ path, headers: { ...bearer(token), [name]: encoded } })),
    { path, headers: { ...bearer(token), "x-huge": secret.repeat(400) } },
    { path, headers: { authorization: `Basic ${encoded}` } },
    { path, headers: bearer(encoded) },
    { path, headers: { authorization: `Bearer ${encoded}, Bearer ${token}` } },
    { path, headers: { ...bearer(token), "content-type": `text/${encoded}` } },
    { path, headers: { ...bearer(token), "content-encoding": "gzip" }, body: secret },
  ];
  for (const place of places) yield () => send(watched, place);
}

/** Where anything can come out. */
async function outputsOf({ server, traces, answers }: Watched) {
  const get = async (path: string) => (await fetch(server.httpUrl + path)).text();
  return {
    stdout: server.stdout,
    stderr: server.stderr,
    traces: traces.bytes.toString("latin1"),
    metrics: await get("/metrics").catch(() => ""),
    readyz: await get("/readyz").catch(() => ""),
    answers: [...answers.values()].join("\n"),
  };
}

describe.each([
  { name: "SQLite", open: openSqlite },
  { name: "Redis", open: openRedis },
])("on $name", ({ open }) => {
  test("no failure lets a secret out", async () => {
    await using stack = new AsyncDisposableStack();
    const store = await open(stack);
    const watched = await watch(stack, store.url, newKeyring());
    const { server } = watched;
    const scope = KNOWN_PERMISSIONS.join(" ");
    const token = canary("access token", await issuer.sign({ claims: { scope } }));
    const access = accessTo(server, token);
    const [sessions, locks] = [clientOver(GRPC, access), locksOver(GRPC, access)];

    const content = {
      displayName: canary("display name", secretText()),
      roles: [canary("role", secretText())],
      client: {
        userAgent: canary("user agent", secretText()),
        device: canary("device", secretText()),
      },
      data: { [canary("data key", secretText())]: canary("data", secretText()) },
    };
    const create = async (name: string) => {
      const created = await sessions.createSession({ userId: "ann", ...content });
      return { ...created, token: sessionToken(`${name} session token`, created.token) };
    };
    const [replaced, revoked, current] = [
      await create("replaced"),
      await create("revoked"),
      await create("current"),
    ];
    const rotated = await sessions.rotateSessionToken({ token: replaced.token });
    sessionToken("rotated session token", rotated.token);
    await sessions.revokeSession(byToken(revoked.token));
    const { lockId } = await locks.acquireLock({ name: "lock" });
    const id = current.session?.id ?? "";
    const known = {
      token,
      base: {
        userId: "ann",
        sessionId: id,
        updateMask: "displayName",
        name: "lock",
        policy: "login",
      },
    };
    canary("lock id", lockId);
    const values = [current.token, revoked.token.slice("sst_".length), lockId, token];
    const others = [
      replaced.token,
      current.token.slice(0, -20),
      canary("moved-in credential", randomBytes(24).toString("base64url")),
      content.displayName,
    ];
    const forged = `${token.slice(0, -8)}AAAAAAAA`;
    const expired = canary("expired token", await issuer.sign({ claims: { scope, exp: 1 } }));
    await inTurns(everyField(watched, values, known));
    for (const secret of [...others, forged, expired])
      await inTurns(everyPlace(watched, secret, token));

    await store.corrupt(id);
    const unreadable = [{ sessionId: id }].map((request) => sessions.getSession(request));
    await Promise.allSettled(unreadable);
    const other = await watch(stack, store.url, newKeyring());
    const stranger = clientOver(GRPC, accessTo(other.server, token));
    await Promise.allSettled([
      stranger.verifySession({ token: rotated.token }),
      stranger.getSession({ sessionId: replaced.session?.id ?? "" }),
      stranger.listSessions({}),
    ]);
    await store.fill();
    await inTurns(everyField(watched, [lockId], known));
    await store.empty();
    await store.kill();
    await inTurns(everyField(watched, [current.token], known));

    // The log is written ten times a second, and spans wait five seconds at most.
    await sleep(6_000);
    const outputs = [await outputsOf(watched), await outputsOf(other)];
    for (const [place, text] of outputs.flatMap((all) => Object.entries(all))) {
      expect.soft(canaries.find(text), place).toEqual([]);
    }
    expect(watched.answers.size).toBeGreaterThan(500);
    expect(watched.traces.spans.length).toBeGreaterThan(100);

    server.kill("SIGUSR2");
    expect(await server.ended).toBe(1);
    other.server.kill("SIGABRT");
    expect(await other.server.ended).toBe("SIGABRT");
    expect(server.stdout).toContain("uncaughtException");
    for (const { server: crashed } of [watched, other]) {
      expect(canaries.find(crashed.stdout + crashed.stderr)).toEqual([]);
    }
  }, 180_000);
});
