import { randomBytes, randomUUID } from "node:crypto";
import type { JsonObject, MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { SessionSchema } from "@sessiond/proto/sessiond/v1/session";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { failureIn, failureOf } from "../testing/outcome.js";
import {
  type SessionServiceClient as Client,
  clientOver,
  GRPC,
  PROTOBUF_OVER_HTTP,
} from "../testing/protocols.js";
import { startTestServer, type TestServer } from "../testing/test-server.js";

type CreateRequest = Parameters<Client["createSession"]>[0];
type ListRequest = Parameters<Client["listSessions"]>[0];
type Case = readonly [what: string, field: string, call: (client: Client) => Promise<unknown>];
type Fine = readonly [what: string, call: (client: Client) => Promise<unknown>];

interface UpdateRequest {
  readonly sessionId?: string;
  readonly userId?: string;
  readonly session?: MessageInitShape<typeof SessionSchema>;
  readonly updateMask?: { readonly paths: string[] };
  readonly etag?: string;
  readonly setData?: JsonObject;
  readonly deleteData?: string[];
}

const HEX_64 = "0123456789abcdef".repeat(4);
const YEAR_S = 365n * 86_400n;
const INT64_MAX = 2n ** 63n - 1n;
const INT64_MIN = -(2n ** 63n);
const INT32_MAX = 2 ** 31 - 1;
const TIME_FILTERS = [
  ["createTimeFrom", "filter.create_time_from"],
  ["createTimeTo", "filter.create_time_to"],
  ["lastAccessTimeFrom", "filter.last_access_time_from"],
  ["lastAccessTimeTo", "filter.last_access_time_to"],
] as const;
/** `{"text":""}` */
const DATA_OVERHEAD_BYTES = 11;
const MAX_DATA_BYTES = 16 * 1024;

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server[Symbol.asyncDispose]());

