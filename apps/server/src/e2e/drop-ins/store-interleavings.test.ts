import { randomBytes } from "node:crypto";
import { createSessionClient, type SessionClient } from "@sessiond/client";
import { SessiondStore } from "@sessiond/express-session";
import type { Request } from "express";
import session, { type SessionData } from "express-session";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { useTestServer } from "../../testing/test-server.js";
import { STORES } from "../../testing/test-stores.js";

/** What a request does with the session that it has read. */
const STEPS = ["write", "log in", "touch", "write a copy", "destroy"] as const;
type Step = (typeof STEPS)[number];

/** The client, each of whose calls waits until the scheduler lets it go. */
function scheduled(client: SessionClient, scheduler: fc.Scheduler): SessionClient {
  const names = new Set(["createSession", "updateSession", "verifySession", "revokeSession"]);
  return new Proxy(client, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      const method = value.bind(target);
      if (!names.has(String(name))) return method;
      // The scheduler must see no rejection, because it leaves it unhandled.
      const settled = async (...args: unknown[]) =>
        (await Promise.allSettled([method(...args)]))[0];
      const ordered = scheduler.scheduleFunction(settled);
      return async (...args: unknown[]) => {
        const outcome = await ordered(...args);
        if (outcome.status === "rejected") throw outcome.reason;
        return outcome.value;
      };
    },
  });
}

/** A session as a request has it, read under an id. */
async function read(store: SessiondStore, sid: string): Promise<SessionData> {
  const data = await store.get(sid);
  if (data === null || data === undefined) throw new Error("the guest has no session");
  return store.createSession({ sessionID: sid } as Request, data);
}

async function take(step: Step, store: SessiondStore, sid: string, data: SessionData) {
  if (step === "destroy") return store.destroy(sid);
  if (step === "touch") return store.touch(sid, data);
  if (step === "log in") data.user = sid;
  data.count = 1;
  // A copy does not show where it comes from, as the sessions of @fastify/session do not.
  return store.set(sid, step === "write a copy" ? JSON.parse(JSON.stringify(data)) : data);
}

describe.each(STORES)("whatever order a store's calls to sessiond on $name take,", ({ open }) => {
  const server = useTestServer({ open });

  test("what was destroyed stays so, and otherwise one session is left, of the last user", async () => {
    const client = createSessionClient({ baseUrl: server.grpcUrl, token: server.accessToken });
    onTestFinished(() => client.close());
    const user = (data: SessionData) => data.user;
    const steps = fc.array(fc.constantFrom(...STEPS), { minLength: 2, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(steps, fc.scheduler(), async (steps, scheduler) => {
        const sid = randomBytes(24).toString("base64url");
        const quiet = new SessiondStore({ client, user });
        const cookie = Object.assign(new session.Cookie(), { maxAge: 60_000 });
        await quiet.set(sid, { cookie });
        const store = new SessiondStore({ client: scheduled(client, scheduler), user });
        const reads = Promise.all(steps.map(() => read(store, sid)));
        const requests = await scheduler.waitFor(reads);
        const taken = requests.map((data, i) => take(steps[i] ?? "touch", store, sid, data));
        await scheduler.waitFor(Promise.all(taken));

        const current = await quiet.get(sid);
        const guest = (await client.verifySession(sid))?.userId ?? sid;
        const owners = [...new Set([sid, guest])];
        const counts = owners.map((userId) => client.countSessions({ userId }));
        const active = (await Promise.all(counts)).reduce((sum, count) => sum + count);
        if (steps.includes("destroy")) {
          expect([current, active]).toEqual([null, 0]);
          for (const data of requests) await quiet.set(sid, data);
          expect(await quiet.get(sid)).toBeNull();
        } else if (steps.includes("write a copy")) {
          // A guest's copy over the session of a user is a logout.
          expect(active).toBe(current === null ? 0 : 1);
        } else {
          expect(active).toBe(1);
          expect(current?.user).toBe(steps.includes("log in") ? sid : undefined);
        }
      }),
      { numRuns: 60 },
    );
  });
});
