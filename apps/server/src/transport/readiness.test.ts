import { SqliteSessionStore } from "@sessiond/core/sqlite";
import { afterEach, beforeEach, expect, test } from "vitest";
import { inlineVerifier } from "../testing/inline-verifier.js";
import { recordLog } from "../testing/test-server.js";
import { Readiness } from "./readiness.js";

const NOW = expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);

let store: SqliteSessionStore;
let readiness: Readiness;
beforeEach(async () => {
  store = await SqliteSessionStore.open({ path: ":memory:" });
  readiness = new Readiness(store, inlineVerifier(), recordLog().logger);
});
afterEach(async () => {
  readiness.stop();
  await store.close();
});

test("a server is not ready before its store was first asked", async () => {
  expect(readiness.describe()).toEqual({ status: "starting", parts: {} });
  await readiness.start();
  expect(readiness.describe()).toEqual({
    status: "ready",
    parts: {
      store: { ready: true, since: NOW },
      issuer_keys: { ready: true, since: NOW, never_fetched: [] },
    },
  });
});

test("a server that stops is not ready again, whatever a late answer of its store says", async () => {
  const { promise, resolve: answer } = Promise.withResolvers<undefined>();
  store.check = () => promise;
  const started = readiness.start();
  readiness.stop();
  answer(undefined);
  await started;
  expect([readiness.isReady, readiness.describe().status]).toEqual([false, "stopping"]);
});

test("a part keeps the time since when it is not ready, and has another once it is", async () => {
  store.check = () => Promise.reject(new Error("gone"));
  await readiness.start();
  const { store: first } = readiness.describe().parts;
  expect(first).toEqual({ ready: false, since: NOW });
  await expect
    .poll(() => readiness.describe().parts.store, { timeout: 3_000, interval: 1_200 })
    .toEqual(first);
  store.check = async () => undefined;
  await expect.poll(() => readiness.isReady, { timeout: 3_000 }).toBe(true);
  expect(Date.parse(readiness.describe().parts.store?.since ?? "")).toBeGreaterThan(
    Date.parse(first?.since ?? ""),
  );
});

test("who watches health is told of changes only", async () => {
  const told: string[] = [];
  const { health } = readiness;
  const setStatus = health.setStatus.bind(health);
  health.setStatus = (name, status) => {
    if (name === "") told.push(status);
    setStatus(name, status);
  };
  await readiness.start();
  await readiness.start();
  readiness.stop();
  expect(told).toEqual(["SERVING", "NOT_SERVING"]);
});
