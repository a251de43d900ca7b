import { randomBytes, randomInt } from "node:crypto";
import {
  authFlowTestSuite,
  caseInsensitiveTestSuite,
  normalTestSuite,
  testAdapter,
  transactionsTestSuite,
  uuidTestSuite,
} from "@better-auth/test-utils/adapter";
import { sessiondAdapter, sessiondRateLimitStorage } from "@sessiond/better-auth";
import { createSessionClient, type SessionClient } from "@sessiond/client";
import { startTcpFaultProxy } from "@sessiond/core/testing";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { getAuthTables } from "better-auth/db";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { useTestServer } from "../../testing/test-server.js";
import { STORES } from "../../testing/test-stores.js";

const hash = async (password: string) => `hash of ${password}`;
const verify = async (given: { hash: string; password: string }) =>
  given.hash === (await hash(given.password));

/** The times of a row of a session that was just made. */
function soon() {
  const now = new Date();
  return { createdAt: now, updatedAt: now, expiresAt: new Date(now.getTime() + 60_000) };
}

describe.each(STORES)("better-auth on sessiond and $name", async ({ open }) => {
  const server = useTestServer({ open, policy: { maxSessionsPerUser: 1_000 } });
  let client: SessionClient;
  beforeAll(() => {
    client = createSessionClient({ baseUrl: server.grpcUrl, token: server.accessToken });
  });
  afterAll(() => client.close());
  /** Made at the first call: better-auth's suite makes an adapter before there is a server. */
  const lateClient = new Proxy({} as SessionClient, {
    get: (_, name) => Reflect.get(client, name).bind(client),
  });

  const rows: Record<string, Record<string, unknown>[]> = {};
  const suite = await testAdapter({
    adapter: () => {
      const database = memoryAdapter(rows);
      return sessiondAdapter({ client: lateClient, database });
    },
    runMigrations: (options) => {
      for (const table of Object.values(getAuthTables(options))) rows[table.modelName] ??= [];
    },
    tests: [
      normalTestSuite(),
      authFlowTestSuite(),
      caseInsensitiveTestSuite(),
      transactionsTestSuite(),
      uuidTestSuite(),
    ],
  });
  suite.execute();

  /** An application with better-auth, and a browser on it. */
  function startApplication(baseUrl = server.grpcUrl) {
    const sessiond = createSessionClient({ baseUrl, token: server.accessToken, timeoutMs: 2_000 });
    onTestFinished(() => sessiond.close());
    const tables: typeof rows = { user: [], session: [], account: [], verification: [] };
    const rateLimit = {
      enabled: true,
      customStorage: sessiondRateLimitStorage({ client: sessiond, policy: "login" }),
    };
    const auth = betterAuth({
      baseURL: "http://localhost:3000",
      secret: "a secret of the application, long enough",
      database: sessiondAdapter({ client: sessiond, database: memoryAdapter(tables) }),
      // The hash of better-auth takes a second, which is not what we test.
      emailAndPassword: { enabled: true, password: { hash, verify } },
      logger: { disabled: true },
      rateLimit,
      advanced: { ipAddress: { ipAddressHeaders: ["x-address"] } },
    });
    const address = `2001:db8:${randomInt(65_536).toString(16)}::1`;
    const newBrowser = () => {
      let cookie = "";
      return async (path: string, body?: object) => {
        const response = await auth.handler(
          new Request(`http://localhost:3000/api/auth${path}`, {
            method: body === undefined ? "GET" : "POST",
            headers: {
              ...{ cookie, "x-address": address, "user-agent": "Firefox" },
              ...{ origin: "http://localhost:3000", "content-type": "application/json" },
            },
            ...(body && { body: JSON.stringify(body) }),
          }),
        );
        const set = response.headers.getSetCookie().map((line) => line.split(";")[0]);
        if (set.length > 0) cookie = set.join("; ");
        return response;
      };
    };
    return { sessiond, tables, newBrowser };
  }
  /** What `/get-session` answers. */
  interface Current {
    readonly user: { readonly id: string; readonly email: string; readonly name: string };
    readonly session: { readonly token: string };
  }
  const current = async (browser: (path: string) => Promise<Response>) =>
    (await (await browser("/get-session")).json()) as Current | null;
  const ann = { email: "ann@example.com", password: "correct horse battery", name: "Ann" };

  test("a user signs up, logs in elsewhere, sees both sessions, ends one, and logs out", async () => {
    const { sessiond, tables, newBrowser } = startApplication();
    const [laptop, phone] = [newBrowser(), newBrowser()];
    expect((await laptop("/sign-up/email", ann)).status).toBe(200);
    expect((await phone("/sign-in/email", ann)).status).toBe(200);
    const { user, session } = (await current(phone)) as Current;
    expect(user).toMatchObject({ email: ann.email });
    const userId = user.id;
    expect(await sessiond.countSessions({ userId })).toBe(2);
    const verified = await sessiond.verifySession(session.token);
    expect(verified).toMatchObject({ userId, client: { userAgent: "Firefox" } });
    expect(tables["session"]).toEqual([]);

    expect(await (await laptop("/list-sessions")).json()).toHaveLength(2);
    await laptop("/revoke-session", { token: session.token });
    expect(await current(phone)).toBeNull();
    expect(await current(laptop)).toMatchObject({ user: { id: userId } });
    await laptop("/sign-out", {});
    expect(await sessiond.countSessions({ userId })).toBe(0);
  });

  test("a session that any service revokes is gone from better-auth at once, and for good", async () => {
    const { sessiond, newBrowser } = startApplication();
    const browser = newBrowser();
    await browser("/sign-up/email", ann);
    const { user } = (await current(browser)) as Current;
    expect(await sessiond.revokeUserSessions(user.id)).toBe(1);
    expect(await current(browser)).toBeNull();
  });

  test("an outage is an error, and logs nobody out", async () => {
    const port = Number(new URL(server.grpcUrl).port);
    const network = await startTcpFaultProxy({ host: "127.0.0.1", port });
    onTestFinished(() => network[Symbol.asyncDispose]());
    const { newBrowser } = startApplication(`http://127.0.0.1:${network.port}`);
    const browser = newBrowser();
    await browser("/sign-up/email", ann);
    network.refuse();
    await expect(browser("/get-session")).rejects.toMatchObject({ reason: "UNAVAILABLE" });
    network.pass();
    const loggedIn = async () => (await current(browser))?.user.name;
    await expect.poll(loggedIn, { timeout: 10_000 }).toBe("Ann");
  });

  test("parallel changes of a session keep each other, and bring no ended session back", async () => {
    const { sessiond } = startApplication();
    const options = {
      session: {
        additionalFields: {
          count: { type: "number", required: false },
          theme: { type: "string", required: false },
        },
      },
    } as const;
    const database = memoryAdapter({ user: [], session: [] });
    const adapter = sessiondAdapter({ client: sessiond, database })(options);
    const token = randomBytes(24).toString("base64url");
    const where = [{ field: "token", value: token }];
    const times = soon();
    const row = { token, userId: "ann", ...times, count: 0 };
    await adapter.create({ model: "session", data: row });
    const change = { model: "session", where };
    await Promise.all([
      adapter.incrementOne({ ...change, increment: { count: 1 } }),
      adapter.incrementOne({ ...change, increment: { count: 1 } }),
      adapter.update({ ...change, update: { theme: "dark" } }),
    ]);
    const found = await adapter.findOne({ model: "session", where });
    expect(found).toMatchObject({ count: 2, theme: "dark", expiresAt: times.expiresAt });
    const consumed = await Promise.all([adapter.consumeOne(change), adapter.consumeOne(change)]);
    expect(consumed.filter((each) => each !== null)).toHaveLength(1);
    expect(await adapter.update({ ...change, update: { theme: "light" } })).toBeNull();
    expect(await adapter.findOne({ model: "session", where })).toBeNull();
  });

  test("a change of many sessions leaves sessiond free for other callers", async () => {
    let [underWay, mostUnderWay, changes] = [0, 0, 0];
    const updateSession: SessionClient["updateSession"] = async (...args) => {
      changes++;
      mostUnderWay = Math.max(mostUnderWay, ++underWay);
      return client.updateSession(...args).finally(() => underWay--) as never;
    };
    const counting = new Proxy(client, {
      get: (_, name) =>
        name === "updateSession" ? updateSession : Reflect.get(client, name).bind(client),
    });
    const adapter = sessiondAdapter({ client: counting, database: memoryAdapter({}) })({});
    const userId = randomBytes(8).toString("hex");
    for (let i = 0; i < 20; i++) {
      const token = randomBytes(24).toString("base64url");
      await adapter.create({ model: "session", data: { token, userId, ...soon() } });
    }
    const where = [{ field: "userId", value: userId }];
    const update = { updatedAt: new Date(0) };
    expect(await adapter.updateMany({ model: "session", where, update })).toBe(20);
    expect({ changes, mostUnderWay }).toEqual({ changes: 20, mostUnderWay: 1 });
  });

  test("a session joins with its user in a table of any name, and with no other table", async () => {
    const { sessiond } = startApplication();
    const database = memoryAdapter({ people: [{ id: "ann", name: "Ann" }], session: [] });
    const options = { user: { modelName: "people" } };
    const adapter = sessiondAdapter({ client: sessiond, database })(options);
    const token = randomBytes(24).toString("base64url");
    await adapter.create({ model: "session", data: { token, userId: "ann", ...soon() } });
    const read = { model: "session", where: [{ field: "token", value: token }] };
    const joined = await adapter.findOne({ ...read, join: { people: true } });
    expect(joined).toMatchObject({ token, people: { name: "Ann" } });
    const other = adapter.findOne({ ...read, join: { userBadges: true } });
    await expect(other).rejects.toThrow("not session with userBadges");
  });

  test("sessiond's policy limits wrong passwords, with the time to wait", async () => {
    const { newBrowser } = startApplication();
    const browser = newBrowser();
    await browser("/sign-up/email", ann);
    const wrong = { ...ann, password: "a wrong password" };
    const attempts: Response[] = [];
    for (let i = 0; i < 11; i++) attempts.push(await browser("/sign-in/email", wrong));
    const statuses = attempts.map(({ status }) => status);
    expect(statuses).toEqual([...Array(10).fill(401), 429]);
    expect(Number(attempts.at(-1)?.headers.get("x-retry-after"))).toBeGreaterThan(800);
  });
});
