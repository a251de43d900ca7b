import { beforeEach, expect, test, vi } from "vitest";
import { Keyring } from "./keyring.js";
import { type ResealedPage, resealSessions } from "./reseal-sessions.js";
import { Sessions } from "./sessions.js";
import {
  clock,
  create,
  createUnreadable,
  HOUR_MS,
  idsOf,
  key,
  recordOf,
  refused,
  sessions,
  store,
  useSessions,
  withKeys,
  withPolicy,
} from "./sessions.test.fixture.js";

useSessions();

/** With a new key before the old one, and without the old one. */
let rotated: Keyring;
let onlyNew: Sessions;
let newKey: string;
beforeEach(() => {
  newKey = Keyring.generateKey("k2");
  rotated = Keyring.parse(`${newKey},${key}`);
  onlyNew = withKeys(newKey);
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

function done(resealed: number, current = 0): ResealedPage {
  return { resealed, current, unreadableSessionIds: [], busySessionIds: [] };
}

/** Does something just before each record is resealed. */
function beforeReseal(act: (id: string) => Promise<unknown>): void {
  const reseal = store.reseal.bind(store);
  vi.spyOn(store, "reseal").mockImplementation(async (at, ...records) => {
    await act(at.id);
    return reseal(at, ...records);
  });
}

test("resealing makes every session readable without the old key, and changes nothing about it", async () => {
  const { session, token } = await create({ displayName: "Ann", data: { theme: "dark" } });
  await refused(onlyNew.verify(token), "SESSION_UNREADABLE");
  expect(await resealAll()).toEqual(done(1));
  expect(await onlyNew.verify(token)).toEqual(session);
  expect(await resealAll()).toEqual(done(0, 1));
});

test("resealing covers ended sessions, too, while they can be listed", async () => {
  const expired = await create({ idleTimeoutMs: 1 });
  const revoked = await create();
  await sessions.revoke({ token: revoked.token });
  clock.advance(1);
  expect(await resealAll()).toEqual(done(2));
  const { sessions: listed } = await onlyNew.list({ showExpired: true, showRevoked: true });
  expect(new Set(idsOf(listed))).toEqual(new Set([expired.session.id, revoked.session.id]));
});

test("resealing goes page by page, may stop after any, and covers what is created meanwhile", async () => {
  const roomy = withPolicy({ maxSessionsPerUser: 2000 });
  for (let i = 0; i < 1100; i++) await roomy.create({ userId: "ann" });
  for await (const page of resealSessions(store, rotated)) {
    expect(page).toEqual(done(500));
    break;
  }
  let late = "";
  const sum = done(0);
  for await (const page of resealSessions(store, rotated)) {
    Object.assign(sum, {
      resealed: sum.resealed + page.resealed,
      current: sum.current + page.current,
    });
    if (late !== "") continue;
    clock.advance(1);
    late = (await sessions.create({ userId: "bob" })).token;
  }
  expect(sum).toEqual(done(601, 500));
  expect(await onlyNew.verify(late)).toMatchObject({ userId: "bob" });
});

test("resealing does not open what is under the active key already", async () => {
  await new Sessions({ store, keyring: rotated }).create({ userId: "ann" });
  expect(await resealAll(Keyring.parse(Keyring.generateKey("k2")))).toEqual(done(0, 1));
});

test("resealing names the records that no key opens, leaves them alone, and goes on", async () => {
  const lost = await createUnreadable();
  const record = await recordOf(lost.session.id);
  await create();
  expect(await resealAll()).toEqual({ ...done(1), unreadableSessionIds: [lost.session.id] });
  expect(await recordOf(lost.session.id)).toEqual(record);
});

test("resealing loses no update made meanwhile, by a server with the new key or the old", async () => {
  for (const writer of [sessions, new Sessions({ store, keyring: rotated })]) {
    const { session, token } = await create({ displayName: "Ann" });
    let isChanged = false;
    beforeReseal(async (id) => {
      if (!isChanged) await writer.update(id, { displayName: "changed" });
      isChanged = true;
    });
    expect((await resealAll()).busySessionIds).toEqual([]);
    expect(await onlyNew.verify(token)).toMatchObject({ id: session.id, displayName: "changed" });
    vi.restoreAllMocks();
  }
});

test("resealing names the sessions that a server with the old key keeps changing, and goes on", async () => {
  const [busy, quiet] = [await create(), await create()];
  beforeReseal(async (id) => {
    if (id === busy.session.id) await sessions.update(id, { displayName: "again" });
  });
  expect(await resealAll()).toEqual({ ...done(1), busySessionIds: [busy.session.id] });
  expect(await onlyNew.verify(quiet.token)).toMatchObject({ id: quiet.session.id });
});

test("resealing says nothing of a session that is removed meanwhile", async () => {
  await create({ idleTimeoutMs: 1 });
  beforeReseal(async () => {
    clock.advance(HOUR_MS);
    await store.sweep(10);
  });
  expect(await resealAll()).toEqual(done(0));
});

test("resealing reaches the sessions of every namespace", async () => {
  const inNamespace = (namespace: string, by: Keyring) =>
    new Sessions({ store, keyring: by, namespace });
  const tokens = new Map<string, string>();
  for (const name of ["", "shop", "blog"]) {
    const { token } = await inNamespace(name, Keyring.parse(key)).create({ userId: "ann" });
    tokens.set(name, token);
  }
  expect(await resealAll()).toEqual(done(3));
  for (const [name, token] of tokens) {
    const readable = inNamespace(name, Keyring.parse(newKey)).verify(token);
    expect(await readable).toMatchObject({ userId: "ann" });
  }
});
