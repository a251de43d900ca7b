import fastifyCookie from "@fastify/cookie";
import fastifySession, { type SessionStore } from "@fastify/session";
import { createSessionClient } from "@sessiond/client";
import { SessiondStore } from "@sessiond/express-session";
import fastify, { type RouteHandlerMethod } from "fastify";
import { describe, expect, onTestFinished, test } from "vitest";
import { useTestServer } from "../../testing/test-server.js";
import { STORES } from "../../testing/test-stores.js";
import { type Browser, browserOn, expectOwnCount } from "./browser.test.fixture.js";

// The cases of @fastify/session's own tests of a store. Its package on npm has no tests to run.

declare module "fastify" {
  interface Session {
    user?: string | undefined;
    count?: number;
  }
}

const count: RouteHandlerMethod = async ({ session }) => {
  session.count = (session.count ?? 0) + 1;
  return String(session.count);
};
const logIn: RouteHandlerMethod = async ({ session }) => {
  session.user = "ann";
  return "welcome";
};
const whoAmI: RouteHandlerMethod = async ({ session }) => `${session.user} ${session.count}`;

describe.each(STORES)("@fastify/session on sessiond and $name", ({ open }) => {
  const server = useTestServer({ open });

  async function browser(routes: Record<string, RouteHandlerMethod>, maxAge = 60_000) {
    const client = createSessionClient({ baseUrl: server.grpcUrl, token: server.accessToken });
    onTestFinished(() => client.close());
    const sessiondStore = new SessiondStore({ client, user: (data) => data.user });
    // Under exactOptionalPropertyTypes, the cookies of both libraries differ in `maxAge`.
    const store = sessiondStore as SessiondStore & SessionStore;
    const app = fastify();
    app.register(fastifyCookie);
    const secret = "a secret with a length of at least 32";
    app.register(fastifySession, { secret, store, cookie: { secure: false, maxAge } });
    for (const [path, handler] of Object.entries(routes)) app.get(path, handler);
    await app.ready();
    onTestFinished(() => app.close());
    const opened: Browser = await browserOn(app.server);
    return { browser: opened, client, store };
  }

  test("keeps the data of a session throughout, and of each session apart", async () => {
    const { browser: ann } = await browser({ "/": count });
    await expectOwnCount(ann);
  });

  test("saves, reloads and regenerates with promises, and ends the session of before", async () => {
    const ids: string[] = [];
    const { browser: ann, store } = await browser({
      "/": count,
      "/save": async ({ session }) => {
        session.count = 7;
        await session.save();
        await session.reload();
        return String(session.count);
      },
      "/regenerate": async (request) => {
        ids.push(request.session.sessionId);
        await request.session.regenerate(["count"]);
        ids.push(request.session.sessionId);
        return String(request.session.count);
      },
    });
    await ann.text("/");
    expect(await ann.text("/save")).toBe("7");
    expect(await ann.text("/regenerate")).toBe("7");
    expect(await ann.text("/")).toBe("8");
    const [before = "", after = ""] = ids;
    expect([await store.get(before), (await store.get(after)) !== null]).toEqual([null, true]);
  });

  test("a destroyed session is gone, and its cookie starts another one", async () => {
    const destroy: RouteHandlerMethod = async ({ session }) => {
      await session.destroy();
      return "bye";
    };
    const { browser: ann } = await browser({ "/": count, "/destroy": destroy });
    await ann.text("/");
    const tab = ann.copy();
    await ann.text("/destroy");
    expect(await tab.text("/")).toBe("1");
  });

  test("a session that has expired in the store starts over with another id", async () => {
    const { browser: ann } = await browser({ "/": count }, 200);
    await ann.text("/");
    const cookies = [...ann.cookies.values()];
    await new Promise((resolve) => setTimeout(resolve, 250));
    expect(await ann.text("/")).toBe("1");
    expect([...ann.cookies.values()]).not.toEqual(cookies);
  });

  test("a login without regenerate replaces the guest's session by the user's", async () => {
    const { browser: ann, client } = await browser({ "/": count, "/login": logIn, "/me": whoAmI });
    await ann.text("/");
    await ann.text("/login");
    expect(await ann.text("/me")).toBe("ann 1");
    expect(await client.countSessions({ userId: "ann" })).toBe(1);
  });

  test("an outage is an error, and never an empty session", async () => {
    const { browser: ann, client } = await browser({ "/": count });
    await ann.text("/");
    client.close();
    expect((await ann.get("/")).status).toBe(500);
  });
});
