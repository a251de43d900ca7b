import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { protoSession, rejection, startClient } from "../testing/session-server.js";
import { hashCredential } from "./credential.js";

test("a session moves in with the credential of its user, which verifies as it is", async () => {
  const credential = "s%3AKq8-bUO2oAcDL_9mXyH4mQ.vXU";
  const { server, client } = await startClient({
    createSession: () => ({ session: protoSession() }),
    verifySession: () => ({ session: protoSession() }),
  });
  const times = { createTime: new Date(1_000), authenticateTime: new Date(2_000) };
  const tokenHash = hashCredential(credential);
  const base64url = createHash("sha256").update(credential).digest("base64url");
  const moved = { userId: "user-1", ...times, expireTime: new Date(3_500) };
  expect((await client.createSession({ ...moved, tokenHash })).token).toBe("");
  await client.createSession({ ...moved, tokenHash: base64url });
  const request = {
    tokenHash: new Uint8Array(createHash("sha256").update(credential).digest()),
    createTime: { seconds: 1n },
    authenticateTime: { seconds: 2n },
    expireTime: { seconds: 3n, nanos: 500_000_000 },
  };
  const [bytes, text] = server.requests("createSession");
  expect([bytes, text]).toMatchObject([request, request]);
  await client.verifySession(credential);
  expect(server.requests("verifySession")).toMatchObject([{ token: credential }]);
});

test.each(["a credential of words", "too short", "sst_of-another-kind", "ü".repeat(16)])(
  "what the server would never accept is no credential: %s",
  (text) => {
    expect(() => hashCredential(text)).toThrow("16 to 1024 visible ASCII characters");
  },
);

describe("a token that is no session's, as of a request without a cookie,", () => {
  const none = ["", undefined, null, "\ud800"];

  test("proves no session, and needs no call", async () => {
    const { server, client } = await startClient({});
    for (const token of none) {
      expect(await client.verifySession(token)).toBeUndefined();
      expect(await client.revokeSession({ token })).toBe(false);
      for (const call of [client.refreshSession({ token }), client.rotateSessionToken(token)]) {
        expect(await rejection(call)).toMatchObject({ reason: "SESSION_NOT_FOUND" });
      }
    }
    expect(server.calls).toEqual([]);
  });

  test("fails only its own result in a batch", async () => {
    const { server, client } = await startClient({
      batchVerifySessions: ({ tokens }) => ({
        results: tokens.map((id) => ({ result: { case: "session", value: protoSession({ id }) } })),
      }),
    });
    const results = await client.batchVerifySessions(["a", ...none, "b"]);
    const shown = results.map(({ session, error }) => session?.id ?? error?.reason);
    expect(shown).toEqual(["a", ...none.map(() => "SESSION_NOT_FOUND"), "b"]);
    expect(server.requests("batchVerifySessions")).toMatchObject([{ tokens: ["a", "b"] }]);
  });
});
