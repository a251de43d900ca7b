import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { createSessionClient, hashCredential, type SessionClient } from "@sessiond/client";
import { startTcpFaultProxy } from "@sessiond/core/testing";
import { SessiondStore, type SessiondStoreOptions } from "@sessiond/express-session";
import express, { type RequestHandler } from "express";
import session, { type SessionData } from "express-session";
import { describe, expect, onTestFinished, test } from "vitest";
import { useTestServer } from "../../testing/test-server.js";
import { STORES } from "../../testing/test-stores.js";
import { type Browser, browserOn, expectOwnCount } from "./browser.test.fixture.js";

declare module "express-session" {
  interface SessionData {
    user?: string | undefined;
    count?: number;
  }
}

const newSid = () => randomBytes(24).toString("base64url");
const cookieOf = (maxAge: number) => Object.assign(new session.Cookie(), { maxAge });
/** A session as express-session passes it to a store. */
const sessionOf = (fields: Partial<SessionData> = {}): SessionData => ({
  cookie: cookieOf(60_000),
  ...fields,
});
async function collect<T>(values: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const value of values) collected.push(value);
  return collected;
}
const userOf = (data: SessionData) => data.user;

describe.each(STORES)("express-session on sessiond and $name", ({ open }) => {
  const server = useTestServer({ open });
  const openClient = (baseUrl = server.grpcUrl, timeoutMs = 10_000): SessionClient => {
    const client = createSessionClient({ baseUrl, token: server.accessToken, timeoutMs });
    onTestFinished(() => client.close());
    return client;
  };
  const openStore = (options: Partial<SessiondStoreOptions> = {}) => {
    const client = openClient();
    return { client, store: new SessiondStore({ client, user: userOf, ...options }) };
  };
  const browse = async (
    store: SessiondStore,
    routes: Record<string, RequestHandler>,
    options: Partial<session.SessionOptions> = {},
  ): Promise<Browser> => {
    const app = express();
    const defaults = { resave: false, saveUninitialized: false, secret: "keyboard cat" };
    app.use(session({ ...defaults, cookie: { maxAge: 60_000 }, store, ...options }));
    for (const [path, handler] of Object.entries(routes)) app.get(path, handler);
    app.use(((error, _request, response, _next) => {
      response.status(error.httpStatus ?? 500).send(error.message);
    }) satisfies express.ErrorRequestHandler);
    return browserOn(createServer(app));
  };
  const count: RequestHandler = ({ session }, response) => {
    session.count = (session.count ?? 0) + 1;
    response.send(String(session.count));
  };
  const whoAmI: RequestHandler = (request, response) => {
    response.send(`${request.session.user ?? "guest"} ${request.session.count ?? 0}`);
  };
  /** A login as many applications have it: without `regenerate`. */
  const logInAs =
    (user: string): RequestHandler =>
    ({ session }, response) => {
      session.user = user;
      response.send("welcome");
    };

  test("a guest's session goes on from request to request, and belongs to nobody else", async () => {
    const { client, store } = openStore();
    const ann = await browse(store, { "/": count });
    await expectOwnCount(ann);
    const users = new Set<string>();
    for await (const { userId } of client.listAllSessions()) users.add(userId);
    expect([...users].filter((user) => user.startsWith("guest:")).length).toBeGreaterThan(1);
  });

  test("a session id is nowhere in sessiond, and verifies as a token", async () => {
    const { client, store } = openStore();
    const sid = newSid();
    await store.set(sid, sessionOf({ count: 7 }));
    const found = await client.verifySession(sid);
    expect(found?.data).toMatchObject({ count: 7 });
    expect(JSON.stringify(found)).not.toContain(sid);
    expect(JSON.stringify(server.logs)).not.toContain(sid);
  });

  test("a login without regenerate replaces the guest's session by the user's", async () => {
    const { client, store } = openStore();
    const user = `ann ${newSid()}`;
    const ann = await browse(store, { "/": count, "/login": logInAs(user), "/me": whoAmI });
    await ann.text("/");
    const before = await collect(client.listAllSessions());
    await ann.text("/login");
    expect(await ann.text("/me")).toBe(`${user} 1`);
    expect(await ann.text("/")).toBe("2");
    const { sessions } = await client.listSessions({ userId: user });
    expect(sessions).toHaveLength(1);
    expect(before.map(({ id }) => id)).not.toContain(sessions[0]?.id);
    expect(await collect(client.listAllSessions())).toHaveLength(before.length);
  });

  test("a session whose user is gone from it is logged out, without destroy", async () => {
    const { client, store } = openStore();
    const user = `ann ${newSid()}`;
    const logOut: RequestHandler = ({ session }, response) => {
      session.user = undefined;
      response.send("bye");
    };
    const routes = { "/login": logInAs(user), "/logout": logOut, "/me": whoAmI };
    const ann = await browse(store, routes);
    for (let round = 0; round < 3; round++) {
      await ann.text("/login");
      expect(await ann.text("/me")).toBe(`${user} 0`);
      await ann.text("/logout");
      expect(await ann.text("/me")).toBe("guest 0");
    }
    expect(await client.countSessions({ userId: user })).toBe(0);
  });

  test("a second user under the same session id is refused, and gets nothing of the first", async () => {
    const { store } = openStore();
    // A user's session may have begun as a guest's, or with the first save.
    for (const users of [[undefined, "ann"], ["ann"]]) {
      const sid = newSid();
      for (const user of users) await store.set(sid, sessionOf({ user }));
      await expect(store.set(sid, sessionOf({ user: "bob" }))).rejects.toThrow("call regenerate()");
      expect(await store.get(sid)).toMatchObject({ user: "ann" });
    }
  });

  test("a request that was under way at the logout does not bring the session back", async () => {
    const { store } = openStore();
    const waits = Promise.withResolvers<void>();
    const entered = Promise.withResolvers<void>();
    const ann = await browse(store, {
      "/login": logInAs("ann"),
      "/me": whoAmI,
      "/slow": async ({ session }, response) => {
        entered.resolve();
        await waits.promise;
        session.count = 1;
        response.send("saved");
      },
      "/logout": ({ session }, response) => session.destroy(() => response.send("bye")),
    });
    await ann.text("/login");
    const tab = ann.copy();
    const slow = tab.text("/slow");
    await entered.promise;
    await ann.text("/logout");
    waits.resolve();
    expect(await slow).toBe("saved");
    expect(await tab.text("/me")).toBe("guest 0");
  });

  test("a touch writes no data, and costs no write until a tenth of the timeout has passed", async () => {
    const { client, store } = openStore();
    const sid = newSid();
    await store.set(sid, sessionOf({ count: 1 }));
    const before = await client.verifySession(sid, { noTouch: true });
    for (let i = 0; i < 5; i++) await store.touch(sid, sessionOf({ count: 2 }));
    const after = await client.verifySession(sid, { noTouch: true });
    expect(after).toEqual(before);
    const soon = newSid();
    await store.set(soon, { cookie: cookieOf(4_000) });
    const deadline = (await client.verifySession(soon, { noTouch: true }))?.expireTime;
    await new Promise((resolve) => setTimeout(resolve, 450));
    await store.touch(soon, sessionOf());
    const moved = (await client.verifySession(soon, { noTouch: true }))?.expireTime;
    expect(Number(moved)).toBeGreaterThan(Number(deadline));
  });

  test("an expiry in the past ends the session, by set and by touch", async () => {
    const { store } = openStore();
    for (const method of ["set", "touch"] as const) {
      const sid = newSid();
      await store.set(sid, sessionOf());
      const past = sessionOf();
      past.cookie.expires = new Date(Date.now() - 1);
      await store[method](sid, past);
      expect(await store.get(sid)).toBeNull();
    }
  });

  test("an outage is an error, and keeps the session", async () => {
    const port = Number(new URL(server.grpcUrl).port);
    const network = await startTcpFaultProxy({ host: "127.0.0.1", port });
    onTestFinished(() => network[Symbol.asyncDispose]());
    const client = openClient(`http://127.0.0.1:${network.port}`, 1_000);
    const store = new SessiondStore({ client });
    const ann = await browse(store, { "/": count });
    expect(await ann.text("/")).toBe("1");
    const [cookie] = ann.cookies.values();
    network.refuse();
    const failed = await ann.get("/");
    expect([failed.status >= 503, ...ann.cookies.values()]).toEqual([true, cookie]);
    const sid = newSid();
    const guest = sessionOf();
    const calls = [
      store.get(sid),
      store.set(sid, guest),
      store.touch(sid, guest),
      store.destroy(sid),
    ];
    const outcomes = await Promise.allSettled(calls);
    const rejected = { status: "rejected", reason: { name: "SessiondError" } };
    expect(outcomes).toMatchObject(calls.map(() => rejected));
    network.pass();
    await expect.poll(() => ann.text("/"), { timeout: 10_000 }).toBe("2");
  });

  test("data over the limit is an error that names the size, and the session stays as it was", async () => {
    const { store } = openStore();
    const sid = newSid();
    await store.set(sid, sessionOf({ count: 1 }));
    const large = { ...sessionOf(), user: "x".repeat(17_000) };
    const { length } = JSON.stringify(large);
    await expect(store.set(sid, large)).rejects.toThrow(
      `at most 16384 bytes as JSON in all, got ${length}`,
    );
    expect(await store.get(sid)).toMatchObject({ count: 1 });
  });

  test("guests have no share of a user's limit, and a user has at most ten sessions", async () => {
    const { client, store } = openStore();
    const user = `ann ${newSid()}`;
    const sids = Array.from({ length: 12 }, newSid);
    const guests = Array.from({ length: 12 }, newSid);
    for (const sid of sids) await store.set(sid, sessionOf({ user }));
    for (const sid of guests) await store.set(sid, sessionOf());
    expect(await client.countSessions({ userId: user })).toBe(10);
    for (const sid of guests) expect(await store.get(sid)).not.toBeNull();
    expect(await store.get(sids[0] ?? "")).toBeNull();
  });

  test("a session that moved in with its id goes on with its user", async () => {
    const { client, store } = openStore();
    const sid = newSid();
    const data = JSON.parse(JSON.stringify(sessionOf({ user: "ann", count: 4 })));
    await client.createSession({ userId: "ann", data, tokenHash: hashCredential(sid) });
    expect(await store.get(sid)).toMatchObject({ user: "ann", count: 4 });
    await store.set(sid, sessionOf({ user: "ann", count: 5 }));
    expect((await client.verifySession(sid))?.data).toMatchObject({ count: 5 });
  });

  test("parallel logins under one guest's id leave one session, with either's data", async () => {
    const { client, store } = openStore();
    for (let round = 0; round < 10; round++) {
      const [sid, user] = [newSid(), newSid()];
      await store.set(sid, sessionOf());
      await Promise.all([1, 2, 3].map((count) => store.set(sid, sessionOf({ user, count }))));
      expect(await store.get(sid)).toMatchObject({ user });
      expect(await client.countSessions({ userId: user })).toBe(1);
    }
  });
});
