import { describe, expect, test, vi } from "vitest";
import { SqliteSessionStore } from "../sqlite/index.js";
import type { CreateSession } from "./create-request.js";
import { Keyring } from "./keyring.js";
import { partitionOfUser } from "./session-id.js";
import { parseSessionToken } from "./session-token.js";
import { Sessions } from "./sessions.js";
import {
  clock,
  create,
  HOUR_MS,
  key,
  keyring,
  MINUTE_MS,
  NOT_FOUND,
  refused,
  sessions,
  store,
  useSessions,
  withKeys,
  withPolicy,
} from "./sessions.test.fixture.js";

useSessions();

describe("a request to create that is repeated", () => {
  const asked: CreateSession = {
    userId: "ann",
    requestId: "request-1",
    caller: "shop",
    displayName: "Ann",
    roles: ["admin", "user"],
    client: { ip: "203.0.113.7" },
    data: { theme: "dark", cart: { items: [1, 2.5, null], total: 2 } },
    idleTimeoutMs: 60_000,
  };

  test("answers the same session, token and evicted ids, also many times at once", async () => {
    const evicting = withPolicy({ maxSessionsPerUser: 1 });
    const old = await create();
    const answers = await Promise.all(Array.from({ length: 20 }, () => evicting.create(asked)));
    const [first] = answers;
    expect(first?.evictedSessionIds).toEqual([old.session.id]);
    clock.advance(MINUTE_MS - 1);
    for (const answer of [...answers, await evicting.create(asked)]) expect(answer).toEqual(first);
    expect(await sessions.count()).toBe(1);
    const verified = await sessions.verify(first?.token ?? "", { touch: false });
    expect(verified).toEqual(first?.session);
  });

  test("answers the session as it is now: updated, expired, revoked", async () => {
    const { session, token } = await sessions.create(asked);
    const updated = await sessions.update(session.id, { displayName: "Ann B." });
    expect((await sessions.create(asked)).session).toEqual(updated.session);
    await sessions.revoke({ token }, "logout");
    const revoked = { state: "revoked", revokeReason: "logout" };
    expect(await sessions.create(asked)).toMatchObject({ token, session: revoked });

    const brief = { ...asked, requestId: "request-2", idleTimeoutMs: 1 };
    await sessions.create(brief);
    clock.advance(1);
    expect((await sessions.create(brief)).session.state).toBe("expired");
    expect(await sessions.count()).toBe(0);
  });

  test("is the same however it is put, and though the server's defaults have changed", async () => {
    const { idleTimeoutMs: _, ...plain } = asked;
    const first = await sessions.create(plain);
    const reordered = {
      ...plain,
      data: { cart: { total: 2, items: [1, 2.5, null] }, theme: "dark" },
      client: { device: "", userAgent: "", ip: "203.0.113.7" },
    };
    expect(await withPolicy({ idleTimeoutMs: 5_000 }).create(reordered)).toEqual(first);
  });

  // The second server may be a newer one, which keeps descriptions in another way.
  test("is compared as it was sent, not as it is kept", async () => {
    const described = { displayName: "x".repeat(1_000), client: { ip: "::ffff:203.0.113.7" } };
    const first = await sessions.create({ ...asked, ...described });
    expect(first.session.client.ip).toBe("203.0.113.7");
    expect(first.notices).toMatchObject([{ field: "display_name" }]);
    expect(await sessions.create({ ...asked, ...described })).toEqual(first);
    const { displayName, client } = first.session;
    for (const kept of [
      { ...described, displayName },
      { ...described, client },
    ]) {
      await refused(sessions.create({ ...asked, ...kept }), "REQUEST_ID_REUSED");
    }
  });

  test.each<[string, Partial<CreateSession>]>([
    ["user", { userId: "bob" }],
    ["session id", { sessionId: "jti-1" }],
    ["display name", { displayName: "ann" }],
    ["order of roles", { roles: ["user", "admin"] }],
    ["client", { client: { ip: "203.0.113.8" } }],
    ["data, far inside", { data: { theme: "dark", cart: { items: [1, 2.5, 0], total: 2 } } }],
    ["idle timeout", { idleTimeoutMs: 60_001 }],
    ["lifetime", { lifetimeMs: 60_000 }],
  ])("with another %s is refused, and creates nothing", async (_, other) => {
    const { session, token } = await sessions.create(asked);
    await refused(sessions.create({ ...asked, ...other }), "REQUEST_ID_REUSED");
    expect(await sessions.count()).toBe(1);
    expect((await sessions.verify(token)).displayName).toBe(session.displayName);
  });

  test("for a user of the same partition is refused like any other", async () => {
    let neighbour = 0;
    while (partitionOfUser(`user-${neighbour}`) !== partitionOfUser("ann")) neighbour++;
    await sessions.create(asked);
    await refused(sessions.create({ ...asked, userId: `user-${neighbour}` }), "REQUEST_ID_REUSED");
    expect(await sessions.count()).toBe(1);
  });

  test("by another caller of whatever name is another request", async () => {
    const { caller: _, ...anonymous } = asked;
    const odd = "https://issuer.example/\0\u{1f600} ".repeat(100);
    const requests = [asked, anonymous, { ...asked, caller: "blog" }, { ...asked, caller: odd }];
    const answers = await Promise.all(requests.map((request) => sessions.create(request)));
    expect(new Set(answers.map(({ token }) => token)).size).toBe(4);
    // An empty name is the same as none.
    expect(await sessions.create({ ...asked, caller: "" })).toEqual(answers[1]);
    expect(await sessions.create({ ...asked, caller: odd })).toEqual(answers[3]);
    expect(await sessions.count()).toBe(4);
  });

  test("is another request once 10 minutes are over", async () => {
    const first = await sessions.create({ ...asked, idleTimeoutMs: HOUR_MS });
    clock.advance(10 * MINUTE_MS - 1);
    expect(await sessions.create({ ...asked, idleTimeoutMs: HOUR_MS })).toEqual(first);
    clock.advance(1);
    const next = await sessions.create({ ...asked, displayName: "someone else" });
    expect(next.session.id).not.toBe(first.session.id);
    expect(await sessions.count()).toBe(2);
  });

  test("finds no session once that was removed, and makes no new one", async () => {
    const forgetful = await SqliteSessionStore.open({
      path: ":memory:",
      now: clock.now,
      retentionMs: 1_000,
    });
    const brief = new Sessions({ store: forgetful, keyring });
    await brief.create(asked);
    clock.advance(2 * MINUTE_MS);
    expect(await forgetful.sweep(100)).toMatchObject({ reclaimed: 1 });
    await refused(brief.create(asked), NOT_FOUND);
    await refused(brief.create({ ...asked, displayName: "Bob" }), "REQUEST_ID_REUSED");
    expect(await brief.count()).toBe(0);
    await forgetful.close();
  });

  test("is recognised under a rotated key, and unreadable once its key is gone", async () => {
    const first = await sessions.create(asked);
    const newKey = Keyring.generateKey("k2");
    expect(await withKeys(newKey, key).create(asked)).toEqual(first);
    const unreadable = { reason: "SESSION_UNREADABLE", metadata: { key_id: "k1" } };
    await refused(withKeys(newKey).create(asked), unreadable);
    expect(await sessions.count()).toBe(1);
  });

  test("is not answered from the record of another request", async () => {
    const createOnce = vi.spyOn(store, "createOnce");
    await sessions.create(asked);
    const [request] = createOnce.mock.calls[0] ?? [];
    createOnce.mockImplementationOnce(async (_, session, limit) => ({
      ...(await store.create(session, limit)),
      repeated: request?.record ?? new Uint8Array(),
    }));
    await refused(sessions.create({ ...asked, requestId: "request-2" }), "SESSION_UNREADABLE");
  });

  test("leaves neither content, nor its hash, nor the token's secret in the store's record", async () => {
    const createOnce = vi.spyOn(store, "createOnce");
    const canary = "canary-51c2";
    const { token } = await sessions.create({
      ...asked,
      userId: "dora",
      displayName: canary,
      roles: [canary],
      data: { [canary]: canary },
    });
    const [request] = createOnce.mock.calls[0] ?? [];
    const context = Buffer.from(`request\0${request?.key}`);
    const record = Buffer.from(request?.record ?? []);
    const opened = Buffer.from(keyring.unseal(record, context)).toString();
    const secret = Buffer.from(parseSessionToken(token)?.secret ?? []).toString("base64url");
    const [fingerprint = "", kept] = JSON.parse(opened);
    expect(kept).toBe(secret);
    expect(fingerprint).toMatch(/^[\w-]{43}$/);

    const stored = `${request?.key}|${record.toString("latin1")}|${record.toString("base64url")}`;
    expect(stored).toContain("request-1");
    for (const hidden of [canary, "dora", "shop", secret, fingerprint, token.slice(4, 40)]) {
      expect(stored.includes(hidden), hidden).toBe(false);
    }
  });
});
