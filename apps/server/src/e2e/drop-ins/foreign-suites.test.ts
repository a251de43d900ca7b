import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { createSessionClient, type SessionClient } from "@sessiond/client";
import { SessiondStore } from "@sessiond/express-session";
import type { RequestHandler } from "express";
import session, { type SessionData } from "express-session";
import { afterAll, describe, expect, test } from "vitest";
import { useTestServer } from "../../testing/test-server.js";
import { STORES } from "../../testing/test-stores.js";
import { type Exception, runSuite } from "./foreign-suite.test.fixture.js";

const require = createRequire(import.meta.url);
const DAY_MS = 86_400_000;
/** A file of a package, from the folder of its entry. */
const sourceOf = (name: string, path: string) =>
  readFileSync(join(dirname(require.resolve(name)), path), "utf8");

/** What connect-redis' suite promises of Redis, and our store does not of sessiond. */
const CONNECT_REDIS: readonly Exception[] = [
  {
    what: /test\("defaults"[\s\S]*?\n\}\)\n/,
    why: "reads the options of RedisStore",
  },
  {
    what: / *res = await store\.ids\(\)[\s\S]*?\["123", "456"\]\)\n/,
    why: "a session id is a credential, and sessiond has only its hash",
  },
  {
    what: / *res = await store\.all\(\)[\s\S]*?\n {2}\]\)\n/,
    why: "expects session ids, and that a touch leaves cookie.expires behind",
  },
  {
    what: / *ttl = await client\.ttl\("sess:456"\)\n *expect\(ttl\)\.toBeGreaterThan\(60\)\n/,
    why: "a touch with a longer maxAge: the idle timeout of a session never changes",
  },
];

/** The suite's ids, such as "123", are too short to be credentials. */
const longId = (sid: string) => sid.padStart(32, "connect_redis_suite_");

describe.each(STORES)("on sessiond and $name", ({ open }) => {
  const server = useTestServer({ open });
  const openClient = () =>
    createSessionClient({ baseUrl: server.grpcUrl, token: server.accessToken });

  /** The store that connect-redis' suite makes of its client. */
  class StoreOfSuite {
    readonly #store: SessiondStore;
    constructor({ client }: { client: { sessiond: SessionClient } }) {
      const timeouts = { idleTimeoutMs: DAY_MS, lifetimeMs: DAY_MS };
      this.#store = new SessiondStore({ client: client.sessiond, ...timeouts });
    }
    get = (sid: string) => this.#store.get(longId(sid));
    set = (sid: string, data: SessionData) => this.#store.set(longId(sid), data);
    touch = (sid: string, data: SessionData) => this.#store.touch(longId(sid), data);
    destroy = (sid: string) => this.#store.destroy(longId(sid));
    length = () => this.#store.length();
    clear = () => this.#store.clear();
  }

  function createClient() {
    const sessiond = openClient();
    const ttl = async (key: string) => {
      const found = await sessiond.verifySession(longId(key.slice("sess:".length)), {
        noTouch: true,
      });
      return Math.ceil((Number(found?.expireTime) - Date.now()) / 1_000);
    };
    return { sessiond, ttl, connect: async () => {}, destroy: () => sessiond.close() };
  }

  describe("connect-redis' own suite", async () => {
    let source = sourceOf("connect-redis", "../index_test.ts");
    for (const { what, why } of CONNECT_REDIS) {
      if (source.search(what) < 0) throw new Error(`not in the suite any more: ${why}`);
      source = source.replace(what, "");
    }
    await runSuite(source, {
      "express-session": session,
      redis: { createClient },
      vitest: {
        expect,
        test: (title: string, run: () => Promise<void>) => test(title, run, 60_000),
      },
      "./": { RedisStore: StoreOfSuite },
      "./testdata/server": { connect: async () => {}, disconnect: async () => {}, port: 0 },
    });
  });

  // Of all versions on npm, only 1.0.0 has its tests. They run on today's express-session.
  describe("express-session's own suite", async () => {
    let opened: SessionClient | undefined;
    const client = () => (opened ??= openClient());
    afterAll(() => opened?.close());
    /** Made at the first request: the suite makes an application before there is a server. */
    const onSessiond = (options: session.SessionOptions): RequestHandler => {
      let made: RequestHandler | undefined;
      return (...call) => {
        made ??= session({ store: new SessiondStore({ client: client() }), ...options });
        return made(...call);
      };
    };
    const modules = ["assert", "connect", "cookie-parser", "should", "supertest"];
    await runSuite(
      sourceOf("express-session-suite", "test/session.js"),
      {
        ...Object.fromEntries(modules.map((name) => [name, require(name)])),
        "../": Object.assign(onSessiond, session),
      },
      { describe, it: itWithDone },
    );
  });
});

/** Mocha's `it`, whose tests end with `done()`. */
function itWithDone(title: string, run: (this: void, done?: (error?: unknown) => void) => void) {
  test(title, () => {
    if (run.length === 0) return run();
    return new Promise<void>((resolve, reject) => {
      run((error) => (error ? reject(error) : resolve()));
    });
  });
}
