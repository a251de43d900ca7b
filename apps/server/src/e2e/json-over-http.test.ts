import { describe, expect, test } from "vitest";
import { bearer } from "../testing/protocols.js";
import { useTestServer } from "../testing/test-server.js";

const SERVICE = "sessiond.v1.SessionService";

const server = useTestServer();

/** Calls a method as curl would, with JSON. */
async function post(method: string, message: object, headers: object = bearer(server.accessToken)) {
  const response = await fetch(`${server.httpUrl}/${SERVICE}/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(message),
  });
  const json = JSON.parse(await response.text());
  return { status: response.status, headers: response.headers, json };
}

describe("JSON over HTTP", () => {
  test("a session is written as protobuf's JSON, its fields in lowerCamelCase", async () => {
    const content = {
      userId: "ann",
      displayName: "Ann",
      roles: ["admin"],
      client: { ip: "203.0.113.7", userAgent: "curl" },
      data: { theme: "dark", count: 3 },
    };
    const { status, json } = await post("CreateSession", { ...content, idleTimeout: "900.5s" });
    expect(status).toBe(200);
    expect(json.token).toMatch(/^sst_/);
    expect(json.session).toMatchObject({
      ...content,
      idleTimeout: "900.500s",
      state: "SESSION_STATE_ACTIVE",
      createTime: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$/),
    });
    // A request may also spell them as the contract does.
    const spelled = await post("CreateSession", { user_id: "ann", display_name: "Ann" });
    expect(spelled.json.session).toMatchObject({ userId: "ann", displayName: "Ann" });
  });

  test("a large answer is compressed for a client that takes it, and a small one is not", async () => {
    const accepting = { ...bearer(server.accessToken), "accept-encoding": "gzip" };
    const content = { userId: "zoe", data: { text: "x".repeat(2_000) } };
    const large = await post("CreateSession", content, accepting);
    expect(large.headers.get("content-encoding")).toBe("gzip");
    expect(large.json.session).toMatchObject(content);
    const small = await post("CountSessions", { userId: "zoe" }, accepting);
    expect(small.headers.get("content-encoding")).toBeNull();
  });

  test("a failure has the HTTP status of its code, and its details readable", async () => {
    const missing = await post("VerifySession", { token: "sst_nonsense" });
    expect(missing.status).toBe(404);
    expect(missing.json).toMatchObject({ code: "not_found", message: "session not found" });
    const info = { reason: "SESSION_NOT_FOUND", domain: "sessiond" };
    expect(missing.json.details).toMatchObject([{ type: "google.rpc.ErrorInfo", debug: info }]);

    const refused = await post("ListSessions", { pageSize: -1 });
    expect(refused.status).toBe(400);
    expect(refused.json.code).toBe("invalid_argument");
    const debug = { fieldViolations: [{ field: "page_size" }] };
    expect(refused.json.details[1]).toMatchObject({ type: "google.rpc.BadRequest", debug });
  });

  test("a failed result of a batch has its details readable, too", async () => {
    const { status, json } = await post("BatchVerifySessions", { tokens: ["sst_nonsense"] });
    expect(status).toBe(200);
    const type = { "@type": "type.googleapis.com/google.rpc.ErrorInfo" };
    const details = [{ ...type, reason: "SESSION_NOT_FOUND", domain: "sessiond" }];
    const error = { code: 5, message: "session not found", details };
    expect(json.results).toMatchObject([{ error }]);
  });

  test("a caller without a token is told how to present one", async () => {
    const { status, headers, json } = await post("CountSessions", {}, {});
    expect(status).toBe(401);
    expect(headers.get("www-authenticate")).toMatch(/^Bearer/);
    expect(json.message).toContain("authorization: Bearer <token>");
  });

  test("an update names its fields by a mask in lowerCamelCase, and data keys as they are", async () => {
    const { json: created } = await post("CreateSession", { userId: "ann" });
    const update = (change: object) =>
      post("UpdateSession", { sessionId: created.session.id, ...change });
    const content = { displayName: "Ann", client: { userAgent: "curl" } };
    const mask = { session: content, updateMask: "displayName,client.userAgent" };
    const updated = await update({ ...mask, setData: { lastPage: "/cart" } });
    expect(updated.status).toBe(200);
    expect(updated.json.session).toMatchObject({ ...content, data: { lastPage: "/cart" } });

    const refused = await update({ updateMask: "data.lastPage" });
    expect(refused.status).toBe(400);
    expect(refused.json.message).toContain("set single keys with set_data");
    expect(refused.json.message).not.toContain("last");
  });
});

// Reads without a secret can be asked for in a URL. What carries a secret or changes something cannot.
test.each([
  [200, "CountSessions", { userId: "nobody" }],
  [405, "VerifySession", { token: "sst_nonsense" }],
  [405, "BatchVerifySessions", { tokens: ["sst_nonsense"] }],
  [405, "CreateSession", { userId: "ann" }],
  [405, "RevokeUserSessions", { userId: "ann" }],
])("the status of Connect's GET is %i for %s", async (status, method, message) => {
  const asked = { connect: "v1", encoding: "json", message: JSON.stringify(message) };
  const url = `${server.httpUrl}/${SERVICE}/${method}?${new URLSearchParams(asked)}`;
  const response = await fetch(url, { headers: bearer(server.accessToken) });
  expect(response.status).toBe(status);
  if (status === 200) expect(await response.json()).toEqual({ count: 0 });
});