describe.each([GRPC, PROTOBUF_OVER_HTTP])("over $name", (wire) => {
  let client: Client;
  beforeAll(() => {
    client = clientOver(wire, server);
  });

  test.each<Case>([
    creating("no user", "user_id", { userId: "" }),
    creating("a user id of 257 bytes", "user_id", { userId: "u".repeat(257) }),
    creating("a user id of 129 two-byte letters", "user_id", { userId: "é".repeat(129) }),
    creating("a user id of 3 MiB", "user_id", { userId: "u".repeat(3 * 1024 * 1024) }),
    creating("a line break in a user id", "user_id", { userId: "ann\nbob" }),
    creating("a NUL in a user id", "user_id", { userId: "ann\0" }),
    creating("a C1 control in a user id", "user_id", { userId: "ann\u0085" }),
    creating("a session id of 129 characters", "session_id", { sessionId: "s".repeat(129) }),
    creating("a space in a session id", "session_id", { sessionId: "my session" }),
    creating("a slash in a session id", "session_id", { sessionId: "a/b" }),
    creating("a letter beyond ASCII in a session id", "session_id", { sessionId: "sessiön" }),
    creating("a session id of 64 hex digits", "session_id", { sessionId: HEX_64 }),
    creating("64 hex digits in capitals", "session_id", { sessionId: HEX_64.toUpperCase() }),
    creating("65 roles", "roles", { roles: Array(65).fill("r") }),
    creating("an empty role", "roles[1]", { roles: ["admin", ""] }),
    creating("a role of 129 bytes", "roles[0]", { roles: ["r".repeat(129)] }),
    creating("data of one byte more than 16 KiB", "data", {
      data: dataOf(MAX_DATA_BYTES + 1),
    }),
    creating("data of 17 KiB", "data", { data: dataOf(17 * 1024) }),
    creating("data of 17 KiB in short letters", "data", {
      data: { text: "🙂".repeat((17 * 1024) / 4) },
    }),
    creating("NaN in the data", "data", { data: { n: Number.NaN } }),
    creating("infinity in the data", "data", { data: { n: [Number.POSITIVE_INFINITY] } }),
    creating("data nested 33 deep", "data", { data: nested(33) }),
    ...(["idle_timeout", "lifetime"] as const).flatMap((field) => [
      duration("zero", field, {}),
      duration("minus a second", field, { seconds: -1n }),
      duration("a nanosecond below a millisecond", field, { nanos: 999_999 }),
      duration("a millisecond more than a year", field, { seconds: YEAR_S, nanos: 1_000_000 }),
      duration("ten thousand years", field, { seconds: 315_576_000_000n }),
      duration("the longest that fits", field, { seconds: INT64_MAX, nanos: 999_999_999 }),
      duration("the most negative that fits", field, { seconds: INT64_MIN }),
      duration("more nanoseconds than a second has", field, { seconds: 60n, nanos: INT32_MAX }),
      duration("two signs", field, { seconds: 60n, nanos: -1 }),
    ]),
  ])("creating with %s is refused, naming %s", async (_, field, call) => {
    await expectRefusal(call(client), field);
  });

  test.each<Fine>([
    fine("a user id of 256 bytes", () => ({ userId: "u".repeat(256) })),
    fine("a user id of 128 two-byte letters", () => ({ userId: "é".repeat(128) })),
    fine("a user id with spaces and colons", () => ({ userId: "tenant: 1 / ann {x}" })),
    fine("a session id of 128 characters", () => ({
      sessionId: randomUUID().padEnd(128, "_~:@-."),
    })),
    fine("a session id of 63 hex digits", () => ({
      sessionId: randomBytes(32).toString("hex").slice(1),
    })),
    fine("a display name of 3 MiB", () => ({ displayName: "d".repeat(3 * 1024 * 1024) })),
    fine("64 roles of 128 bytes", () => ({ roles: Array(64).fill("r".repeat(128)) })),
    fine("an IPv6 address with an endless zone", () => ({
      client: { ip: `fe80::1%${"e".repeat(100_000)}` },
    })),
    fine("data of exactly 16 KiB", () => ({ data: dataOf(MAX_DATA_BYTES) })),
    fine("data nested 32 deep", () => ({ data: nested(32) })),
    fine("an idle timeout of 1 ms", () => ({ idleTimeout: { nanos: 1_000_000 } })),
    fine("timeouts of a year", () => ({
      idleTimeout: { seconds: YEAR_S },
      lifetime: { seconds: YEAR_S },
    })),
  ])("creating with %s succeeds", async (_, call) => {
    await call(client);
  });

  test.each<Case>([
    updating("no session", "session_id", { sessionId: "" }),
    updating("a session id of another shape", "session_id", { sessionId: "my session" }),
    updating("a user id of 257 bytes", "user_id", { userId: "u".repeat(257) }),
    updating("an empty mask", "update_mask", { updateMask: { paths: [] } }),
    ...[
      "nope",
      "id",
      "user_id",
      "expire_time",
      "data.",
      "data.theme",
      "roles.0",
      "client.port",
      "*",
    ].map((path) =>
      updating(`the path ${path}`, "update_mask", { updateMask: { paths: ["roles", path] } }),
    ),
    updating("an empty path", "update_mask", { updateMask: { paths: [""] } }),
    updating("the path data.theme and a key to set", "update_mask", {
      updateMask: { paths: ["data.theme"] },
      setData: { theme: "dark" },
    }),
    updating("a key to set and to delete", "delete_data[1]", {
      setData: { theme: "dark" },
      deleteData: ["cart", "theme"],
    }),
    updating("an empty role", "session.roles[0]", {
      session: { roles: [""] },
      updateMask: { paths: ["roles"] },
    }),
    updating("17 KiB of data", "session.data", {
      session: { data: dataOf(17 * 1024) },
      updateMask: { paths: ["data"] },
    }),
    updating("keys to set of 17 KiB", "set_data", { setData: dataOf(17 * 1024) }),
    updating("a key to set that makes the data 17 KiB", "set_data", {
      session: { data: { more: "x".repeat(1024) } },
      updateMask: { paths: ["data"] },
      setData: dataOf(16 * 1024),
    }),
    updating("a key to set that is nested 32 deep", "set_data", { setData: { a: nested(32) } }),
    updating("an etag of 65 bytes", "etag", { etag: "e".repeat(65) }),
  ])("updating with %s is refused, naming %s", async (_, field, call) => {
    await expectRefusal(call(client), field);
  });

  test("data keys named like parts of JavaScript's objects are keys like any other", async () => {
    const data: JsonObject = JSON.parse('{"__proto__": {"admin": true}, "constructor": 1}');
    const { session } = await client.createSession({ userId: "ann", data });
    const { session: updated } = await client.updateSession({
      sessionId: session?.id ?? "",
      setData: JSON.parse('{"__proto__": [1], "toString": "x"}'),
      deleteData: ["constructor", "valueOf"],
    });
    expect(JSON.stringify(updated?.data)).toBe('{"__proto__":[1],"toString":"x"}');
    expect(JSON.stringify(session?.data)).toBe('{"__proto__":{"admin":true},"constructor":1}');
  });

  test.each<Case>([
    ["updating without a mask", "update_mask", (c) => c.updateSession({ sessionId: HEX_64 })],
    ["reading no session", "session_id", (c) => c.getSession({})],
    ["reading by an id of another shape", "session_id", (c) => c.getSession({ sessionId: "é" })],
    [
      "reading an unknown field",
      "read_mask",
      (c) => c.getSession({ sessionId: HEX_64, readMask: { paths: ["id", "nope"] } }),
    ],
    [
      "reading one key of data",
      "read_mask",
      (c) => c.getSession({ sessionId: HEX_64, readMask: { paths: ["data.theme"] } }),
    ],
    [
      "reading a batch by an unknown field",
      "read_mask",
      (c) => c.batchGetSessions({ sessionIds: [HEX_64], readMask: { paths: ["client.port"] } }),
    ],
    ["reading a batch of none", "session_ids", (c) => c.batchGetSessions({})],
    [
      "reading a batch of 1001",
      "session_ids",
      (c) => c.batchGetSessions({ sessionIds: Array(1001).fill(HEX_64) }),
    ],
    ["verifying no token", "token", (c) => c.verifySession({})],
    ["verifying a batch of none", "tokens", (c) => c.batchVerifySessions({})],
    [
      "verifying a batch of 1001",
      "tokens",
      (c) => c.batchVerifySessions({ tokens: Array(1001).fill("sst_") }),
    ],
    ["refreshing nothing", "session_id", (c) => c.refreshSession({})],
    [
      "refreshing an empty id",
      "session_id",
      (c) => c.refreshSession({ target: { case: "sessionId", value: "" } }),
    ],
    [
      "refreshing an empty token",
      "token",
      (c) => c.refreshSession({ target: { case: "token", value: "" } }),
    ],
    ["rotating no token", "token", (c) => c.rotateSessionToken({})],
    ["revoking nothing", "session_id", (c) => c.revokeSession({})],
    [
      "revoking by a token and a user",
      "user_id",
      (c) => c.revokeSession({ target: { case: "token", value: "sst_" }, userId: "ann" }),
    ],
    [
      "revoking with a user id of 257 bytes",
      "user_id",
      (c) =>
        c.revokeSession({
          target: { case: "sessionId", value: HEX_64 },
          userId: "u".repeat(257),
        }),
    ],
    ["revoking nobody's sessions", "user_id", (c) => c.revokeUserSessions({})],
    [
      "sparing an id of another shape",
      "except_session_id",
      (c) => c.revokeUserSessions({ userId: "ann", exceptSessionId: "my session" }),
    ],
    [
      "counting for a user id of 257 bytes",
      "user_id",
      (c) => c.countSessions({ userId: "u".repeat(257) }),
    ],
    listing("a user id of 257 bytes", "user_id", { userId: "u".repeat(257) }),
    listing("pages of -1", "page_size", { pageSize: -1 }),
    listing("pages of 1001", "page_size", { pageSize: 1001 }),
    listing("pages of the most that fits", "page_size", { pageSize: INT32_MAX }),
    listing("an order by another field", "order_by", { orderBy: "user_id" }),
    listing("an order in another direction", "order_by", { orderBy: "create_time down" }),
    listing("a filter by no IP address", "filter.ip", { filter: { ip: "localhost" } }),
    listing("a filter by an address with a port", "filter.ip", { filter: { ip: "[::1]:80" } }),
    listing("a filter by a role of 129 bytes", "filter.role", {
      filter: { role: "r".repeat(129) },
    }),
    ...TIME_FILTERS.flatMap(([name, field]) => [
      listing(`a time beyond the calendar as ${name}`, field, {
        filter: { [name]: { seconds: INT64_MAX } },
      }),
      listing(`a time before the calendar as ${name}`, field, {
        filter: { [name]: { seconds: INT64_MIN } },
      }),
      listing(`negative nanoseconds as ${name}`, field, { filter: { [name]: { nanos: -1 } } }),
    ]),
    listing("a page token of another make", "page_token", { pageToken: "garbage" }),
    listing("a page token of other JSON", "page_token", { pageToken: base64url("[1,2]") }),
    listing("a page token with an id of another shape", "page_token", {
      pageToken: base64url('["x",1,"\\u0000"]'),
    }),
    listing("a page token of 1025 bytes", "page_token", { pageToken: "A".repeat(1025) }),
  ])("%s is refused, naming %s", async (_, field, call) => {
    await expectRefusal(call(client), field);
  });

  test("a page token is of no use with any other query", async () => {
    const userId = `pages-${randomUUID()}`;
    await client.createSession({ userId, roles: ["admin"] });
    await client.createSession({ userId, roles: ["admin"] });
    const query = { userId, filter: { role: "admin" }, pageSize: 1 };
    const { nextPageToken: pageToken } = await client.listSessions(query);
    expect((await client.listSessions({ ...query, pageSize: 2, pageToken })).sessions).toHaveLength(
      1,
    );
    const others: ListRequest[] = [
      { ...query, userId: "ann" },
      { ...query, userId: "" },
      { ...query, filter: { role: "editor" } },
      { ...query, filter: { ...query.filter, ip: "::1" } },
      { ...query, orderBy: "create_time" },
      { ...query, showRevoked: true },
    ];
    for (const other of others) {
      await expectRefusal(client.listSessions({ ...other, pageToken }), "page_token");
    }
  });

  test("times at the ends of the calendar filter a list like any other", async () => {
    await client.createSession({ userId: "calendar" });
    const countWith = async (filter: NonNullable<ListRequest["filter"]>) =>
      (await client.listSessions({ userId: "calendar", filter })).sessions.length;
    const first = timestampFromDate(new Date("0001-01-01T00:00:00Z"));
    const last = timestampFromDate(new Date("9999-12-31T23:59:59Z"));
    expect(await countWith({ createTimeFrom: last })).toBe(0);
    expect(await countWith({ createTimeTo: first })).toBe(0);
    expect(await countWith({ lastAccessTimeFrom: last })).toBe(0);
    expect(await countWith({ createTimeFrom: first })).toBeGreaterThan(0);
    expect(await countWith({ createTimeTo: last })).toBeGreaterThan(0);
  });

  test("an id or a token that is refused fails its own result of a batch alone, as it fails its own call", async () => {
    const { session, token } = await client.createSession({ userId: "ann" });
    for (const sessionId of ["my session", "", token, "no-such-session"]) {
      const sessionIds = [session?.id ?? "", sessionId];
      const [found, refused] = (await client.batchGetSessions({ sessionIds })).results;
      expect(found?.result).toMatchObject({ case: "session", value: { userId: "ann" } });
      const alone = await failureOf(client.getSession({ sessionId }));
      expect(refused && failureIn(refused)).toEqual(alone);
    }
    for (const bad of ["my token", "", `${token}x`]) {
      const [found, refused] = (await client.batchVerifySessions({ tokens: [token, bad] })).results;
      expect(found?.result).toMatchObject({ case: "session", value: { userId: "ann" } });
      const alone = await failureOf(client.verifySession({ token: bad }));
      expect(refused && failureIn(refused)).toEqual(alone);
    }
  });

  test("batches of 1000 are answered whole", async () => {
    const { session, token } = await client.createSession({ userId: "ann" });
    const { results: verified } = await client.batchVerifySessions({
      tokens: Array(1000).fill(token),
    });
    expect(verified.filter(({ result }) => result.case === "session")).toHaveLength(1000);
    const { results: found } = await client.batchGetSessions({
      sessionIds: Array(1000).fill(session?.id),
    });
    expect(found.filter(({ result }) => result.case === "session")).toHaveLength(1000);
  });

  test("a message that quotes a caller's text is cut short enough for any client", async () => {
    const long = { paths: [`p${"ä".repeat(500_000)}`] };
    const calls = [
      () => client.updateSession({ sessionId: HEX_64, updateMask: long }),
      () => client.getSession({ sessionId: HEX_64, readMask: long }),
    ];
    for (const call of calls) {
      const { code, message } = await failureOf(call());
      expect(code).toBe("INVALID_ARGUMENT");
      expect(message.length).toBeLessThan(1000);
    }
  });

  test("after all that, an unrelated call works and the log knows of no internal error", async () => {
    expect((await client.createSession({ userId: "unrelated" })).token).toMatch(/^sst_/);
    expect(server.logs.filter(({ level }) => Number(level) >= 40)).toEqual([]);
  });
});

