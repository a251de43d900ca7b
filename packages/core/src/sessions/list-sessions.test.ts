import { expect, onTestFinished, test, vi } from "vitest";
import type { CreateSession } from "./create-request.js";
import type { ListSessions } from "./list-sessions.js";
import type { Session } from "./session.js";
import { partitionOfUser } from "./session-id.js";
import { sealContent } from "./session-record.js";
import {
  clock,
  create,
  createUnreadable,
  HOUR_MS,
  idsOf,
  invalid,
  keyring,
  refused,
  sessions,
  store,
  useSessions,
  withPolicy,
} from "./sessions.test.fixture.js";

useSessions();

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

test("a list shows the active sessions, newest first, 50 to a page", async () => {
  const created = await createMany(60, [{}]);
  const page = await sessions.list({});
  expect(idsOf(page.sessions)).toEqual(idsOf(created.slice(0, 50)));
  expect(page.nextPageToken).toBeDefined();
  expect(page.unreadableSessionIds).toEqual([]);
  expect((await sessions.list({ pageSize: 0 })).sessions).toHaveLength(50);
  expect((await sessions.list({ pageSize: 1_000 })).sessions).toHaveLength(60);
  expect(idsOf(await listAll({}))).toEqual(idsOf(created));
  expect(idsOf(await listAll({ order: "asc" }))).toEqual(idsOf(created.toReversed()));
});

test("the last page says nothing of a next one", async () => {
  await createMany(4, [{}]);
  for (const request of [{}, { lastAccessTimeFromMs: 0 }]) {
    const exact = await sessions.list({ ...request, pageSize: 4 });
    expect(exact.sessions).toHaveLength(4);
    expect(exact.nextPageToken).toBeUndefined();
    const half = { ...request, pageSize: 2 };
    const { nextPageToken: pageToken = "" } = await sessions.list(half);
    const second = await sessions.list({ ...half, pageToken });
    expect(second.sessions).toHaveLength(2);
    expect(second.nextPageToken).toBeUndefined();
  }
});

test("expired and revoked sessions are shown when asked for, and say which they are", async () => {
  const ids = [];
  for (const idleTimeoutMs of [HOUR_MS, 10, HOUR_MS]) {
    ids.push((await create({ idleTimeoutMs })).session.id);
  }
  const [active, expired, revoked] = ids;
  await sessions.revoke({ sessionId: revoked ?? "" }, "logout");
  clock.advance(10);
  const statesOf = async (request: ListSessions) =>
    Object.fromEntries((await listAll(request)).map(({ id, state }) => [id, state]));
  const states = { [`${active}`]: "active" };
  const [ofExpired, ofRevoked] = [{ [`${expired}`]: "expired" }, { [`${revoked}`]: "revoked" }];
  expect(await statesOf({})).toEqual(states);
  expect(await statesOf({ showExpired: true })).toEqual({ ...states, ...ofExpired });
  expect(await statesOf({ showRevoked: true })).toEqual({ ...states, ...ofRevoked });
  const all = { showExpired: true, showRevoked: true };
  expect(await statesOf(all)).toEqual({ ...states, ...ofExpired, ...ofRevoked });
  expect((await listAll(all)).find(({ id }) => id === revoked)).toMatchObject({
    revokeReason: "logout",
    revokeTimeMs: clock.now() - 10,
  });
});

test("a list is filtered by user, by role and by address", async () => {
  await createMany(6, [
    { roles: ["admin", "user"], client: { ip: "203.0.113.7" } },
    { roles: ["administrator"], client: { ip: "203.0.113.70" } },
    { roles: ["user"], userId: "bob" },
  ]);
  const rolesOf = async (request: ListSessions) =>
    (await listAll(request)).map(({ roles }) => roles.join());
  expect(await rolesOf({ role: "admin" })).toEqual(["admin,user", "admin,user"]);
  expect(await rolesOf({ role: "user" })).toHaveLength(4);
  expect(await rolesOf({ role: "nobody" })).toEqual([]);
  expect(await rolesOf({ ip: "203.0.113.7" })).toEqual(["admin,user", "admin,user"]);
  expect(await rolesOf({ ip: "203.0.113.70", role: "admin" })).toEqual([]);
  expect(await rolesOf({ userId: "bob" })).toEqual(["user", "user"]);
  expect(await rolesOf({ userId: "carol" })).toEqual([]);
});

test("a filter by address finds every spelling of it, also that which an older server stored", async () => {
  const spellings = ["2001:db8::1", "2001:DB8:0:0::1", "2001:db8::2"];
  const created = await createMany(
    3,
    spellings.map((ip) => ({ client: { ip } })),
  );
  const [, found, old] = created;
  if (found === undefined || old === undefined) throw new Error("expected sessions");
  const client = { ...old.client, ip: "2001:0DB8::1" };
  const key = { id: old.id, partition: partitionOfUser("ann") };
  await store.replaceRecord(key, 1, sealContent(keyring, old, { ...old, client }));
  for (const ip of [...spellings.slice(0, 2), client.ip]) {
    expect(idsOf(await listAll({ ip })), ip).toEqual([found.id, old.id]);
  }
  expect((await sessions.get(old.id)).client.ip).toBe(client.ip);
});

