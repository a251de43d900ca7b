import { expect, test } from "vitest";
import { partitionOfUser } from "./session-id.js";
import { Sessions } from "./sessions.js";
import { invalid, keyring, refused, store, useSessions } from "./sessions.test.fixture.js";

useSessions();

const inNamespace = (namespace: string) => new Sessions({ store, keyring, namespace });
const NO_LIMIT = { maxSessionsPerUser: 100, policy: "reject" } as const;

test("a record that somebody copied into another namespace does not open there", async () => {
  for (const [own, other] of [
    ["shop", "blog"],
    ["shop", ""],
    ["", "shop"],
  ] as const) {
    const id = `jti-${own}-${other}`;
    const { token } = await inNamespace(own).create({ userId: "ann", sessionId: id });
    const key = { partition: partitionOfUser("ann"), id };
    const stored = await store.namespace(own).get(key);
    if (stored === undefined) throw new Error("expected a session");
    const { userId, record, tokenHash, idleTimeoutMs } = stored;
    const copy = { key, userId, record, tokenHash, idleTimeoutMs, lifetimeMs: 60_000 };
    await store.namespace(other).create(copy, NO_LIMIT);
    await refused(inNamespace(other).verify(token), "SESSION_UNREADABLE");
    expect(await inNamespace(own).verify(token)).toMatchObject({ id, userId });
  }
});

test("a page token of one namespace is refused in another", async () => {
  for (const name of ["", "shop", "blog"]) {
    for (let i = 0; i < 3; i++) await inNamespace(name).create({ userId: "ann" });
  }
  for (const own of ["", "shop"]) {
    const { nextPageToken: pageToken = "" } = await inNamespace(own).list({ pageSize: 1 });
    expect((await inNamespace(own).list({ pageSize: 1, pageToken })).sessions).toHaveLength(1);
    for (const other of ["", "shop", "blog"].filter((name) => name !== own)) {
      const listing = inNamespace(other).list({ pageSize: 1, pageToken });
      await expect(listing).rejects.toMatchObject(invalid("page_token"));
    }
  }
});
