import { SqliteSessionStore } from "@sessiond/core/sqlite";
import { pino } from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Readiness } from "./readiness.js";

let store: SqliteSessionStore;
let readiness: Readiness;
beforeEach(async () => {
  store = await SqliteSessionStore.open({ path: ":memory:" });
  readiness = new Readiness(store, pino({ level: "silent" }));
});
afterEach(async () => {
  readiness.stop();
  await store.close();
});

test("a server is not ready before its store was first asked", async () => {
  expect([readiness.isReady, readiness.describe()]).toEqual([false, "starting"]);
  await readiness.start();
  expect([readiness.isReady, readiness.describe()]).toEqual([true, "ready"]);
});

test("a server that stops is not ready again, whatever a late answer of its store says", async () => {
  const { promise, resolve: answer } = Promise.withResolvers<undefined>();
  store.check = () => promise;
  const started = readiness.start();
  readiness.stop();
  answer(undefined);
  await started;
  expect([readiness.isReady, readiness.describe()]).toEqual([false, "stopping"]);
});
