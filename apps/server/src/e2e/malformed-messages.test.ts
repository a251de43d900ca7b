import { randomBytes } from "node:crypto";
import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { credentials, Client as GrpcClient } from "@grpc/grpc-js";
import { CreateSessionRequestSchema } from "@sessiond/proto/sessiond/v1/session_service";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { failureOf } from "../testing/outcome.js";
import { bearer, callWithBytes, clientOver, PROTOCOLS } from "../testing/protocols.js";
import { startTestServer, type TestServer } from "../testing/test-server.js";

const CREATE = "/sessiond.v1.SessionService/CreateSession";
const MIB = 1024 * 1024;
const MALFORMED = {
  code: "INVALID_ARGUMENT",
  reason: "INVALID_ARGUMENT",
  domain: "sessiond",
};

/** Messages that are none, for CreateSession. Field 1 is `user_id`, field 6 `data`. */
const NO_MESSAGES: readonly (readonly [what: string, bytes: Buffer])[] = [
  ["bytes that end too early", Buffer.from([0x0a, 200])],
  ["a field of an impossible kind", Buffer.from([0x0f, 1, 2, 3])],
  ["a field without an end", Buffer.from([0x0b, 0x0a, 1, 0x61])],
  ["invalid UTF-8 in a text", Buffer.from([0x0a, 2, 0xc3, 0x28])],
  ["half a surrogate pair in a text", Buffer.from([0x0a, 3, 0xed, 0xa0, 0x80])],
  ["data nested 3000 deep", nestedData(3000)],
  ["text where a message belongs", Buffer.from("hello, is anybody there?")],
];

let server: TestServer;
let grpc: GrpcClient;
/** An access token that does not let its bearer create sessions. */
let lacking: string;
beforeAll(async () => {
  server = await startTestServer();
  lacking = await server.issuer.sign({ claims: { scope: "sessions:read" } });
  grpc = new GrpcClient(server.grpcAddress, credentials.createInsecure());
});
afterAll(async () => {
  grpc.close();
  await server[Symbol.asyncDispose]();
});

afterEach(async () => {
  // Whatever a test sent, the others' calls work, and nothing was a fault of the server's.
  for (const wire of PROTOCOLS) {
    const { session } = await clientOver(wire, server).createSession({ userId: "unrelated" });
    expect(session?.userId).toBe("unrelated");
  }
  expect(server.logs.filter(({ level }) => Number(level) >= 40)).toEqual([]);
});

