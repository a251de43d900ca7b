import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SqliteSessionStore } from "../../sqlite/index.js";
import {
  type OpenSessionStore,
  runSessionStoreCheck,
} from "../contract/sessions/session-store-check.js";
import { sessionStoreChecks } from "../contract/sessions/session-store-checks.js";
import { brokenSessionStores } from "./broken-session-stores.js";

// That a property fails is all that is asked here, not what its least counterexample is. The seed
// is always the same: a fault that only some of all sequences show is then seen every time.
fc.configureGlobal({ endOnFailure: true, seed: 1 });

const openCorrect: OpenSessionStore = async (options) => ({
  store: await SqliteSessionStore.open({ path: ":memory:", ...options }),
});

test("each promise of the contract is checked under a title of its own", () => {
  const titles = sessionStoreChecks.map(({ title }) => title);
  expect(titles).toEqual([...new Set(titles)]);
});

test("for each check there is a broken store that it must see", () => {
  const proven = new Set(brokenSessionStores.flatMap(({ caughtBy }) => caughtBy));
  expect(proven).toEqual(new Set(sessionStoreChecks.map(({ title }) => title)));
});

describe("the suite sees a store that", () => {
  for (const { fault, caughtBy, open } of brokenSessionStores) {
    // At once, because some of them keep a check waiting for what never comes.
    test.concurrent(fault, async () => {
      for (const title of caughtBy) {
        const check = sessionStoreChecks.find((one) => one.title === title);
        if (check === undefined) throw new Error(`there is no check that "${title}"`);
        await expect(runSessionStoreCheck(check, open(openCorrect)), title).rejects.toThrow();
      }
    });
  }
});
