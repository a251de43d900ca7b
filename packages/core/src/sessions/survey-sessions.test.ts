import { expect, test } from "vitest";
import { Keyring } from "./keyring.js";
import { Sessions } from "./sessions.js";
import {
  create,
  createUnreadable,
  key,
  keyring,
  store,
  useSessions,
} from "./sessions.test.fixture.js";
import { countSessions, surveySessions } from "./survey-sessions.js";

useSessions();

const NEVER_ENDING_MS = 60_000;

test("a survey tells under which keys sessions are sealed, of all namespaces and ended ones too", async () => {
  await create();
  const shop = new Sessions({
    store: store.namespace("shop"),
    keyring: keyring.forNamespace("shop"),
  });
  const { session } = await shop.create({ userId: "bob" });
  await shop.revoke({ sessionId: session.id });
  await createUnreadable();

  expect(await surveySessions(store, Keyring.parse(key), NEVER_ENDING_MS)).toEqual({
    seen: 3,
    isComplete: true,
    keys: new Map([
      ["k1", { sessions: 2, unreadable: 0 }],
      ["lost", { sessions: 1, unreadable: 1 }],
    ]),
  });
  expect(await countSessions(store)).toBe(2);
});

test("a survey without time looks at a page, and says that there is more", async () => {
  await Promise.all(Array.from({ length: 501 }, (_, i) => create({ userId: `user-${i}` })));
  const survey = await surveySessions(store, keyring, -1);
  expect(survey).toMatchObject({ seen: 500, isComplete: false });
});