test("a list is filtered by ranges of time, from their start up to their end", async () => {
  const created = (await createMany(3, [{}])).toReversed();
  const [first, second, third] = idsOf(created);
  const startMs = created[0]?.createTimeMs ?? 0;
  const list = async (request: ListSessions) => idsOf(await listAll({ order: "asc", ...request }));
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

test("pages cover everything that matches exactly once, whatever their size", async () => {
  const created = await createMany(1_201, [
    { roles: ["a"] },
    { roles: ["b"] },
    { roles: ["a", "b"] },
    { roles: [], userId: "bob" },
  ]);
  for (const role of [undefined, "a"]) {
    for (const userId of [undefined, "ann"]) {
      const matching = created.filter(
        (session) =>
          (role === undefined || session.roles.includes(role)) &&
          (userId === undefined || session.userId === userId),
      );
      const filter = { ...(role && { role }), ...(userId && { userId }) };
      for (const pageSize of [50, 601, 1_000]) {
        const listed = await listAll({ ...filter, pageSize });
        expect(idsOf(listed)).toEqual(idsOf(matching));
        const ascending = await listAll({ ...filter, pageSize, order: "asc" });
        expect(idsOf(ascending)).toEqual(idsOf(matching.toReversed()));
      }
    }
  }
});

test("pages end before they are too large for a message, and cover everything", async () => {
  const created = await createMany(450, [{}]);
  const oneMebibyte = (session: Session) => (session.id === created[3]?.id ? 9 : 1) * 2 ** 20;
  for (const order of ["asc", "desc"] as const) {
    const listed: Session[][] = [];
    let pageToken: string | undefined;
    do {
      const request = { pageSize: 1_000, order, sizeOf: oneMebibyte };
      const page = await sessions.list({ ...request, ...(pageToken && { pageToken }) });
      listed.push([...page.sessions]);
      pageToken = page.nextPageToken;
    } while (pageToken !== undefined);
    expect(Math.max(...listed.map(({ length }) => length))).toBe(3);
    const expected = order === "desc" ? created : created.toReversed();
    expect(idsOf(listed.flat())).toEqual(idsOf(expected));
  }
});

test("a list that unseals much lets other calls have their turn", async () => {
  await createMany(400, [{}]);
  // By this clock a session takes a millisecond, on a machine of any speed.
  let nowMs = 0;
  vi.spyOn(performance, "now").mockImplementation(() => nowMs++);
  onTestFinished(() => void vi.restoreAllMocks());
  let turns = 0;
  let isOver = false;
  const count = () => {
    turns++;
    if (!isOver) setImmediate(count);
  };
  count();
  await sessions.list({ role: "none" });
  isOver = true;
  // One after every 5 ms. Reads of the store alone make fewer than ten.
  expect(turns).toBeGreaterThan(50);
});

test("a page ends early when it has looked at thousands in vain, and the next goes on", async () => {
  await createMany(1, [{ roles: ["rare"] }]);
  await createMany(5_001, [{}]);
  const first = await sessions.list({ role: "rare" });
  expect(first.sessions).toEqual([]);
  expect(first.nextPageToken).toBeDefined();
  const second = await sessions.list({ role: "rare", pageToken: first.nextPageToken ?? "" });
  expect(second.sessions).toHaveLength(1);
  expect(second.nextPageToken).toBeUndefined();
});

test("unreadable sessions are named in their turn, and the others listed", async () => {
  const ids = [];
  for (const add of [create, createUnreadable, create]) {
    ids.push((await add()).session.id);
    clock.advance(1);
  }
  const [before, unreadable, after] = ids;
  const listed = async (request: ListSessions) => {
    const page = await sessions.list({ order: "asc", ...request });
    return { ...page, sessions: idsOf(page.sessions) };
  };
  const unreadableSessionIds = [unreadable];
  expect(await listed({})).toEqual({ sessions: [before, after], unreadableSessionIds });
  const first = await listed({ pageSize: 2 });
  expect(first).toMatchObject({ sessions: [before], unreadableSessionIds });
  const { nextPageToken: pageToken = "" } = first;
  const rest = { sessions: [after], unreadableSessionIds: [] };
  expect(await listed({ pageSize: 2, pageToken })).toEqual(rest);
  expect(await listed({ role: "admin" })).toMatchObject({ unreadableSessionIds });
});

test("a page token is refused with another query, but not with another page size or order of keys", async () => {
  await createMany(5, [{}]);
  const query = { userId: "ann", createTimeFromMs: 1 };
  const { nextPageToken: pageToken = "" } = await sessions.list({ ...query, pageSize: 2 });
  const others: ListSessions[] = [
    {},
    { ...query, userId: "bob" },
    { ...query, order: "asc" },
    { ...query, showRevoked: true },
    { ...query, role: "admin" },
    { ...query, createTimeFromMs: 2 },
  ];
  for (const other of others) {
    await refused(sessions.list({ ...other, pageToken }), invalid("page_token"));
  }
  const rest = { createTimeFromMs: 1, userId: "ann", pageSize: 1_000, pageToken };
  expect((await sessions.list(rest)).sessions).toHaveLength(3);
});

test.each<[string, ListSessions]>([
  ["user_id", { userId: "" }],
  ["filter.role", { role: "x".repeat(129) }],
  ["filter.ip", { ip: "here" }],
  ["filter.ip", { ip: "203.0.113.7:4711" }],
  ["page_size", { pageSize: -1 }],
  ["page_size", { pageSize: 1_001 }],
  ["page_size", { pageSize: 1.5 }],
  ["page_token", { pageToken: "garbage" }],
])("a list names the field %s when it is at fault", async (field, request) => {
  await refused(sessions.list(request), invalid(field));
});
