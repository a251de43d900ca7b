import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { SessiondError } from "../errors.js";
import { SqliteSessionStore } from "../sqlite/index.js";
import { FakeClock } from "../testing/contract/fake-clock.js";
import type { CreateSession } from "./create-request.js";
import { Keyring } from "./keyring.js";
import type { ListSessions } from "./list-sessions.js";
import { type ResealedPage, resealSessions } from "./reseal-sessions.js";
import type { JsonObject, Session } from "./session.js";
import { generateSessionId, partitionOfUser } from "./session-id.js";
import type { SessionStore } from "./session-store.js";
import { formatSessionToken, generateSecret, parseSessionToken } from "./session-token.js";
import { DEFAULT_SESSION_POLICY, type SessionPolicy, Sessions } from "./sessions.js";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

let clock: FakeClock;
let store: SqliteSessionStore;
let key: string;
let keyring: Keyring;
let sessions: Sessions;

beforeEach(async () => {
  clock = new FakeClock();
  store = await SqliteSessionStore.open({ path: ":memory:", now: clock.now });
  key = Keyring.generateKey("k1");
  keyring = Keyring.parse(key);
  sessions = new Sessions({ store, keyring });
});
afterEach(() => store.close());

/** Sessions on the same store with another policy. */
function withPolicy(policy: Partial<SessionPolicy>): Sessions {
  return new Sessions({ store, keyring, policy });
}

function create(input: Partial<CreateSession> = {}) {
  return sessions.create({ userId: "ann", ...input });
}

/** What every call answers that finds no session, whatever the cause. */
const NOT_FOUND = { reason: "SESSION_NOT_FOUND", message: "session not found", metadata: {} };

function invalid(field: string) {
  return { reason: "INVALID_ARGUMENT", metadata: { field } };
}

/** Makes a session's record unreadable, as losing its key would. */
async function createUnreadable(input: Partial<CreateSession> = {}) {
  const otherKeyring = Keyring.parse(Keyring.generateKey("lost"));
  return new Sessions({ store, keyring: otherKeyring }).create({ userId: "ann", ...input });
}

/** The sealed record of an active session. */
async function recordOf(id: string): Promise<Uint8Array> {
  const page = await store.list({
    showExpired: false,
    showRevoked: false,
    order: "asc",
    limit: 100,
  });
  const record = page.sessions.find((session) => session.id === id)?.record;
  if (record === undefined) throw new Error(`there is no session ${id}`);
  return record;
}

function idsOf(found: readonly Session[]): string[] {
  return found.map(({ id }) => id);
}

describe("creating a session", () => {
  test("answers the session with what was given, and a token that proves it", async () => {
    const content = {
      displayName: "Ann \u{1f600}",
      roles: ["admin", "user"],
      client: { ip: "2001:db8::1", userAgent: "curl/8", device: "laptop" },
      data: { theme: "dark", cart: { items: [1, 2.5, null] } },
    };
    const { session, token, evictedSessionIds } = await create(content);
    expect(session).toMatchObject({ userId: "ann", state: "active", version: 1, ...content });
    expect(evictedSessionIds).toEqual([]);
    expect(await sessions.verify(token)).toEqual(session);
    expect(await sessions.get(session.id)).toEqual(session);
  });

  test("leaves empty what was not given", async () => {
    const { session } = await create({ client: { ip: "203.0.113.7" } });
    expect(session).toMatchObject({
      displayName: "",
      roles: [],
      client: { ip: "203.0.113.7", userAgent: "", device: "" },
      data: {},
    });
  });

  test("makes an id in the user's partition, and another token each time", async () => {
    const [first, second] = [await create(), await create()];
    expect(first.session.id).toMatch(/^[0-9a-f]{64}$/);
    expect(first.session.id.slice(0, 2)).toBe(partitionOfUser("ann"));
    expect(first.session.id).not.toBe(second.session.id);
    expect(parseSessionToken(first.token)?.sessionId).toBe(first.session.id);
    expect(parseSessionToken(first.token)?.secret).not.toEqual(
      parseSessionToken(second.token)?.secret,
    );
  });

  test("gives it 30 minutes idle and 24 hours in all unless told otherwise", async () => {
    const { session } = await create();
    expect(session.createTimeMs).toBe(clock.now());
    expect(session.expireTimeMs).toBe(clock.now() + 30 * MINUTE_MS);
    expect(session.absoluteExpireTimeMs).toBe(clock.now() + DAY_MS);

    const own = await create({ idleTimeoutMs: 1, lifetimeMs: 900_000 });
    expect(own.session.expireTimeMs).toBe(clock.now() + 1);
    expect(own.session.absoluteExpireTimeMs).toBe(clock.now() + 900_000);

    const policy = { idleTimeoutMs: 5_000, lifetimeMs: 7_000 };
    const other = await withPolicy(policy).create({ userId: "bob" });
    expect(other.session.expireTimeMs).toBe(clock.now() + 5_000);
    expect(other.session.absoluteExpireTimeMs).toBe(clock.now() + 7_000);
  });

  test("refuses timeouts beyond the server's maximum, and zero is not unset", async () => {
    const strict = withPolicy({ maxLifetimeMs: DAY_MS });
    const most = { idleTimeoutMs: DAY_MS, lifetimeMs: DAY_MS };
    await strict.create({ userId: "ann", ...most });
    for (const ms of [DAY_MS + 1, 0, -1, 0.5, Number.NaN]) {
      const idle = strict.create({ userId: "ann", idleTimeoutMs: ms });
      await expect(idle).rejects.toMatchObject(invalid("idle_timeout"));
      const lifetime = strict.create({ userId: "ann", lifetimeMs: ms });
      await expect(lifetime).rejects.toMatchObject(invalid("lifetime"));
    }
  });

  test("takes an id that the caller has chosen, once", async () => {
    const { session, token } = await create({ sessionId: "jti-1" });
    expect(session.id).toBe("jti-1");
    expect((await sessions.verify(token)).id).toBe("jti-1");
    for (const userId of ["ann", "bob"]) {
      const again = sessions.create({ userId, sessionId: "jti-1" });
      await expect(again).rejects.toMatchObject({ reason: "SESSION_ALREADY_EXISTS" });
    }
  });

  test.each<[string, Partial<CreateSession>]>([
    ["user_id", { userId: "" }],
    ["user_id", { userId: "a\nb" }],
    ["session_id", { sessionId: "" }],
    ["session_id", { sessionId: generateSessionId("00") }],
    ["session_id", { sessionId: "sst_jti-1" }],
    ["display_name", { displayName: "x".repeat(257) }],
    ["roles[1]", { roles: ["a", ""] }],
    ["client.ip", { client: { ip: "here" } }],
    ["data", { data: { a: "x".repeat(17 * 1024) } }],
  ])("names the field %s when it is at fault, and creates nothing", async (field, input) => {
    await expect(create(input)).rejects.toMatchObject(invalid(field));
    expect(await sessions.count()).toBe(0);
  });

  test("takes all the data that is allowed", async () => {
    const data = { a: "x".repeat(16 * 1024 - '{"a":""}'.length) };
    const { session } = await create({ data });
    expect((await sessions.get(session.id)).data).toEqual(data);
  });

  test("evicts the oldest of more than ten sessions and says which", async () => {
    const first = await create();
    for (let i = 0; i < 9; i++) {
      clock.advance(1);
      expect((await create()).evictedSessionIds).toEqual([]);
    }
    clock.advance(1);
    expect((await create()).evictedSessionIds).toEqual([first.session.id]);
    await expect(sessions.verify(first.token)).rejects.toMatchObject(NOT_FOUND);
    expect(await sessions.count("ann")).toBe(10);
  });

  test("refuses one session too many under the policy reject", async () => {
    const strict = withPolicy({ maxSessionsPerUser: 1, policy: "reject" });
    const { token } = await strict.create({ userId: "ann" });
    const tooMany = strict.create({ userId: "ann" });
    await expect(tooMany).rejects.toMatchObject({ reason: "SESSION_LIMIT_REACHED" });
    expect(await strict.verify(token)).toBeDefined();
    expect(DEFAULT_SESSION_POLICY.maxSessionsPerUser).toBe(10);
  });

  test("keeps a key named __proto__ as data, and pollutes nothing", async () => {
    const data: JsonObject = JSON.parse('{"__proto__": {"admin": true}, "a": 1}');
    const { session } = await create({ data });
    const found = await sessions.get(session.id);
    expect(JSON.stringify(found.data)).toBe('{"__proto__":{"admin":true},"a":1}');
    expect(found.data["admin"]).toBeUndefined();
    expect(({} as JsonObject)["admin"]).toBeUndefined();
  });
});