describe("over gRPC", () => {
  const call = (bytes: Uint8Array, headers: Record<string, string> = bearer(server.accessToken)) =>
    callWithBytes(grpc, CREATE, bytes, { headers });

  test.each(NO_MESSAGES)("%s is an invalid argument, and logged", async (_, bytes) => {
    const failure = await failureOf(call(bytes));
    expect(failure).toMatchObject(MALFORMED);
    expect(failure.message).toContain("sessiond.v1.CreateSessionRequest");
    expectLastCall({ code: "invalid_argument", caller: "billing" });
  });

  test.each([
    ["invalid UTF-8", "user_id", Buffer.from([0x0a, 2, 0xc3, 0x28])],
    ["invalid UTF-8 after what is fine", "client.ip", invalidIp()],
    ["data nested 3000 deep", "data", nestedData(3000)],
  ])("%s names its field, %s", async (_, field, bytes) => {
    const failure = await failureOf(call(bytes));
    expect(failure).toMatchObject({ ...MALFORMED, violations: [{ field }] });
    expect(failure.message).toBe(`${field}: ${failure.violations?.[0]?.description}`);
  });

  test.each(NO_MESSAGES)("%s from nobody known is not even looked at", async (_, bytes) => {
    expect(await failureOf(call(bytes, {}))).toMatchObject({ reason: "UNAUTHENTICATED" });
    expectLastCall({ code: "unauthenticated" });
  });

  test.each(NO_MESSAGES)("%s from one who lacks the permission is not either", async (_, bytes) => {
    expect(await failureOf(call(bytes, bearer(lacking)))).toMatchObject({
      reason: "PERMISSION_DENIED",
    });
    expectLastCall({ code: "permission_denied", caller: "billing" });
  });

  test("a message of 5 MiB is refused, compressed or not", async () => {
    const huge = toBinary(
      CreateSessionRequestSchema,
      create(CreateSessionRequestSchema, { userId: "u".repeat(5 * MIB) }),
    );
    const options = { "grpc.default_compression_algorithm": 2 };
    const zipping = new GrpcClient(server.grpcAddress, credentials.createInsecure(), options);
    for (const client of [grpc, zipping]) {
      const headers = bearer(server.accessToken);
      expect(await failureOf(callWithBytes(client, CREATE, huge, { headers }))).toMatchObject({
        code: "RESOURCE_EXHAUSTED",
        message: expect.stringContaining("4194304"),
      });
    }
    zipping.close();
  });

  test.each([
    "/sessiond.v1.SessionService/Nonsense",
    "/sessiond.v2.SessionService/CreateSession",
    "/nonsense",
  ])("there is no %s", async (path) => {
    const headers = bearer(server.accessToken);
    const call = callWithBytes(grpc, path, Buffer.alloc(0), { headers });
    expect(await failureOf(call)).toMatchObject({ code: "UNIMPLEMENTED" });
  });

  test("headers of a megabyte fail their own connection alone", async () => {
    const other = new GrpcClient(server.grpcAddress, credentials.createInsecure());
    const headers = { ...bearer(server.accessToken), "x-huge": "h".repeat(MIB) };
    await failureOf(callWithBytes(other, CREATE, Buffer.alloc(0), { headers }));
    other.close();
    await call(Buffer.from([0x0a, 1, 0x61]));
  });

  test("garbage in place of HTTP/2 ends its own connection alone", async () => {
    for (const garbage of garbages()) await exchange(server.grpcUrl, garbage);
    await call(Buffer.from([0x0a, 1, 0x61]));
  });
});