function creating(what: string, field: string, request: CreateRequest): Case {
  return [what, field, (client) => client.createSession({ userId: "ann", ...request })];
}

/** Made anew for every wire: an id that was once taken stays so. */
function fine(what: string, request: () => CreateRequest): Fine {
  return [what, (client) => client.createSession({ userId: randomUUID(), ...request() })];
}

function duration(
  what: string,
  field: "idle_timeout" | "lifetime",
  value: NonNullable<CreateRequest["lifetime"]>,
): Case {
  const request = field === "lifetime" ? { lifetime: value } : { idleTimeout: value };
  return creating(`a ${field} of ${what}`, field, request);
}

function updating(what: string, field: string, request: UpdateRequest): Case {
  return [
    what,
    field,
    async (client) => {
      const { session } = await client.createSession({ userId: `updating-${randomUUID()}` });
      const updateMask = { paths: ["roles"] };
      return client.updateSession({ sessionId: session?.id ?? "", updateMask, ...request });
    },
  ];
}

function listing(what: string, field: string, request: ListRequest): Case {
  return [`listing with ${what}`, field, (client) => client.listSessions(request)];
}

async function expectRefusal(call: Promise<unknown>, field: string): Promise<void> {
  const failure = await failureOf(call);
  expect(failure).toMatchObject({
    code: "INVALID_ARGUMENT",
    reason: "INVALID_ARGUMENT",
    domain: "sessiond",
    violations: [{ field, description: expect.stringMatching(/./) }],
  });
  expect(failure.message).toBe(`${field}: ${failure.violations?.[0]?.description}`);
}

/** Data that is this long as JSON. */
function dataOf(bytes: number): JsonObject {
  return { text: "x".repeat(bytes - DATA_OVERHEAD_BYTES) };
}

/** Data with so many objects within each other, the outermost counted. */
function nested(levels: number): JsonObject {
  return levels === 1 ? {} : { child: nested(levels - 1) };
}

function base64url(text: string): string {
  return Buffer.from(text).toString("base64url");
}
