import { setTimeout as sleep } from "node:timers/promises";
import { createSessionClient, type SessionClient, type SessionEvent } from "@sessiond/client";
import { startTcpFaultProxy } from "@sessiond/core/testing";
import { describe, expect, test } from "vitest";
import { startTestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

const CHANGES = 10_000;
const SESSIONS = 500;
const WRITERS = 16;
/** A watch may lose its connection this often. */
const CUT_INTERVAL_MS = 150;

describe.each(STORES)("on $name", ({ open }) => {
  test("a watcher that is cut off all the time is told each of 10,000 changes once, in order", {
    timeout: 120_000,
  }, async () => {
    await using store = await open();
    await using server = await startTestServer({ store: store.url });
    const [host = "", port] = server.grpcAddress.split(":");
    await using proxy = await startTcpFaultProxy({ host, port: Number(port) });
    using writer = createSessionClient({ baseUrl: server.grpcUrl, token: server.accessToken });
    using watcher = createSessionClient({
      baseUrl: `http://127.0.0.1:${proxy.port}`,
      token: server.accessToken,
    });
    const told: SessionEvent[] = [];
    const isReady = Promise.withResolvers<void>();
    const watching = (async () => {
      for await (const message of watcher.watchSessions()) {
        expect(message.type).not.toBe("reset");
        isReady.resolve();
        if (message.type === "events") told.push(...message.events);
        if (told.length >= CHANGES) return;
      }
    })();
    await isReady.promise;

    let cuts = 0;
    const cutting = setInterval(() => {
      cuts++;
      proxy.cut();
    }, CUT_INTERVAL_MS);
    const made = await makeChanges(writer);
    clearInterval(cutting);
    await watching;
    // A second telling would come by now.
    await sleep(100);

    expect(cuts).toBeGreaterThan(10);
    expect(told).toHaveLength(CHANGES);
    const versions = Map.groupBy(told, ({ sessionId }) => sessionId);
    for (const [id, lastVersion] of made) {
      expect(versions.get(id)?.map(({ version }) => version)).toEqual(
        Array.from({ length: lastVersion }, (_, i) => i + 1),
      );
    }
  });
});

/** Creates sessions and changes them, many at once. Answers how often each was changed. */
async function makeChanges(client: SessionClient): Promise<ReadonlyMap<string, number>> {
  const perSession = CHANGES / SESSIONS;
  const made = new Map<string, number>();
  let next = 0;
  const write = async () => {
    while (next < SESSIONS) {
      const { session } = await client.createSession({ userId: `user-${next++}` });
      for (let change = 2; change < perSession; change++) {
        await client.updateSession(session.id, { data: { change } });
      }
      await client.revokeSession({ sessionId: session.id });
      made.set(session.id, perSession);
    }
  };
  await Promise.all(Array.from({ length: WRITERS }, write));
  return made;
}