describe("over HTTP", () => {
  interface Body {
    readonly type?: string;
    readonly headers?: Readonly<Record<string, string>>;
    readonly path?: string;
    readonly method?: string;
  }

  interface Answer {
    readonly status: number;
    readonly text: string;
  }

  function send(body: string | Buffer, options: Body = {}): Promise<Answer> {
    const { type = "application/json", path = CREATE, method = "POST" } = options;
    const headers = {
      "content-type": type,
      ...bearer(server.accessToken),
      ...options.headers,
    };
    return new Promise((resolve, reject) => {
      const request = httpRequest(server.httpUrl + path, { method, headers }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk) => {
          text += chunk;
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
      });
      request.on("error", reject);
      request.end(body);
    });
  }

  test.each([
    ["half an object", '{"userId":', "JSON"],
    ["no object", "[]", "CreateSessionRequest"],
    ["a number where text belongs", '{"userId": 7}', "user_id"],
    ["text where a list belongs", '{"userId": "ann", "roles": "admin"}', "roles"],
    ["an unknown field", '{"userId": "ann", "idleTimout": "60s"}', "idleTimout"],
    ["a field given twice", '{"userId": "ann", "user_id": "bob"}', "user_id"],
    ["half a surrogate pair", '{"userId": "\\ud800"}', "user_id"],
    ["a duration without a unit", '{"userId": "ann", "lifetime": "60"}', "Duration"],
    ["a duration beyond protobuf's", '{"userId": "ann", "lifetime": "315576000001s"}', "Duration"],
    ["data that is no object", '{"userId": "ann", "data": [1]}', "Struct"],
    ["data nested 100000 deep", nestedJson(100_000), "depth"],
  ])("JSON with %s is an invalid argument, and logged", async (_, json, named) => {
    const { status, text } = await send(json);
    expect(status).toBe(400);
    const { details, ...error } = JSON.parse(text);
    expect(error).toEqual({
      code: "invalid_argument",
      message: expect.stringContaining(named),
    });
    expect(details[0]).toMatchObject({
      type: "google.rpc.ErrorInfo",
      debug: { reason: "INVALID_ARGUMENT", domain: "sessiond" },
    });
    expectLastCall({ code: "invalid_argument", caller: "billing" });
  });

  test.each([
    ["a duration that is none", "idle_timeout", '{"userId": "ann", "idleTimeout": "abc"}'],
    ["a number for a duration", "idle_timeout", '{"userId": "ann", "idle_timeout": 5}'],
    ["a duration beyond protobuf's", "lifetime", '{"lifetime": "315576000001s"}'],
    ["a number where text belongs", "client.ip", '{"client": {"device": "d", "ip": 7}}'],
    ["data nested 200 deep", "data", nestedJson(200)],
    ["a field given twice", "user_id", '{"userId": "ann", "user_id": "bob"}'],
  ])("JSON with %s names its field, %s", async (_, field, json) => {
    const { status, text } = await send(json);
    expect(status).toBe(400);
    const { message, details } = JSON.parse(text);
    const [violation] = details[1].debug.fieldViolations;
    expect(violation.field).toBe(field);
    expect(message).toBe(`${field}: ${violation.description}`);
    expectLastCall({ error: expect.stringMatching(new RegExp(`^${field}: `)) });
  });

  test("JSON with an unknown field names it, but not to the log", async () => {
    const { text } = await send('{"client": {"ipp": "::1"}}');
    expect(JSON.parse(text).details[1].debug.fieldViolations[0].field).toBe("client.ipp");
    expect(JSON.stringify(server.logs.at(-1))).not.toContain("ipp");
  });

  test("a duration or a time that is none is told how JSON has it", async () => {
    const list = { path: "/sessiond.v1.SessionService/ListSessions" };
    const ttl = JSON.parse((await send('{"userId": "ann", "idleTimeout": "15m"}')).text);
    expect(ttl.message).toMatch(/^idle_timeout: .* JSON: "15m"; expected seconds such as "900s"$/);
    const time = JSON.parse((await send('{"filter": {"createTimeTo": "junk"}}', list)).text);
    expect(time.message).toMatch(/; expected a time such as "2026-01-31T12:00:00Z"$/);
    const method = list.path.slice(1);
    expectLastCall({ method, error: expect.stringMatching(/ from JSON$/) });
  });

  test("a key that is very long is not sent back whole", async () => {
    const { status, text } = await send(JSON.stringify({ client: { ["k".repeat(MIB)]: 1 } }));
    expect(status).toBe(400);
    expect(text.length).toBeLessThan(4_096);
    expect(JSON.parse(text).details[1].debug.fieldViolations[0].field).toMatch(/^client\.k+$/);
  });

  test("JSON with a time that is none names its field in the filter", async () => {
    const path = "/sessiond.v1.SessionService/ListSessions";
    const { text } = await send('{"filter": {"createTimeFrom": "junk"}}', { path });
    expect(JSON.parse(text).details[1].debug.fieldViolations[0].field).toBe(
      "filter.create_time_from",
    );
  });

  test("each of many malformed requests at once is told of its own field", async () => {
    const fields = ["userId", "sessionId", "displayName", "requestId"];
    const asked = Array.from({ length: 40 }, (_, i) => fields[i % fields.length] ?? "");
    const answers = await Promise.all(asked.map((field) => send(JSON.stringify({ [field]: 7 }))));
    const named = answers.map(({ text }) => JSON.parse(text).message.split(":")[0]);
    expect(named).toEqual(asked.map((field) => field.replace(/[A-Z]/, "_$&").toLowerCase()));
  });

  test("invalid UTF-8 in JSON is refused, not replaced", async () => {
    for (const bytes of [[0xff], [0xc3, 0x28], [0xed, 0xa0, 0x80]]) {
      const body = Buffer.concat([
        Buffer.from('{"userId":"'),
        Buffer.from(bytes),
        Buffer.from('"}'),
      ]);
      const { status, text } = await send(body);
      expect(status).toBe(400);
      expect(text).toContain("utf-8");
      expect((await send(gzipSync(body), { headers: { "content-encoding": "gzip" } })).status).toBe(
        400,
      );
    }
  });

  test.each(NO_MESSAGES)("%s is an invalid argument, and logged", async (_, bytes) => {
    const { status, text } = await send(bytes, { type: "application/proto" });
    expect(status).toBe(400);
    const { code, details } = JSON.parse(text);
    expect(code).toBe("invalid_argument");
    expect(details[0].debug).toMatchObject({ reason: "INVALID_ARGUMENT", domain: "sessiond" });
    expectLastCall({ code: "invalid_argument", caller: "billing" });
  });

  test.each(NO_MESSAGES)("%s is so over gRPC-Web, too", async (_, bytes) => {
    const { status, text } = await send(enveloped(bytes), { type: "application/grpc-web+proto" });
    expect(status).toBe(200);
    expect(text).toContain("grpc-status: 3\r\n");
    expect(text).toContain("grpc-status-details-bin");
    expectLastCall({ code: "invalid_argument", caller: "billing" });
  });

  test.each([
    ["JSON", "application/json", Buffer.from("{")],
    ["protobuf", "application/proto", Buffer.from([0x0a, 200])],
    ["5 MiB", "application/json", Buffer.alloc(5 * MIB, 0x20)],
  ])("malformed %s from nobody known is not even looked at", async (_, type, body) => {
    const { status, text } = await send(body, { type, headers: { authorization: "" } });
    expect(status).toBe(401);
    expect(JSON.parse(text).code).toBe("unauthenticated");
    expectLastCall({ code: "unauthenticated" });
  });

  test("nor is what comes from one who lacks the permission", async () => {
    const { status, text } = await send("{", { headers: bearer(lacking) });
    expect(status).toBe(403);
    expect(JSON.parse(text).code).toBe("permission_denied");
    expectLastCall({ code: "permission_denied", caller: "billing" });
  });

  test.each([
    ["announced", `content-length: ${5 * MIB}`, Buffer.alloc(5 * MIB, 0x20)],
    ["in chunks", "transfer-encoding: chunked", inChunks(Buffer.alloc(5 * MIB, 0x20))],
  ])("5 MiB %s are refused, and their connection can be used on", async (_, length, body) => {
    const { authorization } = bearer(server.accessToken);
    const head = `POST ${CREATE} HTTP/1.1\r\nhost: x\r\nauthorization: ${authorization}\r\n`;
    const next = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    const answers = await exchange(
      server.httpUrl,
      Buffer.from(`${head}content-type: application/json\r\n${length}\r\n\r\n`),
      body,
      Buffer.from(next),
    );
    expect(answers.match(/HTTP\/1.1 \d+/g)).toEqual(["HTTP/1.1 429", "HTTP/1.1 200"]);
    expect(answers).toContain('"resource_exhausted"');
  });

  test("5 MiB that were compressed to little are refused as well", async () => {
    const body = gzipSync(Buffer.alloc(5 * MIB, 0x20));
    const { status, text } = await send(body, { headers: { "content-encoding": "gzip" } });
    expect(status).toBe(429);
    expect(JSON.parse(text).code).toBe("resource_exhausted");
  });

  test("a body that is not compressed as it says is refused", async () => {
    const { status } = await send("{}", { headers: { "content-encoding": "gzip" } });
    expect(status).toBe(400);
    const unknown = await send("{}", { headers: { "content-encoding": "nonsense" } });
    expect(JSON.parse(unknown.text).code).toBe("unimplemented");
  });

  test.each([
    [404, "a method that there is not", { path: "/sessiond.v1.SessionService/Nonsense" }],
    [404, "a path that there is not", { path: "/nonsense" }],
    [405, "PUT", { method: "PUT" }],
    [415, "a form", { type: "application/x-www-form-urlencoded" }],
    [415, "gRPC proper, which needs HTTP/2", { type: "application/grpc" }],
    [431, "headers of 17 KiB", { headers: { "x-huge": "h".repeat(17 * 1024) } }],
  ])("the status is %i for %s", async (expected, _, options) => {
    expect((await send("{}", options)).status).toBe(expected);
  });

  test.each(["", "%", "[", "a b", "x:y"])('a Host header of "%s" is refused', async (host) => {
    const head = `POST ${CREATE} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n`;
    const answer = await exchange(server.httpUrl, Buffer.from(`${head}content-length: 0\r\n\r\n`));
    expect(answer).toMatch(/^HTTP\/1.1 400 /);
  });

  test("a request of HTTP/1.0 without a Host header is refused", async () => {
    const answer = await exchange(server.httpUrl, Buffer.from(`POST ${CREATE} HTTP/1.0\r\n\r\n`));
    expect(answer).toMatch(/^HTTP\/1.1 400 /);
  });

  test("garbage in place of HTTP ends its own connection alone", async () => {
    for (const garbage of garbages()) await exchange(server.httpUrl, garbage);
  });
});