describe("a request to create that is repeated", () => {
  const REUSED = { reason: "REQUEST_ID_REUSED" };
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

  test("answers the same session and the same token, and creates no second", async () => {
    const first = await sessions.create(asked);
    clock.advance(MINUTE_MS - 1);
    expect(await sessions.create(asked)).toEqual(first);
    expect(await sessions.count()).toBe(1);
    expect(await sessions.verify(first.token, { touch: false })).toEqual(first.session);
  });

  test("answers the ids that the first evicted, and evicts no more", async () => {
    const evicting = withPolicy({ maxSessionsPerUser: 2 });
    const ids: string[] = [];
    for (let i = 0; i < 2; i++) {
      ids.push((await evicting.create({ userId: "ann" })).session.id);
      clock.advance(1);
    }
    const first = await evicting.create(asked);
    expect(first.evictedSessionIds).toEqual([ids[0]]);
    expect(await evicting.create(asked)).toEqual(first);
    expect(await evicting.count("ann")).toBe(2);
  });

  test("answers the session as it is now: updated, expired, revoked", async () => {
    const { session, token } = await sessions.create(asked);
    const updated = await sessions.update(session.id, { displayName: "Ann B." });
    expect((await sessions.create(asked)).session).toEqual(updated);
    await sessions.revoke({ token }, "logout");
    const repeated = await sessions.create(asked);
    expect(repeated).toMatchObject({
      token,
      session: { state: "revoked", revokeReason: "logout" },
    });

    const brief = { ...asked, requestId: "request-2", idleTimeoutMs: 1 };
    await sessions.create(brief);
    clock.advance(1);
    expect((await sessions.create(brief)).session.state).toBe("expired");
    expect(await sessions.count()).toBe(0);
  });

  test("is the same however its keys are ordered, and whether what is empty is left out", async () => {
    const first = await sessions.create(asked);
    const reordered = {
      ...asked,
      data: { cart: { total: 2, items: [1, 2.5, null] }, theme: "dark" },
      client: { device: "", userAgent: "", ip: "203.0.113.7" },
    };
    expect(await sessions.create(reordered)).toEqual(first);
  });

  test("is the same though the server's defaults have changed", async () => {
    const { idleTimeoutMs: _, ...plain } = asked;
    const first = await sessions.create(plain);
    expect(await withPolicy({ idleTimeoutMs: 5_000 }).create(plain)).toEqual(first);
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
    await expect(sessions.create({ ...asked, ...other })).rejects.toMatchObject(REUSED);
    expect(await sessions.count()).toBe(1);
    expect((await sessions.verify(token)).displayName).toBe(session.displayName);
  });

  test("for a user of the same partition is refused like any other", async () => {
    const partition = partitionOfUser("ann");
    let neighbour = 0;
    while (partitionOfUser(`user-${neighbour}`) !== partition) neighbour++;
    await sessions.create(asked);
    const other = sessions.create({ ...asked, userId: `user-${neighbour}` });
    await expect(other).rejects.toMatchObject(REUSED);
    expect(await sessions.count()).toBe(1);
  });

  test("by another caller is another request", async () => {
    const first = await sessions.create(asked);
    for (const caller of ["blog", "", undefined]) {
      const { caller: _, ...anonymous } = asked;
      const other = await sessions.create(caller === undefined ? anonymous : { ...asked, caller });
      expect(other.session.id === first.session.id).toBe(false);
      expect(other.token).not.toBe(first.token);
    }
    // Nobody in particular is one caller, however it is said.
    expect(await sessions.count()).toBe(3);
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

  test("finds no session where that is gone for good, and makes no new one", async () => {
    await store.close();
    store = await SqliteSessionStore.open({ path: ":memory:", now: clock.now, retentionMs: 1_000 });
    sessions = new Sessions({ store, keyring });
    await sessions.create(asked);
    clock.advance(2 * MINUTE_MS);
    expect(await store.sweep(100)).toMatchObject({ reclaimed: 1 });
    await expect(sessions.create(asked)).rejects.toMatchObject(NOT_FOUND);
    const other = sessions.create({ ...asked, displayName: "Bob" });
    await expect(other).rejects.toMatchObject(REUSED);
    expect(await sessions.count()).toBe(0);
  });

  test("is recognised under a rotated key, and unreadable once its key is gone", async () => {
    const first = await sessions.create(asked);
    const newKey = Keyring.generateKey("k2");
    const rotated = new Sessions({ store, keyring: Keyring.parse(`${newKey},${key}`) });
    expect(await rotated.create(asked)).toEqual(first);
    const dropped = new Sessions({ store, keyring: Keyring.parse(newKey) });
    await expect(dropped.create(asked)).rejects.toMatchObject({
      reason: "SESSION_UNREADABLE",
      metadata: { key_id: "k1" },
    });
    expect(await sessions.count()).toBe(1);
  });

  test("is not answered from the record of another request", async () => {
    const createOnce = vi.spyOn(store, "createOnce");
    await sessions.create(asked);
    const [request] = createOnce.mock.calls[0] ?? [];
    const other = { ...asked, requestId: "request-2" };
    createOnce.mockImplementationOnce(async (_, session, limit) => ({
      ...(await store.create(session, limit)),
      repeated: request?.record ?? new Uint8Array(),
    }));
    await expect(sessions.create(other)).rejects.toMatchObject({ reason: "SESSION_UNREADABLE" });
  });

  test("answers one session to a hundred at once", async () => {
    const answers = await Promise.all(Array.from({ length: 100 }, () => sessions.create(asked)));
    expect(new Set(answers.map(({ token }) => token)).size).toBe(1);
    expect(await sessions.count()).toBe(1);
  });

  test("was not made when it failed, so that it may be corrected", async () => {
    const strict = withPolicy({ maxSessionsPerUser: 1, policy: "reject" });
    const { token } = await strict.create({ userId: "ann" });
    await expect(strict.create(asked)).rejects.toMatchObject({ reason: "SESSION_LIMIT_REACHED" });
    await strict.revoke({ token });
    expect((await strict.create({ ...asked, displayName: "Bob" })).session.displayName).toBe("Bob");
  });

  test.each(["", "a b", "x".repeat(129), "a\n", "a/b", "\u00e9"])(
    'under the id "%s" is refused, naming request_id',
    async (requestId) => {
      const refused = sessions.create({ ...asked, requestId });
      await expect(refused).rejects.toMatchObject(invalid("request_id"));
      expect(await sessions.count()).toBe(0);
    },
  );

  test("may have any allowed id, by a caller of any name", async () => {
    const caller = "https://issuer.example/\0\u{1f600} ".repeat(100);
    for (const requestId of ["x".repeat(128), "A.b_c~d:e@f-9", "f".repeat(64)]) {
      const first = await sessions.create({ ...asked, caller, requestId });
      expect(await sessions.create({ ...asked, caller, requestId })).toEqual(first);
    }
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

test("neither content nor secrets are in the store's files", async () => {
  const dir = await mkdtemp(join(tmpdir(), "sessiond-"));
  const onDisk = await SqliteSessionStore.open({ path: join(dir, "sessions.db") });
  const sealed = new Sessions({ store: onDisk, keyring });
  const canary = "canary-8d1f";
  const { session, token } = await sealed.create({
    userId: "ann",
    displayName: canary,
    roles: [canary],
    client: { ip: "203.0.113.77", userAgent: canary, device: canary },
    data: { [canary]: canary },
  });
  await sealed.update(session.id, { displayName: `${canary} again` });
  const rotated = await sealed.rotateToken(token);
  await sealed.revoke({ token: rotated.token });

  const secrets = [token, rotated.token].map((text) => parseSessionToken(text)?.secret);
  let searched = 0;
  for (const file of await readdir(dir)) {
    const bytes = await readFile(join(dir, file));
    searched += bytes.length;
    for (const text of [canary, "203.0.113.77", token.slice(4, 40), rotated.token.slice(4, 40)]) {
      expect(bytes.includes(text), `${text} in ${file}`).toBe(false);
    }
    for (const secret of secrets) {
      expect(bytes.includes(Buffer.from(secret ?? []))).toBe(false);
      expect(bytes.includes(Buffer.from(secret ?? []).toString("hex"))).toBe(false);
    }
  }
  expect(searched).toBeGreaterThan(10_000);
  await onDisk.close();
  await rm(dir, { recursive: true });
});

describe("verifying a token", () => {
  test("says the same of a missing, expired, revoked, wrong or malformed one", async () => {
    const expired = await create({ idleTimeoutMs: 1 });
    clock.advance(1);
    const revoked = await create();
    await sessions.revoke({ token: revoked.token });
    const active = await create();
    const { id } = active.session;
    const rotated = await sessions.rotateToken(active.token);
    const missing = generateSessionId("00");
    const secret = parseSessionToken(rotated.token)?.secret ?? generateSecret();
    const tokens = [
      expired.token,
      revoked.token,
      active.token,
      formatSessionToken({ partition: id.slice(0, 2), sessionId: id, secret: generateSecret() }),
      formatSessionToken({ partition: "00", sessionId: missing, secret }),
      formatSessionToken({ partition: "00", sessionId: "no-such-jti", secret }),
      `${rotated.token}A`,
      "sst_",
      "garbage",
      id,
    ];
    for (const token of tokens) {
      const failure = await sessions.verify(token).catch((error: unknown) => error);
      expect(failure, token).toMatchObject(NOT_FOUND);
      expect(failure, token).not.toHaveProperty("cause");
    }
    expect((await sessions.verify(rotated.token)).id).toBe(id);
  });

  test("needs a token", async () => {
    await expect(sessions.verify("")).rejects.toMatchObject(invalid("token"));
  });

  test("of a chosen id does not work in another partition", async () => {
    const { session, token } = await create({ sessionId: "jti-1" });
    const parsed = parseSessionToken(token);
    if (parsed === undefined) throw new Error("expected a token");
    const partition = parsed.partition === "00" ? "01" : "00";
    const moved = formatSessionToken({ ...parsed, partition });
    await expect(sessions.verify(moved)).rejects.toMatchObject(NOT_FOUND);
    expect((await sessions.verify(token)).id).toBe(session.id);
  });

  test("counts as activity once a tenth of the idle timeout has passed", async () => {
    const { session, token } = await create({ idleTimeoutMs: 10_000 });
    clock.advance(999);
    const hot = await sessions.verify(token);
    expect(hot.lastAccessTimeMs).toBe(session.lastAccessTimeMs);
    expect(hot.expireTimeMs).toBe(session.expireTimeMs);
    clock.advance(1);
    const touched = await sessions.verify(token);
    expect(touched.lastAccessTimeMs).toBe(clock.now());
    expect(touched.expireTimeMs).toBe(clock.now() + 10_000);
    expect(touched.etag).toBe(session.etag);
  });

  test("writes nothing as long as less than a tenth has passed", async () => {
    const { token } = await create({ idleTimeoutMs: 10_000 });
    const touch = vi.spyOn(store, "touch");
    clock.advance(999);
    for (let i = 0; i < 10; i++) await sessions.verify(token);
    expect(touch).not.toHaveBeenCalled();
    clock.advance(1);
    for (let i = 0; i < 10; i++) await sessions.verify(token);
    expect(touch).toHaveBeenCalledTimes(1);
  });

  test("does not count as activity when asked not to", async () => {
    const { session, token } = await create({ idleTimeoutMs: 10_000 });
    clock.advance(9_999);
    const seen = await sessions.verify(token, { touch: false });
    expect(seen.lastAccessTimeMs).toBe(session.lastAccessTimeMs);
    clock.advance(1);
    await expect(sessions.verify(token)).rejects.toMatchObject(NOT_FOUND);
  });

  test("keeps a session in use alive until its absolute deadline, and not at it", async () => {
    const { session, token } = await create({ idleTimeoutMs: 10_000, lifetimeMs: 25_000 });
    clock.advance(9_999);
    await sessions.verify(token);
    clock.advance(9_999);
    expect((await sessions.verify(token)).expireTimeMs).toBe(session.absoluteExpireTimeMs);
    clock.advanceTo(session.absoluteExpireTimeMs - 1);
    await sessions.verify(token);
    clock.advance(1);
    await expect(sessions.verify(token)).rejects.toMatchObject(NOT_FOUND);
  });

  test("fails where the session is revoked between its reading and its touching", async () => {
    const { session, token } = await create({ idleTimeoutMs: 10_000 });
    clock.advance(5_000);
    const get = store.get.bind(store);
    vi.spyOn(store, "get").mockImplementationOnce(async (key) => {
      const found = await get(key);
      await store.revoke(key, "in between");
      return found;
    });
    await expect(sessions.verify(token)).rejects.toMatchObject(NOT_FOUND);
    await expect(sessions.get(session.id)).rejects.toMatchObject(NOT_FOUND);
  });

  test("fails where the token is rotated between the session's reading and its touching", async () => {
    const { token } = await create({ idleTimeoutMs: 10_000 });
    clock.advance(5_000);
    const get = store.get.bind(store);
    vi.spyOn(store, "get").mockImplementationOnce(async (key) => {
      const found = await get(key);
      await sessions.rotateToken(token);
      return found;
    });
    await expect(sessions.verify(token)).rejects.toMatchObject(NOT_FOUND);
  });

  test("fails where the record is that of another session", async () => {
    const [ann, other] = [await create({ displayName: "Ann" }), await create()];
    const bob = await create({ userId: "bob" });
    const record = await recordOf(ann.session.id);
    for (const { session, token } of [other, bob]) {
      const key = { id: session.id, partition: session.id.slice(0, 2) };
      await store.replaceRecord(key, 1, record);
      const verified = sessions.verify(token);
      await expect(verified).rejects.toMatchObject({ reason: "SESSION_UNREADABLE" });
    }
    expect((await sessions.verify(ann.token)).displayName).toBe("Ann");
  });

  test("fails where the record is that of another user's session of the same chosen id", async () => {
    await create({ sessionId: "jti-1", idleTimeoutMs: 1 });
    const record = await recordOf("jti-1");
    clock.advance(HOUR_MS);
    await store.sweep(10);
    const bob = await create({ userId: "bob", sessionId: "jti-1" });
    await store.replaceRecord({ id: "jti-1", partition: partitionOfUser("bob") }, 1, record);
    const verified = sessions.verify(bob.token);
    await expect(verified).rejects.toMatchObject({ reason: "SESSION_UNREADABLE" });
  });

  test("says so where the record cannot be read, and names the key that is missing", async () => {
    const { token } = await createUnreadable();
    await expect(sessions.verify(token)).rejects.toMatchObject({
      reason: "SESSION_UNREADABLE",
      metadata: { key_id: "lost" },
    });
  });
});

describe("verifying many tokens", () => {
  test("answers in their order, an error in the place of each that fails", async () => {
    const [ann, bob] = [await create(), await create({ userId: "bob", sessionId: "jti-1" })];
    const revoked = await create();
    await sessions.revoke({ token: revoked.token });
    const unreadable = await createUnreadable();
    const parsed = parseSessionToken(ann.token);
    if (parsed === undefined) throw new Error("expected a token");
    const results = await sessions.verifyMany([
      bob.token,
      formatSessionToken({ ...parsed, secret: generateSecret() }),
      ann.token,
      revoked.token,
      "",
      unreadable.token,
      bob.token,
    ]);
    expect(results).toMatchObject([
      { id: "jti-1" },
      NOT_FOUND,
      { id: ann.session.id },
      NOT_FOUND,
      invalid("token"),
      { reason: "SESSION_UNREADABLE" },
      { id: "jti-1" },
    ]);
    expect(results.filter((result) => result instanceof SessiondError)).toHaveLength(4);
  });

  test("counts as activity like verifying one, and not when asked not to", async () => {
    const { token } = await create({ idleTimeoutMs: 10_000 });
    clock.advance(5_000);
    const [untouched] = await sessions.verifyMany([token], { touch: false });
    expect(untouched).toMatchObject({ lastAccessTimeMs: clock.now() - 5_000 });
    const [touched] = await sessions.verifyMany([token]);
    expect(touched).toMatchObject({ lastAccessTimeMs: clock.now() });
  });

  test("takes 1 to 1000 tokens", async () => {
    const { token } = await create();
    await expect(sessions.verifyMany([])).rejects.toMatchObject(invalid("tokens"));
    const tooMany = sessions.verifyMany(Array(1_001).fill(token));
    await expect(tooMany).rejects.toMatchObject(invalid("tokens"));
    const most = await sessions.verifyMany(Array(1_000).fill(token));
    expect(new Set(most.map((result) => "id" in result && result.id)).size).toBe(1);
    expect(await sessions.verifyMany(["garbage"])).toMatchObject([NOT_FOUND]);
  });
});

describe("getting a session", () => {
  test("works by a generated or a chosen id, with and without its user", async () => {
    for (const input of [{}, { sessionId: "jti-1" }]) {
      const { session } = await create(input);
      expect(await sessions.get(session.id)).toEqual(session);
      expect(await sessions.get(session.id, { userId: "ann" })).toEqual(session);
    }
  });

  test("does not find another user's session", async () => {
    for (const input of [{}, { sessionId: "jti-1" }]) {
      const { session } = await create(input);
      const asBob = sessions.get(session.id, { userId: "bob" });
      await expect(asBob).rejects.toMatchObject(NOT_FOUND);
    }
  });

  test("is no activity", async () => {
    const { session } = await create({ idleTimeoutMs: 10_000 });
    clock.advance(9_999);
    expect((await sessions.get(session.id)).expireTimeMs).toBe(session.expireTimeMs);
    clock.advance(1);
    await expect(sessions.get(session.id)).rejects.toMatchObject(NOT_FOUND);
  });

  test("that does not exist, or whose id none can have, fails accordingly", async () => {
    for (const id of [generateSessionId("00"), "no-such-jti"]) {
      await expect(sessions.get(id)).rejects.toMatchObject(NOT_FOUND);
    }
    for (const id of ["", "a b", "A".repeat(64), "x".repeat(129)]) {
      await expect(sessions.get(id)).rejects.toMatchObject(invalid("session_id"));
    }
    const noUser = sessions.get("jti-1", { userId: "" });
    await expect(noUser).rejects.toMatchObject(invalid("user_id"));
  });

  test("in a batch answers in order, an error in the place of each that fails", async () => {
    const ann = await create();
    const bob = await create({ userId: "bob", sessionId: "jti-1" });
    const unreadable = await createUnreadable();
    const results = await sessions.getMany([
      "jti-1",
      generateSessionId("00"),
      "not an id",
      ann.session.id,
      "no-such-jti",
      unreadable.session.id,
      "jti-1",
    ]);
    expect(results).toMatchObject([
      bob.session,
      NOT_FOUND,
      invalid("session_id"),
      ann.session,
      NOT_FOUND,
      { reason: "SESSION_UNREADABLE" },
      bob.session,
    ]);
  });

  test("in a batch takes 1 to 1000 ids", async () => {
    await expect(sessions.getMany([])).rejects.toMatchObject(invalid("session_ids"));
    const tooMany = sessions.getMany(Array(1_001).fill("a"));
    await expect(tooMany).rejects.toMatchObject(invalid("session_ids"));
    expect(await sessions.getMany(Array(1_000).fill("a"))).toHaveLength(1_000);
  });
});

describe("listing sessions", () => {
  /** All pages of a list, one after the other. */
  async function listAll(request: ListSessions): Promise<Session[]> {
    const all: Session[] = [];
    let pageToken: string | undefined;
    do {
      const page = await sessions.list({ ...request, ...(pageToken && { pageToken }) });
      all.push(...page.sessions);
      pageToken = page.nextPageToken;
    } while (pageToken !== undefined);
    return all;
  }

  /** Creates sessions a millisecond apart, the inputs by turns, and answers them newest first. */
  async function createMany(count: number, inputs: readonly Partial<CreateSession>[]) {
    const many = withPolicy({ maxSessionsPerUser: 10_000 });
    const created: Session[] = [];
    for (let i = 0; i < count; i++) {
      const input = { userId: "ann", ...inputs[i % inputs.length] };
      created.unshift((await many.create(input)).session);
      clock.advance(1);
    }
    return created;
  }

  test("shows the active ones, newest first, 50 to a page", async () => {
    const created = await createMany(60, [{}]);
    const page = await sessions.list({});
    expect(idsOf(page.sessions)).toEqual(idsOf(created.slice(0, 50)));
    expect(page.nextPageToken).toBeDefined();
    expect(page.unreadableSessionIds).toEqual([]);
    const zero = await sessions.list({ pageSize: 0 });
    expect(zero.sessions).toHaveLength(50);
    expect(idsOf(await listAll({}))).toEqual(idsOf(created));
    expect(idsOf(await listAll({ order: "asc" }))).toEqual(idsOf(created.toReversed()));
  });

  test("says nothing of a next page on the last one", async () => {
    await createMany(4, [{}]);
    for (const request of [{}, { lastAccessTimeFromMs: 0 }]) {
      const exact = await sessions.list({ ...request, pageSize: 4 });
      expect(exact.sessions).toHaveLength(4);
      expect(exact.nextPageToken).toBeUndefined();
      const first = await sessions.list({ ...request, pageSize: 2 });
      const second = await sessions.list({
        ...request,
        pageSize: 2,
        pageToken: first.nextPageToken ?? "",
      });
      expect(second.sessions).toHaveLength(2);
      expect(second.nextPageToken).toBeUndefined();
    }
  });

  test("shows one user's sessions, or everybody's", async () => {
    const created = await createMany(6, [{ userId: "ann" }, { userId: "bob" }]);
    const bobs = created.filter(({ userId }) => userId === "bob");
    expect(idsOf(await listAll({ userId: "bob" }))).toEqual(idsOf(bobs));
    expect(await listAll({ userId: "carol" })).toEqual([]);
    expect(await listAll({})).toHaveLength(6);
  });

  test("shows expired and revoked ones when asked to, and says which they are", async () => {
    const [active, expired, revoked] = [
      await create(),
      await create({ idleTimeoutMs: 10 }),
      await create(),
    ];
    await sessions.revoke({ sessionId: revoked.session.id }, "logout");
    clock.advance(10);
    const states = async (request: ListSessions) =>
      new Map((await listAll(request)).map(({ id, state }) => [id, state]));
    const isActive = [active.session.id, "active"] as const;
    const isExpired = [expired.session.id, "expired"] as const;
    const isRevoked = [revoked.session.id, "revoked"] as const;
    expect(await states({})).toEqual(new Map([isActive]));
    expect(await states({ showExpired: true })).toEqual(new Map([isActive, isExpired]));
    expect(await states({ showRevoked: true })).toEqual(new Map([isActive, isRevoked]));
    const all = await listAll({ showExpired: true, showRevoked: true });
    expect(new Map(all.map(({ id, state }) => [id, state]))).toEqual(
      new Map([isActive, isExpired, isRevoked]),
    );
    expect(all.find(({ id }) => id === revoked.session.id)).toMatchObject({
      revokeReason: "logout",
      revokeTimeMs: clock.now() - 10,
    });
  });

  test("filters by role and by address", async () => {
    await createMany(6, [
      { roles: ["admin", "user"], client: { ip: "203.0.113.7" } },
      { roles: ["administrator"], client: { ip: "203.0.113.70" } },
      { roles: ["user"] },
    ]);
    const rolesOf = async (request: ListSessions) =>
      (await listAll(request)).map(({ roles }) => roles.join());
    expect(await rolesOf({ role: "admin" })).toEqual(["admin,user", "admin,user"]);
    expect(await rolesOf({ role: "user" })).toHaveLength(4);
    expect(await rolesOf({ role: "nobody" })).toEqual([]);
    expect(await rolesOf({ ip: "203.0.113.7" })).toEqual(["admin,user", "admin,user"]);
    expect(await rolesOf({ ip: "203.0.113.70", role: "admin" })).toEqual([]);
  });

  test("filters by ranges of time, from their start up to their end", async () => {
    const created = (await createMany(3, [{}])).toReversed();
    const [first, second, third] = idsOf(created);
    const startMs = created[0]?.createTimeMs ?? 0;
    const list = async (request: ListSessions) =>
      idsOf(await listAll({ order: "asc", ...request }));
    expect(await list({ createTimeFromMs: startMs + 1 })).toEqual([second, third]);
    expect(await list({ createTimeToMs: startMs + 2 })).toEqual([first, second]);
    clock.advance(HOUR_MS / 6);
    await sessions.refresh({ sessionId: second ?? "" });
    const nowMs = clock.now();
    expect(await list({ lastAccessTimeFromMs: nowMs })).toEqual([second]);
    expect(await list({ lastAccessTimeFromMs: nowMs + 1 })).toEqual([]);
    expect(await list({ lastAccessTimeToMs: nowMs })).toEqual([first, third]);
    expect(await list({ lastAccessTimeToMs: nowMs + 1 })).toEqual([first, second, third]);
  });

  test("covers everything that matches exactly once, whatever the page size", async () => {
    const created = await createMany(1_201, [
      { roles: ["a"] },
      { roles: ["b"] },
      { roles: ["a", "b"] },
      { roles: [], userId: "bob" },
    ]);
    const requests = fc.record({
      role: fc.constantFrom(undefined, "a", "b"),
      userId: fc.constantFrom(undefined, "ann"),
      order: fc.constantFrom("asc" as const, "desc" as const),
      pageSize: fc.oneof(
        fc.integer({ min: 50, max: 1_000 }),
        fc.constantFrom(1_000, 500, 600, 601),
      ),
    });
    const property = fc.asyncProperty(requests, async ({ role, userId, order, pageSize }) => {
      const matching = created.filter(
        (session) =>
          (role === undefined || session.roles.includes(role)) &&
          (userId === undefined || session.userId === userId),
      );
      const listed = await listAll({
        order,
        pageSize,
        ...(role && { role }),
        ...(userId && { userId }),
      });
      expect(idsOf(listed)).toEqual(idsOf(order === "desc" ? matching : matching.toReversed()));
    });
    await fc.assert(property, { numRuns: 15 });
  });

  test("ends a page early when it has looked at thousands in vain, and goes on from there", async () => {
    await createMany(1, [{ roles: ["rare"] }]);
    await createMany(5_001, [{}]);
    const first = await sessions.list({ role: "rare" });
    expect(first.sessions).toEqual([]);
    expect(first.nextPageToken).toBeDefined();
    const second = await sessions.list({ role: "rare", pageToken: first.nextPageToken ?? "" });
    expect(second.sessions).toHaveLength(1);
    expect(second.nextPageToken).toBeUndefined();
  });

  test("names unreadable sessions in their turn, and lists the others", async () => {
    const before = await create();
    clock.advance(1);
    const unreadable = await createUnreadable();
    clock.advance(1);
    const after = await create();
    const all = await sessions.list({ order: "asc" });
    expect(idsOf(all.sessions)).toEqual([before.session.id, after.session.id]);
    expect(all.unreadableSessionIds).toEqual([unreadable.session.id]);
    expect(all.nextPageToken).toBeUndefined();

    const first = await sessions.list({ order: "asc", pageSize: 2 });
    expect(idsOf(first.sessions)).toEqual([before.session.id]);
    expect(first.unreadableSessionIds).toEqual([unreadable.session.id]);
    const rest = await sessions.list({
      order: "asc",
      pageSize: 2,
      pageToken: first.nextPageToken ?? "",
    });
    expect(idsOf(rest.sessions)).toEqual([after.session.id]);
    expect(rest.unreadableSessionIds).toEqual([]);
    const filtered = await sessions.list({ role: "admin" });
    expect(filtered.unreadableSessionIds).toEqual([unreadable.session.id]);
  });

  test("refuses a page token of another query, and takes one with another page size", async () => {
    await createMany(5, [{}]);
    const { nextPageToken: pageToken = "" } = await sessions.list({ userId: "ann", pageSize: 2 });
    const others: ListSessions[] = [
      {},
      { userId: "bob" },
      { userId: "ann", order: "asc" },
      { userId: "ann", showRevoked: true },
      { userId: "ann", role: "admin" },
      { userId: "ann", createTimeFromMs: 1 },
    ];
    for (const other of others) {
      const page = sessions.list({ ...other, pageToken });
      await expect(page).rejects.toMatchObject(invalid("page_token"));
    }
    const rest = await sessions.list({ userId: "ann", pageSize: 1_000, pageToken });
    expect(rest.sessions).toHaveLength(3);
  });

  test("takes a page token however the query that it belongs to is put", async () => {
    await createMany(3, [{}]);
    const first = await sessions.list({ userId: "ann", createTimeFromMs: 1, pageSize: 1 });
    const pageToken = first.nextPageToken ?? "";
    const same = await sessions.list({
      createTimeFromMs: 1,
      userId: "ann",
      pageSize: 1,
      pageToken,
    });
    expect(same.sessions).toHaveLength(1);
  });

  test.each<[string, ListSessions]>([
    ["user_id", { userId: "" }],
    ["filter.role", { role: "x".repeat(129) }],
    ["filter.ip", { ip: "here" }],
    ["page_size", { pageSize: -1 }],
    ["page_size", { pageSize: 1_001 }],
    ["page_size", { pageSize: 1.5 }],
    ["page_token", { pageToken: "garbage" }],
    ["page_token", { pageToken: "x".repeat(1_025) }],
  ])("names the field %s when it is at fault", async (field, request) => {
    await expect(sessions.list(request)).rejects.toMatchObject(invalid(field));
  });

  test("takes a page size of a thousand", async () => {
    await createMany(3, [{}]);
    expect((await sessions.list({ pageSize: 1_000 })).sessions).toHaveLength(3);
  });
});

test("counting counts the active sessions, of one user or of all", async () => {
  await create();
  await create({ userId: "bob", idleTimeoutMs: 10 });
  const revoked = await create();
  await sessions.revoke({ token: revoked.token });
  expect(await sessions.count()).toBe(2);
  expect(await sessions.count("ann")).toBe(1);
  clock.advance(9);
  expect(await sessions.count("bob")).toBe(1);
  clock.advance(1);
  expect(await sessions.count("bob")).toBe(0);
  await expect(sessions.count("")).rejects.toMatchObject(invalid("user_id"));
});

describe("updating a session", () => {
  test("changes what it names, adds a version, and is no activity", async () => {
    const { session } = await create({ displayName: "Ann", data: { a: 1, b: 2 } });
    clock.advance(100);
    const dataKeys = new Map([["b", 3]]);
    const updated = await sessions.update(session.id, { roles: ["admin"], dataKeys });
    expect(updated).toEqual({
      ...session,
      roles: ["admin"],
      data: { a: 1, b: 3 },
      version: 2,
      etag: updated.etag,
    });
    expect(updated.etag).not.toBe(session.etag);
    expect(await sessions.get(session.id)).toEqual(updated);
  });

  test("goes through at its etag and changes nothing at another", async () => {
    const { session, token } = await create({ displayName: "one" });
    const second = await sessions.update(
      session.id,
      { displayName: "two" },
      { etag: session.etag },
    );
    const late = sessions.update(session.id, { displayName: "three" }, { etag: session.etag });
    await expect(late).rejects.toMatchObject({ reason: "ETAG_MISMATCH" });
    for (const etag of ["", "garbage"]) {
      const guess = sessions.update(session.id, { displayName: "three" }, { etag });
      await expect(guess).rejects.toMatchObject({ reason: "ETAG_MISMATCH" });
    }
    expect(await sessions.get(session.id)).toEqual(second);

    clock.advance(HOUR_MS / 4);
    await sessions.verify(token);
    const { etag } = second;
    await sessions.update(session.id, { displayName: "three" }, { etag });
    expect((await sessions.get(session.id)).displayName).toBe("three");
  });

  test("by a holder of a lock is refused once a later holder has updated the session", async () => {
    const { session } = await create({ displayName: "one" });
    const update = (displayName: string, token: number, lock = "profile") =>
      sessions.update(session.id, { displayName }, { fence: { lock, token } });
    await update("by the first", 1_000);
    await update("by the first again", 1_000);
    const second = await update("by the second", 1_001);
    await expect(update("by the first, late", 1_000)).rejects.toMatchObject({
      reason: "LOCK_NOT_HELD",
      message: "the lock is not held: a later holder has updated the session",
    });
    expect(await sessions.get(session.id)).toEqual(second);
    await update("under another lock", 1, "another");
    await sessions.update(session.id, { displayName: "under none" });
  });

  test("by a holder that collides with others starts over, but not once it is overtaken", async () => {
    const { session } = await create({ data: {} });
    const peer = withPolicy({});
    const tokens = Array.from({ length: 20 }, (_, i) => 1_000 + i);
    const outcomes = await Promise.allSettled(
      tokens.map((token, i) =>
        (i % 2 ? sessions : peer).update(
          session.id,
          { dataKeys: new Map([["by", token]]) },
          { fence: { lock: "profile", token } },
        ),
      ),
    );
    for (const outcome of outcomes) {
      if (outcome.status === "fulfilled") continue;
      expect(outcome.reason).toMatchObject({ reason: "LOCK_NOT_HELD" });
    }
    expect((await sessions.get(session.id)).data).toEqual({ by: 1_019 });
  });

  test("is fenced by what can be a lock's name and token, and by eight locks at most", async () => {
    const { session } = await create();
    const update = (lock: string, token: number) =>
      sessions.update(session.id, { displayName: "x" }, { fence: { lock, token } });
    await expect(update("", 1)).rejects.toMatchObject(invalid("fence.lock"));
    await expect(update("a\n", 1)).rejects.toMatchObject(invalid("fence.lock"));
    for (const token of [0, -1, 1.5, 2 ** 53, Number.NaN]) {
      await expect(update("a", token)).rejects.toMatchObject(invalid("fence.token"));
    }
    for (let i = 0; i < 8; i++) await update(`lock-${i}`, 1);
    await expect(update("one more", 1)).rejects.toMatchObject(invalid("fence.lock"));
  });

  test("at an etag that a rotation has made old is refused", async () => {
    const { session, token } = await create();
    await sessions.rotateToken(token);
    const late = sessions.update(session.id, { displayName: "x" }, { etag: session.etag });
    await expect(late).rejects.toMatchObject({ reason: "ETAG_MISMATCH" });
  });

  test("at the etag of an earlier session of the same chosen id is refused", async () => {
    const { session } = await create({ sessionId: "jti-1", idleTimeoutMs: 1 });
    clock.advance(HOUR_MS);
    await store.sweep(10);
    const next = await create({ sessionId: "jti-1" });
    expect(next.session.version).toBe(session.version);
    const late = sessions.update("jti-1", { displayName: "x" }, { etag: session.etag });
    await expect(late).rejects.toMatchObject({ reason: "ETAG_MISMATCH" });
  });

  test("a hundred times at once, each another key, keeps all of them", async () => {
    const { session } = await create({ data: { before: true } });
    await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        sessions.update(session.id, { dataKeys: new Map([[`key-${i}`, i]]) }),
      ),
    );
    const { data, version } = await sessions.get(session.id);
    const expected = Array.from({ length: 100 }, (_, i) => [`key-${i}`, i]);
    expect(data).toEqual({ before: true, ...Object.fromEntries(expected) });
    expect(version).toBe(101);
  });

  test("on several servers at once keeps every change", async () => {
    const { session } = await create();
    const servers = [sessions, withPolicy({}), withPolicy({}), withPolicy({})];
    await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        servers[i % 4]?.update(session.id, { dataKeys: new Map([[`key-${i}`, i]]) }),
      ),
    );
    const { data } = await sessions.get(session.id);
    expect(Object.keys(data)).toHaveLength(100);
  });

  test("at one etag, many times at once, succeeds once", async () => {
    const { session } = await create();
    const outcomes = await Promise.allSettled(
      Array.from({ length: 20 }, (_, i) =>
        sessions.update(session.id, { displayName: `${i}` }, { etag: session.etag }),
      ),
    );
    const winners = outcomes.filter((outcome) => outcome.status === "fulfilled");
    expect(winners).toHaveLength(1);
    expect((await sessions.get(session.id)).displayName).toBe(winners[0]?.value.displayName);
    expect((await sessions.get(session.id)).version).toBe(2);
  });

  test("gives up where others change the session each time before it can", async () => {
    const { session } = await create();
    const replaceRecord: SessionStore["replaceRecord"] = async () => "version_mismatch";
    vi.spyOn(store, "replaceRecord").mockImplementation(replaceRecord);
    const update = sessions.update(session.id, { displayName: "x" });
    await expect(update).rejects.toMatchObject({ reason: "OVERLOADED" });
  });

  test("finds only an active session, and only that of the user who is named", async () => {
    const { session } = await create({ sessionId: "jti-1" });
    const change = { displayName: "x" };
    const asBob = sessions.update("jti-1", change, { userId: "bob" });
    await expect(asBob).rejects.toMatchObject(NOT_FOUND);
    expect(await sessions.update("jti-1", {}, { userId: "ann" })).toMatchObject({ version: 2 });
    await sessions.revoke({ sessionId: session.id });
    await expect(sessions.update("jti-1", change)).rejects.toMatchObject(NOT_FOUND);
    const expired = await create({ idleTimeoutMs: 1 });
    clock.advance(1);
    const late = sessions.update(expired.session.id, change);
    await expect(late).rejects.toMatchObject(NOT_FOUND);
  });

  test("that is revoked in the middle does not bring the session back", async () => {
    const { session } = await create();
    const replace = store.replaceRecord.bind(store);
    vi.spyOn(store, "replaceRecord").mockImplementationOnce(async (key, version, record) => {
      await store.revoke(key, "in between");
      return replace(key, version, record);
    });
    const update = sessions.update(session.id, { displayName: "x" });
    await expect(update).rejects.toMatchObject(NOT_FOUND);
    await expect(sessions.get(session.id)).rejects.toMatchObject(NOT_FOUND);
  });

  test("beyond what a session can hold is refused and changes nothing", async () => {
    const { session } = await create({ data: { a: "x".repeat(10_000) } });
    const tooLarge = sessions.update(session.id, { dataKeys: new Map([["b", "x".repeat(7_000)]]) });
    await expect(tooLarge).rejects.toMatchObject(invalid("session.data"));
    const badName = sessions.update(session.id, { displayName: "x".repeat(257) });
    await expect(badName).rejects.toMatchObject(invalid("session.display_name"));
    const badEtag = sessions.update(session.id, {}, { etag: "x".repeat(65) });
    await expect(badEtag).rejects.toMatchObject(invalid("etag"));
    expect(await sessions.get(session.id)).toEqual(session);
  });

  test("sets a key named __proto__ as data", async () => {
    const { session } = await create();
    await sessions.update(session.id, { dataKeys: new Map([["__proto__", { admin: true }]]) });
    const { data } = await sessions.get(session.id);
    expect(JSON.stringify(data)).toBe('{"__proto__":{"admin":true}}');
    expect(data["admin"]).toBeUndefined();
  });

  test("seals anew under the active key", async () => {
    const { session } = await create({ displayName: "Ann" });
    const newKey = Keyring.generateKey("k2");
    const both = new Sessions({ store, keyring: Keyring.parse(`${newKey},${key}`) });
    await both.update(session.id, {});
    const onlyNew = new Sessions({ store, keyring: Keyring.parse(newKey) });
    expect((await onlyNew.get(session.id)).displayName).toBe("Ann");
    await expect(sessions.get(session.id)).rejects.toMatchObject({ reason: "SESSION_UNREADABLE" });
  });

  test("of an unreadable session fails and leaves its record as it is", async () => {
    const { session } = await createUnreadable();
    const update = sessions.update(session.id, { displayName: "x" });
    await expect(update).rejects.toMatchObject({ reason: "SESSION_UNREADABLE" });
    const [stored] = await store.getMany([{ id: session.id, partition: session.id.slice(0, 2) }]);
    expect(stored?.version).toBe(1);
  });
});

describe("refreshing a session", () => {
  test("moves the idle deadline, by id or by token, and never past the absolute one", async () => {
    const { session, token } = await create({ idleTimeoutMs: 10_000, lifetimeMs: 15_000 });
    clock.advance(1);
    const byId = await sessions.refresh({ sessionId: session.id });
    expect(byId.expireTimeMs).toBe(clock.now() + 10_000);
    clock.advance(9_999);
    const byToken = await sessions.refresh({ token });
    expect(byToken.expireTimeMs).toBe(session.absoluteExpireTimeMs);
    clock.advanceTo(session.absoluteExpireTimeMs);
    for (const target of [{ token }, { sessionId: session.id }]) {
      await expect(sessions.refresh(target)).rejects.toMatchObject(NOT_FOUND);
    }
  });

  test("works by a chosen id", async () => {
    await create({ sessionId: "jti-1" });
    clock.advance(1);
    const { lastAccessTimeMs } = await sessions.refresh({ sessionId: "jti-1" });
    expect(lastAccessTimeMs).toBe(clock.now());
  });

  test("of a revoked session, or with a wrong token, fails", async () => {
    const { session, token } = await create();
    const { partition = "", sessionId = "" } = parseSessionToken(token) ?? {};
    const forged = formatSessionToken({ partition, sessionId, secret: generateSecret() });
    await expect(sessions.refresh({ token: forged })).rejects.toMatchObject(NOT_FOUND);
    await expect(sessions.refresh({ token: "garbage" })).rejects.toMatchObject(NOT_FOUND);
    await expect(sessions.refresh({ token: "" })).rejects.toMatchObject(invalid("token"));
    const malformed = sessions.refresh({ sessionId: "a b" });
    await expect(malformed).rejects.toMatchObject(invalid("session_id"));
    await sessions.revoke({ sessionId: session.id });
    await expect(sessions.refresh({ token })).rejects.toMatchObject(NOT_FOUND);
    await expect(sessions.refresh({ sessionId: session.id })).rejects.toMatchObject(NOT_FOUND);
  });
});

describe("rotating a token", () => {
  test("gives a new one, kills the old, and counts as authentication", async () => {
    const { session, token } = await create({ sessionId: "jti-1" });
    clock.advance(1_000);
    const rotated = await sessions.rotateToken(token);
    expect(rotated.token).not.toBe(token);
    expect(rotated.session).toMatchObject({
      id: session.id,
      createTimeMs: session.createTimeMs,
      authenticateTimeMs: clock.now(),
      lastAccessTimeMs: clock.now(),
      version: 2,
    });
    expect(await sessions.verify(rotated.token)).toEqual(rotated.session);
    await expect(sessions.verify(token)).rejects.toMatchObject(NOT_FOUND);
    await expect(sessions.refresh({ token })).rejects.toMatchObject(NOT_FOUND);
    await expect(sessions.rotateToken(token)).rejects.toMatchObject(NOT_FOUND);
    expect(await sessions.revoke({ token })).toBe(false);
    expect(await sessions.verify(rotated.token)).toBeDefined();
  });

  test("by several at once has one winner", async () => {
    const { token } = await create();
    const outcomes = await Promise.allSettled(
      Array.from({ length: 20 }, () => sessions.rotateToken(token)),
    );
    const winners = outcomes.filter((outcome) => outcome.status === "fulfilled");
    expect(winners).toHaveLength(1);
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") expect(outcome.reason).toMatchObject(NOT_FOUND);
    }
    expect(await sessions.verify(winners[0]?.value.token ?? "")).toBeDefined();
  });
});

describe("revoking a session", () => {
  test("works by id or by token, says so once, and keeps the reason", async () => {
    const [first, second] = [await create(), await create({ sessionId: "jti-1" })];
    expect(await sessions.revoke({ token: first.token }, "logout")).toBe(true);
    expect(await sessions.revoke({ token: first.token }, "logout")).toBe(false);
    expect(await sessions.revoke({ sessionId: "jti-1" })).toBe(true);
    expect(await sessions.revoke({ sessionId: "jti-1" })).toBe(false);
    for (const { token } of [first, second]) {
      await expect(sessions.verify(token)).rejects.toMatchObject(NOT_FOUND);
    }
    const { sessions: listed } = await sessions.list({ showRevoked: true });
    expect(listed.map(({ revokeReason }) => revokeReason).toSorted()).toEqual(["", "logout"]);
  });

  test("that is not there, or with a token that is not its own, is no error", async () => {
    const { token } = await create();
    const { partition = "", sessionId = "" } = parseSessionToken(token) ?? {};
    const forged = formatSessionToken({ partition, sessionId, secret: generateSecret() });
    expect(await sessions.revoke({ token: forged })).toBe(false);
    expect(await sessions.revoke({ token: "garbage" })).toBe(false);
    expect(await sessions.revoke({ sessionId: "no-such-jti" })).toBe(false);
    expect(await sessions.revoke({ sessionId: generateSessionId("00") })).toBe(false);
    expect(await sessions.verify(token)).toBeDefined();
  });

  test("refuses what is no id, no token, or too long a reason", async () => {
    const { session, token } = await create();
    const noId = sessions.revoke({ sessionId: "" });
    await expect(noId).rejects.toMatchObject(invalid("session_id"));
    await expect(sessions.revoke({ token: "" })).rejects.toMatchObject(invalid("token"));
    const long = sessions.revoke({ token }, "x".repeat(257));
    await expect(long).rejects.toMatchObject(invalid("reason"));
    expect((await sessions.get(session.id)).state).toBe("active");
    expect(await sessions.revoke({ token }, "x".repeat(256))).toBe(true);
  });

  test("works even where the record cannot be read", async () => {
    const [byToken, byId] = [await createUnreadable(), await createUnreadable()];
    expect(await sessions.revoke({ token: byToken.token })).toBe(true);
    expect(await sessions.revoke({ sessionId: byId.session.id })).toBe(true);
  });

  test("of a user ends all of them but the one that is excepted", async () => {
    const [kept, ...others] = [
      await create(),
      await create({ sessionId: "jti-1" }),
      await create(),
    ];
    const bobs = await create({ userId: "bob" });
    const exceptSessionId = kept.session.id;
    expect(await sessions.revokeUser("ann", { exceptSessionId, reason: "stolen" })).toBe(2);
    expect(await sessions.revokeUser("ann", { exceptSessionId })).toBe(0);
    for (const { token } of others) {
      await expect(sessions.verify(token)).rejects.toMatchObject(NOT_FOUND);
    }
    expect(await sessions.verify(kept.token)).toBeDefined();
    expect(await sessions.verify(bobs.token)).toBeDefined();
    expect(await sessions.revokeUser("ann")).toBe(1);
    expect(await sessions.revokeUser("nobody")).toBe(0);
  });

  test("of a user refuses what is no user, no id, or too long a reason", async () => {
    await expect(sessions.revokeUser("")).rejects.toMatchObject(invalid("user_id"));
    const badId = sessions.revokeUser("ann", { exceptSessionId: "a b" });
    await expect(badId).rejects.toMatchObject(invalid("except_session_id"));
    const long = sessions.revokeUser("ann", { reason: "x".repeat(257) });
    await expect(long).rejects.toMatchObject(invalid("reason"));
  });
});

describe("sealing anew after a rotation of keys", () => {
  let newKey: string;
  let rotated: Keyring;
  let onlyNew: Sessions;

  beforeEach(() => {
    newKey = Keyring.generateKey("k2");
    rotated = Keyring.parse(`${newKey},${key}`);
    onlyNew = new Sessions({ store, keyring: Keyring.parse(newKey) });
  });

  async function resealAll(by = rotated): Promise<ResealedPage> {
    const sum = { resealed: 0, current: 0 };
    const unreadableSessionIds: string[] = [];
    const busySessionIds: string[] = [];
    for await (const page of resealSessions(store, by)) {
      sum.resealed += page.resealed;
      sum.current += page.current;
      unreadableSessionIds.push(...page.unreadableSessionIds);
      busySessionIds.push(...page.busySessionIds);
    }
    return { ...sum, unreadableSessionIds, busySessionIds };
  }

  const done = (resealed: number, current = 0) => ({
    resealed,
    current,
    unreadableSessionIds: [],
    busySessionIds: [],
  });

  test("makes every session readable without the old key, and changes nothing about it", async () => {
    const { session, token } = await create({ displayName: "Ann", data: { theme: "dark" } });
    await expect(onlyNew.verify(token)).rejects.toMatchObject({ reason: "SESSION_UNREADABLE" });
    expect(await resealAll()).toEqual(done(1));
    expect(await onlyNew.verify(token)).toEqual(session);
    expect(await resealAll()).toEqual(done(0, 1));
  });

  test("covers ended sessions, too, while they can be listed", async () => {
    const expired = await create({ idleTimeoutMs: 1 });
    const revoked = await create();
    await sessions.revoke({ token: revoked.token });
    clock.advance(1);
    expect(await resealAll()).toEqual(done(2));
    const { sessions: listed } = await onlyNew.list({ showExpired: true, showRevoked: true });
    expect(new Set(idsOf(listed))).toEqual(new Set([expired.session.id, revoked.session.id]));
  });

  test("goes page by page, may be stopped after any, and passes over what is done", async () => {
    const roomy = withPolicy({ maxSessionsPerUser: 2000 });
    for (let i = 0; i < 1100; i++) await roomy.create({ userId: "ann" });
    for await (const page of resealSessions(store, rotated)) {
      expect(page).toEqual(done(500));
      break;
    }
    expect(await resealAll()).toEqual(done(600, 500));
    expect(await onlyNew.count("ann")).toBe(1100);
  });

  test("does not open what is under the active key already", async () => {
    await new Sessions({ store, keyring: rotated }).create({ userId: "ann" });
    const wrongKey = Keyring.generateKey("k2");
    const unable = Keyring.parse(wrongKey);
    expect(await resealAll(unable)).toEqual(done(0, 1));
  });

  test("names what no key opens, leaves it alone, and goes on", async () => {
    const lost = await createUnreadable();
    const record = await recordOf(lost.session.id);
    await create();
    expect(await resealAll()).toEqual({
      ...done(1),
      unreadableSessionIds: [lost.session.id],
    });
    expect(await recordOf(lost.session.id)).toEqual(record);
  });

  test("loses no update made in between, by a server with the new key or the old", async () => {
    for (const [displayName, writer] of [
      ["Ann, old key", sessions],
      ["Ann, new key", new Sessions({ store, keyring: rotated })],
    ] as const) {
      const { session, token } = await create({ displayName: "Ann" });
      vi.spyOn(store, "reseal").mockImplementationOnce(async (...args) => {
        await writer.update(session.id, { displayName });
        return store.reseal(...args);
      });
      expect((await resealAll()).busySessionIds).toEqual([]);
      expect((await onlyNew.verify(token)).displayName).toBe(displayName);
    }
  });

  test("names what a server with the old key keeps changing, and goes on", async () => {
    const busy = await create();
    const quiet = await create();
    const reseal = store.reseal.bind(store);
    vi.spyOn(store, "reseal").mockImplementation(async (at, record, resealed) => {
      if (at.id === busy.session.id) await sessions.update(at.id, { displayName: "again" });
      return reseal(at, record, resealed);
    });
    expect(await resealAll()).toEqual({ ...done(1), busySessionIds: [busy.session.id] });
    expect(await onlyNew.verify(quiet.token)).toMatchObject({ id: quiet.session.id });
  });

  test("says nothing of a session that is removed in between", async () => {
    await create({ idleTimeoutMs: 1 });
    const reseal = store.reseal.bind(store);
    vi.spyOn(store, "reseal").mockImplementationOnce(async (...args) => {
      clock.advance(HOUR_MS);
      await store.sweep(10);
      return reseal(...args);
    });
    expect(await resealAll()).toEqual(done(0));
  });

  test("covers what is created while it goes on", async () => {
    const roomy = withPolicy({ maxSessionsPerUser: 2000 });
    for (let i = 0; i < 501; i++) await roomy.create({ userId: "ann" });
    let late = "";
    for await (const _ of resealSessions(store, rotated)) {
      if (late !== "") continue;
      clock.advance(1);
      late = (await sessions.create({ userId: "bob" })).token;
    }
    expect(await onlyNew.verify(late)).toMatchObject({ userId: "bob" });
  });
});

test("a store that is down is never taken for a missing or an active session", async () => {
  const { session, token } = await create({ sessionId: "jti-1" });
  await store.close();
  const calls = [
    () => create(),
    () => create({ requestId: "request-1" }),
    () => sessions.verify(token),
    () => sessions.verifyMany([token]),
    () => sessions.get(session.id),
    () => sessions.getMany(["jti-1"]),
    () => sessions.getMany([generateSessionId("00")]),
    () => sessions.list({}),
    () => sessions.count(),
    () => sessions.update("jti-1", {}),
    () => sessions.refresh({ token }),
    () => sessions.rotateToken(token),
    () => sessions.revoke({ token }),
    () => sessions.revoke({ sessionId: "jti-1" }),
    () => sessions.revokeUser("ann"),
  ];
  for (const call of calls)
    await expect(call()).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
});
