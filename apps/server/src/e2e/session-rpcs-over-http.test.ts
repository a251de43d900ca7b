import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bearer } from "../testing/protocols.js";
import { startTestServer, type TestServer } from "../testing/test-server.js";

const SERVICE = "sessiond.v1.SessionService";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server[Symbol.asyncDispose]());

/** What answers may hold, of what the tests look at. */
interface Answer {
  readonly session: { readonly id: string };
  readonly token: string;
  readonly results: readonly object[];
  readonly code: string;
  readonly message: string;
  readonly details: readonly object[];
}

/** Calls a method as curl would, with JSON. */
async function post(method: string, message: object, headers: object = bearer(server.accessToken)) {
  const response = await fetch(`${server.httpUrl}/${SERVICE}/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(message),
  });
  const json = (await response.json()) as Answer;
  return { status: response.status, headers: response.headers, json };
}

describe("JSON over HTTP", () => {
  test("a session is written as protobuf's JSON, its fields in lowerCamelCase", async () => {
    const { status, json } = await post("CreateSession", {
      userId: "ann",
      displayName: "Ann",
      roles: ["admin"],
      client: { ip: "203.0.113.7", userAgent: "curl" },
      data: { theme: "dark", count: 3 },
      idleTimeout: "900.5s",
    });
    expect(status).toBe(200);
    expect(json).toMatchObject({
      session: {
        userId: "ann",
        displayName: "Ann",
        roles: ["admin"],
        client: { ip: "203.0.113.7", userAgent: "curl" },
        data: { theme: "dark", count: 3 },
        idleTimeout: "900.500s",
        state: "SESSION_STATE_ACTIVE",
        createTime: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$/),
      },
      token: expect.stringMatching(/^sst_/),
    });
  });

  test("fields may also be named as the contract spells them", async () => {
    const { status, json } = await post("CreateSession", { user_id: "ann", display_name: "Ann" });
    expect(status).toBe(200);
    expect(json.session).toMatchObject({ userId: "ann", displayName: "Ann" });
  });

  test("a failure has the HTTP status of its code, and its details readable", async () => {
    const { status, json } = await post("VerifySession", { token: "sst_nonsense" });
    expect(status).toBe(404);
    expect(json).toMatchObject({
      code: "not_found",
      message: "session not found",
      details: [
        {
          type: "google.rpc.ErrorInfo",
          debug: { reason: "SESSION_NOT_FOUND", domain: "sessiond" },
        },
      ],
    });
  });

  test("a refused field is named in the details", async () => {
    const { status, json } = await post("ListSessions", { pageSize: -1 });
    expect(status).toBe(400);
    expect(json.code).toBe("invalid_argument");
    expect(json.details[1]).toMatchObject({
      type: "google.rpc.BadRequest",
      debug: { fieldViolations: [{ field: "page_size" }] },
    });
  });

  test("a failed result of a batch has its details readable, too", async () => {
    const { status, json } = await post("BatchVerifySessions", { tokens: ["sst_nonsense"] });
    expect(status).toBe(200);
    expect(json.results).toEqual([
      {
        error: {
          code: 5,
          message: "session not found",
          details: [
            {
              "@type": "type.googleapis.com/google.rpc.ErrorInfo",
              reason: "SESSION_NOT_FOUND",
              domain: "sessiond",
            },
          ],
        },
      },
    ]);
  });

  test("a caller without a token is told how to present one", async () => {
    const { status, headers, json } = await post("CountSessions", {}, {});
    expect(status).toBe(401);
    expect(headers.get("www-authenticate")).toMatch(/^Bearer/);
    expect(json.message).toContain("authorization: Bearer <token>");
  });

  test("an update names its fields by a mask in lowerCamelCase", async () => {
    const { json: created } = await post("CreateSession", { userId: "ann" });
    const { status, json } = await post("UpdateSession", {
      sessionId: created.session.id,
      session: { displayName: "Ann", data: { theme: "light" } },
      updateMask: "displayName,data.theme",
    });
    expect(status).toBe(200);
    expect(json.session).toMatchObject({ displayName: "Ann", data: { theme: "light" } });
  });

  test("a data key that a JSON mask cannot name is refused rather than lost", async () => {
    const { json: created } = await post("CreateSession", { userId: "ann" });
    const { status, json } = await post("UpdateSession", {
      sessionId: created.session.id,
      session: { data: { lastPage: "/cart" } },
      updateMask: "data.lastPage",
    });
    expect(status).toBe(400);
    expect(json.message).toContain("replace data as a whole if a key has capitals");
    expect(json.message).not.toContain("lastPage");
  });
});

describe("Connect's GET", () => {
  const get = (method: string, message: object) => {
    const query = new URLSearchParams({
      connect: "v1",
      encoding: "json",
      message: JSON.stringify(message),
    });
    return fetch(`${server.httpUrl}/${SERVICE}/${method}?${query}`, {
      headers: bearer(server.accessToken),
    });
  };

  test("reads, which carry no secret, can be asked for in a URL", async () => {
    const response = await get("CountSessions", { userId: "nobody" });
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({});
  });

  test.each([
    ["VerifySession", { token: "sst_nonsense" }],
    ["BatchVerifySessions", { tokens: ["sst_nonsense"] }],
    ["CreateSession", { userId: "ann" }],
    ["RevokeUserSessions", { userId: "ann" }],
  ])("%s, which carries a secret or changes something, cannot", async (method, message) => {
    expect((await get(method, message)).status).toBe(405);
  });
});
