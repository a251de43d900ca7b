import { afterAll, beforeAll, expect, test } from "vitest";
import { bearer } from "../testing/protocols.js";
import { startTestServer, type TestServer, useTestServer } from "../testing/test-server.js";

const COUNT = "/sessiond.v1.SessionService/CountSessions";
const APP = "https://app.example.com";

const closed = useTestServer();
let open: TestServer;
beforeAll(async () => {
  open = await startTestServer({ config: { corsOrigins: [APP, "http://localhost:5173"] } });
});
afterAll(() => open[Symbol.asyncDispose]());

function preflight(server: TestServer, origin: string, path = COUNT): Promise<Response> {
  const asked = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,connect-protocol-version",
  };
  return fetch(server.httpUrl + path, { method: "OPTIONS", headers: { origin, ...asked } });
}

function count(server: TestServer, headers: object): Promise<Response> {
  const type = { "content-type": "application/json" };
  return fetch(server.httpUrl + COUNT, {
    method: "POST",
    headers: { ...type, ...bearer(server.accessToken), ...headers },
    body: "{}",
  });
}

function corsHeaders({ headers }: Response): Readonly<Record<string, string>> {
  const ours = [...headers].filter(([name]) => name.startsWith("access-control-"));
  return Object.fromEntries(ours);
}

test("without the setting, no page of another origin may call", async () => {
  expect((await preflight(closed, APP)).status).toBe(405);
  const answer = await count(closed, { origin: APP });
  expect([answer.status, corsHeaders(answer)]).toEqual([200, {}]);
});

test.each([APP, "http://localhost:5173"])(
  "a page of %s may ask to call and call",
  async (origin) => {
    const asked = await preflight(open, origin);
    expect(asked.status).toBe(204);
    const { "access-control-allow-headers": allowed, ...others } = corsHeaders(asked);
    expect(others).toEqual({
      "access-control-allow-origin": origin,
      "access-control-allow-methods": "POST, GET",
      "access-control-max-age": "7200",
    });
    // What clients of Connect, JSON and gRPC-Web send, and pages that record traces.
    const sent = [
      "authorization",
      "connect-protocol-version",
      "connect-timeout-ms",
      "content-type",
      "traceparent",
      "tracestate",
    ];
    const names = allowed?.toLowerCase().split(", ");
    expect(names).toEqual(
      expect.arrayContaining([...sent, "grpc-timeout", "x-grpc-web", "x-user-agent"]),
    );

    const answer = await count(open, { origin });
    expect(answer.status).toBe(200);
    expect(answer.headers.get("vary")).toBe("origin");
    expect(corsHeaders(answer)).toEqual({
      "access-control-allow-origin": origin,
      "access-control-expose-headers": expect.stringMatching(/grpc-status.*grpc-message/i),
    });
  },
);

test("a page may also read why its call was refused", async () => {
  const answer = await count(open, { origin: APP, authorization: "Bearer wrong" });
  expect(answer.status).toBe(401);
  expect(answer.headers.get("access-control-expose-headers")).toContain("www-authenticate");
  const nowhere = await fetch(`${open.httpUrl}/nowhere`, { headers: { origin: APP } });
  expect(nowhere.status).toBe(404);
  expect(nowhere.headers.get("access-control-allow-origin")).toBe(APP);
});

test.each([
  "https://app.example.com.evil.test",
  "http://app.example.com",
  "https://app.example.com:8443",
  "https://APP.example.com",
  "null",
])("a page of %s, which is not listed, may not call", async (origin) => {
  const asked = await preflight(open, origin);
  expect([asked.status, corsHeaders(asked), await asked.json()]).toEqual([
    403,
    {},
    {
      code: "permission_denied",
      message: `expected an origin that SESSIOND_CORS_ORIGINS lists, got ${origin}`,
    },
  ]);
  const answer = await count(open, { origin });
  expect(corsHeaders(answer)).toEqual({});
  expect(answer.headers.get("vary")).toBe("origin");
});

test("callers that are no pages notice nothing", async () => {
  const answer = await count(open, {});
  expect([answer.status, corsHeaders(answer)]).toEqual([200, {}]);
  // No preflight: it asks for nothing.
  expect((await fetch(open.httpUrl + COUNT, { method: "OPTIONS" })).status).toBe(405);
});
