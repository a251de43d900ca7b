import { request as httpRequest, type IncomingMessage } from "node:http";
import { type ClientSessionOptions, connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { describe, expect, onTestFinished, test } from "vitest";
import { bearer } from "../testing/protocols.js";
import { useTestServer } from "../testing/test-server.js";

const SERVICE = "/sessiond.v1.SessionService";
const COUNT = `${SERVICE}/CountSessions`;
const JSON_TYPE = { "content-type": "application/json" };

/** A client that may repeat a header. Node's types know the option of servers only. */
const LENIENT: ClientSessionOptions & { readonly strictSingleValueFields: boolean } = {
  strictSingleValueFields: false,
};

const server = useTestServer();

interface Call {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Several authorization headers, instead of the right one. */
  readonly authorizations?: readonly string[];
  readonly body?: string;
}

/** Sends a request whose headers may repeat. */
async function send(call: Call) {
  const { method = "POST", path = COUNT, headers = JSON_TYPE, body = "{}" } = call;
  const { authorizations = [bearer(server.accessToken).authorization] } = call;
  const all = [
    ...Object.entries({ host: "x", ...headers }).flat(),
    ...authorizations.flatMap((value) => ["authorization", value]),
  ];
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  httpRequest(server.httpUrl + path, { method, headers: all }, resolve)
    .on("error", reject)
    .end(body);
  const response = await promise;
  return { status: response.statusCode, headers: response.headers, text: await text(response) };
}

/** Sends bytes that are no request, and answers what comes back. */
async function exchange(bytes: string): Promise<string> {
  const socket = connect(Number(new URL(server.httpUrl).port), "127.0.0.1");
  socket.end(bytes);
  return text(socket);
}

test.each([
  'application/json; charset="UTF-8"',
  "application/json;charset=utf-8",
  "Application/JSON ; Charset=UTF8",
  'application/json;  charset="utf-8";',
])("JSON is taken with the content type %s", async (type) => {
  const { status, text } = await send({ headers: { "content-type": type } });
  expect([status, JSON.parse(text)]).toEqual([200, { count: 0 }]);
});

test("JSON has all fields, also those that are false, zero or empty", async () => {
  const call = async (method: string, message: object) =>
    JSON.parse((await send({ path: `${SERVICE}/${method}`, body: JSON.stringify(message) })).text);
  expect(await call("CountSessions", {})).toEqual({ count: 0 });
  expect(await call("ListSessions", {})).toMatchObject({ sessions: [], nextPageToken: "" });
  const revoked = await call("RevokeSession", { sessionId: "nobody-has-this-id" });
  expect(revoked).toEqual({ revoked: false });
  const { session } = await call("CreateSession", { userId: "ann" });
  expect(session).toMatchObject({ displayName: "", roles: [], revokeReason: "" });
});

describe("a request that is refused is answered in Connect's JSON, with what was expected:", () => {
  const METHOD_PATH = "POST /<service>/<method>, such as /sessiond.v1.SessionService/VerifySession";
  const UNARY_TYPES = "application/json, application/proto, or application/grpc-web";

  test.each<[status: number, code: string, message: string, call: Call]>([
    [404, "unimplemented", `there is nothing at /x; expected ${METHOD_PATH}`, { path: "/x" }],
    [
      404,
      "unimplemented",
      `there is nothing at ${SERVICE}/Nonsense; expected ${METHOD_PATH}`,
      { path: `${SERVICE}/Nonsense?a=b` },
    ],
    [405, "unimplemented", "expected POST or GET, got PUT", { method: "PUT" }],
    [
      405,
      "unimplemented",
      "expected POST, got GET",
      { method: "GET", path: `${SERVICE}/CreateSession`, body: "" },
    ],
    [
      415,
      "invalid_argument",
      `expected the content type ${UNARY_TYPES}, got application/x-www-form-urlencoded`,
      { headers: { "content-type": "application/x-www-form-urlencoded" } },
    ],
    [
      415,
      "invalid_argument",
      `expected the content type ${UNARY_TYPES}, got none`,
      { headers: {} },
    ],
    [
      415,
      "invalid_argument",
      `expected the content type ${UNARY_TYPES}, got application/json; charset=latin1`,
      { headers: { "content-type": "application/json; charset=latin1" } },
    ],
    [
      415,
      "invalid_argument",
      "expected the content type application/connect+json, application/connect+proto, or " +
        "application/grpc-web, got application/json",
      { path: `${SERVICE}/WatchSessions` },
    ],
    [
      415,
      "invalid_argument",
      "expected encoding=json or encoding=proto in the query",
      { method: "GET", path: `${COUNT}?encoding=xml&message=`, headers: {}, body: "" },
    ],
    [
      431,
      "resource_exhausted",
      "expected headers of at most 16 KiB",
      { headers: { ...JSON_TYPE, "x-huge": "h".repeat(17 * 1024) } },
    ],
  ])("%i %s: %s", async (status, code, message, call) => {
    const answer = await send(call);
    expect([answer.status, answer.text]).toEqual([status, JSON.stringify({ code, message })]);
    expect(answer.headers["content-type"]).toBe("application/json");
  });

  test("which methods there are instead stands in a header, too", async () => {
    expect((await send({ method: "PUT" })).headers.allow).toBe("POST, GET");
  });

  test.each([
    ["GET / HTTP/9.9\r\nhost: x\r\n\r\n", "expected a valid HTTP request"],
    [
      `POST ${COUNT} HTTP/1.1\r\nhost: [\r\ncontent-length: 0\r\n\r\n`,
      "expected a valid Host header",
    ],
    [`POST ${COUNT} HTTP/1.1\r\ncontent-length: 0\r\n\r\n`, "expected a valid Host header"],
  ])("%j", async (bytes, message) => {
    const answer = await exchange(bytes);
    expect(answer).toMatch(/^HTTP\/1.1 400 Bad Request\r\n/);
    const body = JSON.stringify({ code: "invalid_argument", message });
    expect(answer.endsWith(`\r\n\r\n${body}`)).toBe(true);
  });

  test("also over HTTP/2", async () => {
    const session = connectHttp2(server.httpUrl);
    onTestFinished(() => session.destroy());
    const stream = session.request({ ":method": "POST", ":path": COUNT, "content-type": "a/b" });
    const answer = JSON.parse(await text(stream.end("{}")));
    expect(answer.message).toBe(
      `expected the content type application/json, application/proto, application/grpc-web, or ` +
        "application/grpc, got a/b",
    );
  });
});

describe("two authorization headers", () => {
  const other = "Bearer another";
  const REFUSED = "the authorization header is malformed: expected Bearer <token>, in one header";

  test("that differ are refused over HTTP/1.1, whichever comes first", async () => {
    const own = bearer(server.accessToken).authorization;
    for (const authorizations of [
      [own, other],
      [other, own],
    ]) {
      const { status, text } = await send({ authorizations });
      expect([status, JSON.parse(text).message]).toEqual([401, REFUSED]);
    }
    expect((await send({ authorizations: [own, own] })).status).toBe(200);
  });

  test.each([
    ["the HTTP port", () => server.httpUrl, "application/json"],
    ["the gRPC port", () => server.grpcUrl, "application/grpc"],
  ])("that differ are refused over HTTP/2 on %s", async (_, url, type) => {
    const session = connectHttp2(url(), LENIENT);
    onTestFinished(() => session.destroy());
    const own = bearer(server.accessToken).authorization;
    const head = [":method", "POST", ":path", COUNT, "content-type", type, "te", "trailers"];
    const stream = session.request([...head, "authorization", own, "authorization", other]);
    let message: string | undefined;
    stream.on("response", (headers) => {
      message = headers["grpc-message"]?.toString();
    });
    const body = await text(stream.end(type.endsWith("json") ? "{}" : Buffer.alloc(5)));
    expect(decodeURIComponent(message ?? JSON.parse(body).message)).toBe(REFUSED);
  });
});