/** The call that was logged last has these fields and tells of how it failed. */
function expectLastCall(fields: object): void {
  expect(server.logs.findLast(({ msg }) => msg === "call")).toMatchObject({
    method: "sessiond.v1.SessionService/CreateSession",
    duration_ms: expect.any(Number),
    error: expect.any(String),
    ...fields,
  });
}

/** Sends bytes to a port and answers all that comes back until the server closes the connection. */
function exchange(url: string, ...parts: readonly Buffer[]): Promise<string> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  let received = "";
  socket.setEncoding("latin1").on("data", (chunk) => {
    received += chunk;
  });
  // A server that has heard enough may cut the connection.
  socket.on("error", () => undefined);
  for (const part of parts) socket.write(part);
  socket.end();
  return new Promise((resolve) => socket.once("close", () => resolve(received)));
}

function inChunks(body: Buffer): Buffer {
  return Buffer.concat([
    Buffer.from(`${body.length.toString(16)}\r\n`),
    body,
    Buffer.from("\r\n0\r\n\r\n"),
  ]);
}

/** What strays to open ports: noise, other protocols, and half of this one. */
function garbages(): readonly Buffer[] {
  const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  return [
    randomBytes(1024),
    Buffer.alloc(100_000, 0xff),
    Buffer.from("EHLO example.com\r\n"),
    Buffer.from("GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
    Buffer.from("GET / HTTP/9.9\r\n\r\n"),
    // How a TLS client says hello.
    Buffer.from("160301020001000001fc0303", "hex"),
    preface,
    Buffer.concat([preface, randomBytes(1024)]),
    // A HEADERS frame on stream 0, where none may be.
    Buffer.concat([
      preface,
      Buffer.from("000000040000000000" + "000004010400000000deadbeef", "hex"),
    ]),
  ];
}

/** `{"userId": "a", "data": {"a": {"a": …}}}`, as protobuf. */
function nestedData(levels: number): Buffer {
  let value: Buffer = Buffer.from([0x08, 0]);
  for (let i = 0; i < levels; i++) value = field(0x2a, structOf(value));
  return Buffer.concat([Buffer.from([0x0a, 1, 0x61]), field(0x32, structOf(value))]);
}

/** `{"userId": "a", "roles": ["b"], "client": {"ip": …}}`, as protobuf, the last no UTF-8. */
function invalidIp(): Buffer {
  const client = field(0x0a, Buffer.from([0xff]));
  return Buffer.concat([Buffer.from([0x0a, 1, 0x61, 0x22, 1, 0x62]), field(0x2a, client)]);
}

/** A google.protobuf.Struct with this value at the key `a`. */
function structOf(value: Buffer): Buffer {
  return field(0x0a, Buffer.concat([Buffer.from([0x0a, 1, 0x61]), field(0x12, value)]));
}

/** A field of protobuf's wire format, its length as a varint. */
function field(tag: number, bytes: Buffer): Buffer {
  const header = [tag];
  let length = bytes.length;
  for (; length > 0x7f; length >>>= 7) header.push((length & 0x7f) | 0x80);
  return Buffer.concat([Buffer.from([...header, length]), bytes]);
}

function nestedJson(levels: number): string {
  return `{"userId": "a", "data": ${'{"a":'.repeat(levels)}1${"}".repeat(levels)}}`;
}

/** A message of gRPC: not compressed, its length in front. */
function enveloped(bytes: Buffer): Buffer {
  const header = Buffer.alloc(5);
  header.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([header, bytes]);
}
