import { expect, test, vi } from "vitest";
import { Keyring } from "./keyring.js";
import type { SessionStore } from "./session-store.js";
import {
  clock,
  create,
  createUnreadable,
  HOUR_MS,
  invalid,
  key,
  NOT_FOUND,
  refused,
  sessions,
  store,
  useSessions,
  withKeys,
  withPolicy,
} from "./sessions.test.fixture.js";

useSessions();

test("an update changes what it names, adds a version, and is no touch", async () => {
  const { session } = await create({ displayName: "Ann", data: { a: 1, b: 2 } });
  clock.advance(100);
  const changes = { roles: ["admin"], setData: { b: 3 } };
  const { session: updated, notices } = await sessions.update(session.id, changes);
  expect(notices).toEqual([]);
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

test("an update goes through at its etag and changes nothing at another", async () => {
  const { session, token } = await create({ displayName: "one" });
  const update = async (displayName: string, etag: string) =>
    (await sessions.update(session.id, { displayName }, { etag })).session;
  const second = await update("two", session.etag);
  for (const etag of [session.etag, "", "garbage"]) {
    await refused(update("three", etag), "ETAG_MISMATCH");
  }
  expect(await sessions.get(session.id)).toEqual(second);
  // A touch changes no etag, and a rotation does.
  clock.advance(HOUR_MS / 4);
  await sessions.verify(token);
  const { etag } = await update("three", second.etag);
  await sessions.rotateToken(token);
  await refused(update("four", etag), "ETAG_MISMATCH");
  expect((await sessions.get(session.id)).displayName).toBe("three");
});

test("an update at the etag of an earlier session of the same chosen id is refused", async () => {
  const { session } = await create({ sessionId: "jti-1", idleTimeoutMs: 1 });
  clock.advance(HOUR_MS);
  await store.sweep(10);
  const next = await create({ sessionId: "jti-1" });
  expect(next.session.version).toBe(session.version);
  const late = sessions.update("jti-1", { displayName: "x" }, { etag: session.etag });
  await refused(late, "ETAG_MISMATCH");
});

test("an update by a holder of a lock is refused once a later holder has updated the session", async () => {
  const { session } = await create({ displayName: "one" });
  const update = (displayName: string, token: number, lock = "profile") =>
    sessions.update(session.id, { displayName }, { fence: { lock, token } });
  await update("by the first", 1_000);
  await update("by the first again", 1_000);
  const second = await update("by the second", 1_001);
  await refused(update("by the first, late", 1_000), {
    reason: "LOCK_NOT_HELD",
    message: "the lock is not held: a later holder has updated the session",
  });
  expect(await sessions.get(session.id)).toEqual(second.session);
  await update("under another lock", 1, "another");
  await sessions.update(session.id, { displayName: "under none" });
});

test("an update is fenced by a lock's name and token, and by eight locks at most", async () => {
  const { session } = await create();
  const update = (lock: string, token: number) =>
    sessions.update(session.id, { displayName: "x" }, { fence: { lock, token } });
  for (const lock of ["", "a\n"]) await refused(update(lock, 1), invalid("fence.lock"));
  for (const token of [0, -1, 1.5, 2 ** 53, Number.NaN]) {
    await refused(update("a", token), invalid("fence.token"));
  }
  for (let i = 0; i < 8; i++) await update(`lock-${i}`, 1);
  await refused(update("one more", 1), invalid("fence.lock"));
});

test("a hundred updates at once through several servers, each of another key, keep all of them", async () => {
  const { session } = await create({ data: { before: true } });
  const servers = [sessions, sessions, withPolicy({}), withPolicy({})];
  const entries = Array.from({ length: 100 }, (_, i) => [`key-${i}`, i] as const);
  await Promise.all(
    entries.map(([key, value], i) =>
      servers[i % 4]?.update(session.id, { setData: { [key]: value } }),
    ),
  );
  const { data, version } = await sessions.get(session.id);
  expect(data).toEqual({ before: true, ...Object.fromEntries(entries) });
  expect(version).toBe(101);
});

test("an update gives up where others change the session each time before it can", async () => {
  const { session } = await create();
  const replaceRecord: SessionStore["replaceRecord"] = async () => "version_mismatch";
  vi.spyOn(store, "replaceRecord").mockImplementation(replaceRecord);
  await refused(sessions.update(session.id, { displayName: "x" }), "OVERLOADED");
});

test("an update finds only an active session, and only one of the user who is named", async () => {
  await create({ sessionId: "jti-1" });
  const change = { displayName: "x" };
  await refused(sessions.update("jti-1", change, { userId: "bob" }), NOT_FOUND);
  const { session } = await sessions.update("jti-1", {}, { userId: "ann" });
  expect(session.version).toBe(2);
  await sessions.revoke({ sessionId: "jti-1" });
  await refused(sessions.update("jti-1", change), NOT_FOUND);
  const expired = await create({ idleTimeoutMs: 1 });
  clock.advance(1);
  await refused(sessions.update(expired.session.id, change), NOT_FOUND);
});

test("an update whose session is revoked meanwhile does not bring it back", async () => {
  const { session } = await create();
  const replace = store.replaceRecord.bind(store);
  vi.spyOn(store, "replaceRecord").mockImplementationOnce(async (at, version, record) => {
    await store.revoke(at, "in between");
    return replace(at, version, record);
  });
  await refused(sessions.update(session.id, { displayName: "x" }), NOT_FOUND);
  await refused(sessions.get(session.id), NOT_FOUND);
});

test("an update beyond what a session can hold is refused and changes nothing", async () => {
  const { session } = await create({ data: { a: "x".repeat(10_000) } });
  const setData = { b: "x".repeat(7_000) };
  await refused(sessions.update(session.id, { setData }), invalid("set_data"));
  await refused(sessions.update(session.id, { roles: [""] }), invalid("session.roles[0]"));
  await refused(sessions.update(session.id, {}, { etag: "x".repeat(65) }), invalid("etag"));
  expect(await sessions.get(session.id)).toEqual(session);
});

test("an update that only describes is never refused, and says what it changed", async () => {
  const { session } = await create({ client: { ip: "203.0.113.7", device: "laptop" } });
  const described = { displayName: "x".repeat(257), client: { ip: "unknown" } };
  const updated = await sessions.update(session.id, described);
  expect(updated.notices.map(({ field }) => field)).toEqual([
    "session.display_name",
    "session.client.ip",
  ]);
  expect(updated.session.displayName).toBe("x".repeat(256));
  expect(updated.session.client).toEqual({ ip: "", userAgent: "", device: "laptop" });
  expect(await sessions.get(session.id)).toEqual(updated.session);
});

test("an update seals with the active key, and leaves an unreadable record as it is", async () => {
  const { session } = await create({ displayName: "Ann" });
  const newKey = Keyring.generateKey("k2");
  await withKeys(newKey, key).update(session.id, {});
  expect((await withKeys(newKey).get(session.id)).displayName).toBe("Ann");
  await refused(sessions.get(session.id), "SESSION_UNREADABLE");

  const lost = (await createUnreadable()).session.id;
  await refused(sessions.update(lost, { displayName: "x" }), "SESSION_UNREADABLE");
  const [stored] = await store.getMany([{ id: lost, partition: lost.slice(0, 2) }]);
  expect(stored?.version).toBe(1);
});
