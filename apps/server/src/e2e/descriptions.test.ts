import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { failureOf } from "../testing/outcome.js";
import { clientOver, GRPC, JSON_OVER_HTTP } from "../testing/protocols.js";
import { byId, newSession, newUser } from "../testing/session-requests.js";
import { useTestServer } from "../testing/test-server.js";

const server = useTestServer();

/** An in-app browser's user agent, which lists its features for kilobytes. */
const LONG_USER_AGENT = `Mozilla/5.0 (iPhone) Instagram 361.0 ${"feature/1.0 ".repeat(400)}`;

describe.each([GRPC, JSON_OVER_HTTP])("over $name", (protocol) => {
  const client = clientOver(protocol, server);

  test("a login with descriptions that no session can hold succeeds, and says what was changed", async () => {
    const { session, notices } = await client.createSession({
      userId: newUser(),
      displayName: "Ann\nÄhnlich",
      client: { ip: "203.0.113.7:4711", userAgent: LONG_USER_AGENT, device: "🙂".repeat(65) },
    });
    expect(session).toMatchObject({
      displayName: "Ann Ähnlich",
      client: { ip: "", userAgent: LONG_USER_AGENT.slice(0, 1024), device: "🙂".repeat(64) },
    });
    expect(notices.map(({ field, description }) => `${field}: ${description}`)).toEqual([
      "display_name: unprintable characters were replaced by spaces",
      "client.ip: left empty, because it is no IPv4 or IPv6 address",
      "client.user_agent: cut to 1024 bytes",
      "client.device: cut to 256 bytes",
    ]);
  });

  test("a login with descriptions as they should be has no notice", async () => {
    const content = {
      displayName: "d".repeat(256),
      client: { ip: "2001:db8::1", userAgent: "a".repeat(1024), device: "d".repeat(256) },
    };
    const { session, notices } = await client.createSession({ userId: newUser(), ...content });
    expect(session).toMatchObject(content);
    expect(notices).toEqual([]);
  });

  test.each(["unknown", "203.0.113.7, 10.0.0.1", "[::1]", "127.1", "0x7f.1", "010.0.0.1"])(
    "a login from %j succeeds, without an address",
    async (ip) => {
      const { session, notices } = await client.createSession({ userId: "ann", client: { ip } });
      expect(session?.client?.ip).toBe("");
      expect(notices).toMatchObject([{ field: "client.ip" }]);
    },
  );

  test("a repeated login has the same session, token and notices", async () => {
    const request = {
      ...{ userId: newUser(), requestId: randomUUID() },
      client: { ip: "::ffff:203.0.113.7", userAgent: LONG_USER_AGENT },
    };
    const first = await client.createSession(request);
    expect(first.session?.client?.ip).toBe("203.0.113.7");
    expect(first.notices).toHaveLength(1);
    expect(await client.createSession(request)).toEqual(first);
    // Stored alike, and yet another request.
    const other = { ...request, client: { ...request.client, ip: "203.0.113.7" } };
    expect(await failureOf(client.createSession(other))).toMatchObject({
      reason: "REQUEST_ID_REUSED",
    });
  });

  test("an update of descriptions is not refused either", async () => {
    const { sessionId } = await newSession(client, { client: { ip: "203.0.113.7" } });
    const { session, notices } = await client.updateSession({
      sessionId,
      session: { displayName: "d".repeat(257), client: { ip: "unknown", userAgent: "a\tb" } },
      updateMask: { paths: ["display_name", "client"] },
    });
    expect(session).toMatchObject({
      displayName: "d".repeat(256),
      client: { ip: "", userAgent: "a b" },
    });
    const fields = ["session.display_name", "session.client.ip", "session.client.user_agent"];
    expect(notices.map(({ field }) => field)).toEqual(fields);
  });

  test("a logout for a reason that is too long succeeds, with the reason cut", async () => {
    const userId = newUser();
    const { sessionId } = await newSession(client, { userId });
    await newSession(client, { userId });
    const reason = `${"r".repeat(255)}é`;
    await client.revokeSession({ ...byId(sessionId), reason });
    await client.revokeUserSessions({ userId, reason });
    const { sessions } = await client.listSessions({ userId, showRevoked: true });
    expect(sessions.map(({ revokeReason }) => revokeReason)).toEqual(
      Array(2).fill("r".repeat(255)),
    );
  });

  test("a session is found by its address in any spelling, and by nothing that is none", async () => {
    const role = randomUUID();
    await newSession(client, { roles: [role], client: { ip: "::FFFF:203.0.113.7" } });
    await newSession(client, { roles: [role], client: { ip: "2001:DB8:0:0:0:0:0:1" } });
    const found = async (ip: string) => {
      const { sessions } = await client.listSessions({ filter: { role, ip } });
      return sessions.map((session) => session.client?.ip);
    };
    for (const ip of ["203.0.113.7", "::ffff:203.0.113.7", "::ffff:cb00:7107"]) {
      expect(await found(ip), ip).toEqual(["203.0.113.7"]);
    }
    for (const ip of ["2001:db8::1", "2001:0DB8::0:1", "2001:db8::1%eth0"]) {
      expect(await found(ip), ip).toEqual(["2001:db8::1"]);
    }
    for (const ip of ["203.0.113.7:4711", "unknown", "127.1"]) {
      expect(await failureOf(found(ip))).toMatchObject({ violations: [{ field: "filter.ip" }] });
    }
  });
});

/** Calls with a body in JSON that is not made by `JSON.stringify` of a valid message. */
async function call(method: string, json: string): Promise<unknown> {
  const response = await fetch(`${server.httpUrl}/sessiond.v1.SessionService/${method}`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      authorization: `Bearer ${server.accessToken}`,
    },
    body: json,
  });
  return response.json();
}

test("half a surrogate pair in a description, which only JSON can hold, refuses no login", async () => {
  const created = await call(
    "CreateSession",
    String.raw`{"userId": "ann", "displayName": "\ud83d", "client": {"user_agent": "a\udc00b\ud83d\ude00"},
      "data": {"number": 1.0e2, "userAgent": "\ud83d\ude00"}}`,
  );
  expect(created).toMatchObject({
    session: {
      displayName: " ",
      client: { userAgent: "a b\u{1f600}" },
      data: { number: 100, userAgent: "\u{1f600}" },
    },
    notices: [{ field: "display_name" }, { field: "client.user_agent" }],
  });
  const { sessionId } = await newSession(clientOver(JSON_OVER_HTTP, server));
  const update = String.raw`{"sessionId": "${sessionId}", "updateMask": "client",
    "session": {"client": {"device": "\ud800"}}}`;
  const device = { device: " " };
  expect(await call("UpdateSession", update)).toMatchObject({ session: { client: device } });
  const revoke = String.raw`{"sessionId": "${sessionId}", "reason": "\ud800"}`;
  expect(await call("RevokeSession", revoke)).toEqual({ revoked: true });
});

test.each([
  ["user_id", String.raw`{"userId": "\ud800", "client": {"device": "\ud800"}}`],
  ["roles", String.raw`{"userId": "ann", "roles": ["\ud800"], "displayName": "\ud800"}`],
  ["data", String.raw`{"userId": "ann", "data": {"device": "\ud800"}, "displayName": "\ud800"}`],
])("half a surrogate pair anywhere else is refused, naming %s", async (field, json) => {
  expect(await call("CreateSession", json)).toMatchObject({
    code: "invalid_argument",
    message: expect.stringMatching(`^${field}`),
  });
});
