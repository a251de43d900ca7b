import { Keyring, Sessions } from "@sessiond/core";
import { SqliteSessionStore } from "@sessiond/core/sqlite";
import { expect, onTestFinished, test, vi } from "vitest";
import { inlineVerifier } from "../testing/inline-verifier.js";
import { gaugeServer } from "./gauges.js";
import { Metrics } from "./metrics.js";

const NONE = { watches: 0, watchLagMs: 0, waitingForLocks: 0 };

async function gauged() {
  const store = await SqliteSessionStore.open({ path: ":memory:" });
  onTestFinished(() => store.close());
  const metrics = new Metrics();
  const readiness = { describe: () => ({ parts: {} }) };
  gaugeServer(metrics, {
    sessions: store,
    namespaces: NONE,
    edge: { connections: 0, bufferedBytes: 0 },
    verifier: inlineVerifier(),
    readiness,
  });
  const keyring = Keyring.parse(Keyring.generateKey());
  const create = (namespace: string) =>
    new Sessions({ store, keyring, namespace }).create({ userId: "ann" });
  const active = async () => {
    const { body } = await metrics.expose(undefined);
    return /^sessiond_sessions_active (\S+)$/m.exec(body)?.[1];
  };
  return { store, create, active };
}

test("active sessions are those of all namespaces, counted once a second however many ask", async () => {
  const { store, create, active } = await gauged();
  const namespaces = vi.spyOn(store, "namespaces");
  await create("");
  await create("shop");
  expect(await Promise.all([active(), active(), active()])).toEqual(["2", "2", "2"]);
  expect(namespaces).toHaveBeenCalledTimes(1);
  await create("shop");
  await expect.poll(active, { timeout: 3_000, interval: 100 }).toBe("3");
});

test("a count that failed is no answer, and is made again by the next scrape", async () => {
  const { store, create, active } = await gauged();
  await create("");
  vi.spyOn(store, "namespaces").mockRejectedValueOnce(new Error("gone"));
  expect(await active()).toBeUndefined();
  expect(await active()).toBe("1");
});
