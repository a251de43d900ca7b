import { createSessionClient } from "@sessiond/client";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createSessionStorage } from "./react-router.js";
import { type Sessiond, startSessiond } from "./testing/sessiond.js";

interface Data {
  userId: string;
  theme: string;
}

let sessiond: Sessiond;
beforeAll(async () => {
  sessiond = await startSessiond();
});
afterAll(() => sessiond?.[Symbol.asyncDispose]());

const storage = (client = sessiond.client) =>
  createSessionStorage<Data>({
    client,
    user: ({ userId }) => userId && { userId },
    cookie: { allowPlainLocalhost: false },
  });

/** The `Cookie` that a browser sends after this `Set-Cookie`. */
const sent = (setCookie: string) => setCookie.split(";", 1)[0] ?? "";
const tokenIn = (cookie: string) => cookie.slice("__Host-session=".length);

test("a login gives a guest's session a new token, ends the old one, and keeps its data", async () => {
  const { getSession, commitSession } = storage();
  const guest = await getSession(null);
  guest.set("theme", "dark");
  guest.flash("userId", "");
  const planted = sent(await commitSession(guest));

  const session = await getSession(planted);
  session.unset("userId");
  session.set("userId", "ann");
  const setCookie = await commitSession(session);
  expect(setCookie).toMatch(
    /^__Host-session=sst_.*Max-Age=86400;.*HttpOnly; Secure; SameSite=Lax$/,
  );
  expect((await getSession(planted)).get("theme")).toBeUndefined();
  const now = await getSession(sent(setCookie));
  expect([now.get("userId"), now.get("theme")]).toEqual(["ann", "dark"]);
  const kept = await sessiond.client.verifySession(tokenIn(sent(setCookie)));
  expect(kept?.userId).toBe("ann");
});

test("a commit of the same user changes the data, and not the token", async () => {
  const { getSession, commitSession } = storage();
  const session = await getSession();
  session.set("userId", "bob");
  const cookie = sent(await commitSession(session));
  const again = await getSession(cookie);
  again.set("theme", "light");
  again.flash("theme", "once");
  expect(sent(await commitSession(again))).toBe(cookie);
  const read = await getSession(cookie);
  expect(read.get("theme")).toBe("light");
});

test("a session that was ended meanwhile does not come back by a commit", async () => {
  const { getSession, commitSession } = storage();
  const session = await getSession();
  session.set("userId", "cid");
  const cookie = sent(await commitSession(session));
  const late = await getSession(cookie);
  await sessiond.client.revokeUserSessions("cid");
  late.set("theme", "dark");
  expect(await commitSession(late)).toMatch(/^__Host-session=; Max-Age=0/);
  expect(await sessiond.client.countSessions({ userId: "cid" })).toBe(0);
});

test("a destroyed session is over, and a session without its user is a guest's", async () => {
  const { getSession, commitSession, destroySession } = storage();
  const session = await getSession();
  session.set("userId", "dan");
  const cookie = sent(await commitSession(session));
  const left = await getSession(cookie);
  left.unset("userId");
  const guest = sent(await commitSession(left));
  expect(await sessiond.client.countSessions({ userId: "dan" })).toBe(0);
  expect(await destroySession(await getSession(guest))).toMatch(/^__Host-session=; Max-Age=0/);
  expect(await sessiond.client.verifySession(tokenIn(guest))).toBeUndefined();
});

test("an outage is an error of status 503, never an empty session", async () => {
  const client = createSessionClient({ baseUrl: "http://127.0.0.1:1", token: "t", maxAttempts: 1 });
  const { getSession } = storage(client);
  const reading = getSession("__Host-session=sst_1");
  await expect(reading).rejects.toMatchObject({ name: "WebError", status: 503 });
  client.close();
});
