import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { DEFAULT_EDGE_LIMITS } from "../edge/edge-limits.js";
import { scrape } from "../testing/scrape.js";
import { useTestServer } from "../testing/test-server.js";
import { unreadable } from "../transport/refusal.js";

const PATH = "/sessiond.v1.SessionService/VerifySession";
const CHUNKED = `POST ${PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n`;

const server = useTestServer({ config: { corsOrigins: ["https://app.example.com"] } });

/** Sends bytes to the HTTP port, and answers the status of the response. */
async function statusOf(request: string): Promise<string | undefined> {
  const socket = connect(Number(new URL(server.httpUrl).port), "127.0.0.1");
  await once(socket, "connect");
  socket.end(request);
  return /^HTTP\/1.1 (\d+)/.exec(await text(socket))?.[1];
}

const head = (line: string, ...headers: readonly string[]) =>
  `${[`${line} HTTP/1.1`, ...headers, "connection: close", "content-length: 0"].join("\r\n")}\r\n\r\n`;

test.each([
  ["400", "a request without a host", head(`POST ${PATH}`, "content-type: application/json")],
  ["400", "what is no HTTP", "EHLO example.com\r\n\r\n"],
  [
    "403",
    "a web page of another origin",
    head(`OPTIONS ${PATH}`, "host: x", "origin: http://x", "access-control-request-method: POST"),
  ],
  ["404", "a path of no method", head("POST /nonsense", "host: x")],
  ["405", "another method of HTTP", head(`PUT ${PATH}`, "host: x")],
  ["413", "long chunk extensions", `${CHUNKED}1;${"x".repeat(17 * 1024)}\r\n`],
  ["415", "a form", head(`POST ${PATH}`, "host: x", "content-type: text/plain")],
  ["431", "headers of 17 KiB", head("GET /healthz", "host: x", `x: ${"x".repeat(17 * 1024)}`)],
])("metrics count that %s was the answer to %s", async (status, _, request) => {
  const count = async () =>
    (await scrape(server.httpUrl)).sum("sessiond_http_refused_total", { status });
  const before = (await count()) ?? Number.NaN;
  expect(await statusOf(request)).toBe(status);
  expect(await count()).toBe(before + 1);
});

test("a request that does not come in time is answered with 408", () => {
  const error = Object.assign(new Error(), { code: "ERR_HTTP_REQUEST_TIMEOUT" });
  expect(unreadable(error, DEFAULT_EDGE_LIMITS)).toMatchObject({
    status: 408,
    message: "expected a request within 10 s",
  });
});

test("an expectation that the server does not know is ignored, and not counted", async () => {
  const count = async () => (await scrape(server.httpUrl)).sum("sessiond_http_refused_total");
  const before = await count();
  expect(await statusOf(head("GET /healthz", "host: x", "expect: a miracle"))).toBe("200");
  expect(await count()).toBe(before);
});

test.each(["gRPC", "HTTP"])(
  "the %s port closes a connection with too many calls of unknown paths",
  async (port) => {
    const session = connectHttp2(port === "gRPC" ? server.grpcUrl : server.httpUrl);
    const callOnce = () => {
      const call = session.request({ ":method": "POST", ":path": "/unknown" });
      return once(call.on("error", () => {}).resume(), "close");
    };
    for (let i = 0; i < 10 && !session.closed; i++) {
      await Promise.all(Array.from({ length: 50 }, callOnce));
    }
    expect(session.closed).toBe(true);
    session.destroy();
  },
);
