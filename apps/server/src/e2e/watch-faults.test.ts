import { setTimeout as sleep } from "node:timers/promises";
import { createSessionClient, type SessionClient, type SessionEvent } from "@sessiond/client";
import { startTcpFaultProxy } from "@sessiond/core/testing";
import { expect, test } from "vitest";
import { startTestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

const CHANGES_EACH = 20;
const SESSIONS = 500;
const CHANGES = CHANGES_EACH * SESSIONS;
const WRITERS = 16;
/** A watch may lose its connection this often. */
const CUT_INTERVAL_MS = 150;

test.each(STORES)(
  "a watcher on $name that is cut off all the time is told each of 10,000 changes once, in order",
  { timeout: 120_000 },
  async ({ open }) => {
    await using store = await open();
    await using server = await startTestServer({ store: store.url });
    const port = Number(new URL(server.grpcUrl).port);
    await using proxy = await startTcpFaultProxy({ host: "127.0.0.1", port });
    const token = server.accessToken;
    using writer = createSessionClient({ baseUrl: server.grpcUrl, token });
    using watcher = createSessionClient({ baseUrl: `http://127.0.0.1:${proxy.port}`, token });
    const told: SessionEvent[] = [];
    const watch = watcher.watchSessions();
    await watch.next();
    const watching = (async () => {
      for await (const message of watch) {
        expect(message.type).not.toBe("reset");
        if (message.type === "events") told.push(...message.events);
        if (told.length >= CHANGES) return;
      }
    })();

    let cuts = 0;
    const cutting = setInterval(() => {
      cuts++;
      proxy.cut();
    }, CUT_INTERVAL_MS);
    await Promise.all(Array.from({ length: WRITERS }, (_, i) => makeChanges(writer, i)));
    clearInterval(cutting);
    await watching;
    // A second telling would come by now.
    await sleep(100);

    expect(cuts).toBeGreaterThan(10);
    expect(told).toHaveLength(CHANGES);
    const versions = Map.groupBy(told, ({ sessionId }) => sessionId);
    expect(versions.size).toBe(SESSIONS);
    const inOrder = Array.from({ length: CHANGES_EACH }, (_, i) => i + 1);
    for (const events of versions.values()) {
      expect(events.map(({ version }) => version)).toEqual(inOrder);
    }
  },
);

/** One of the writers: creates its part of the sessions, changes each of them, and ends it. */
async function makeChanges(client: SessionClient, writer: number): Promise<void> {
  for (let i = writer; i < SESSIONS; i += WRITERS) {
    const { session } = await client.createSession({ userId: `user-${i}` });
    for (let change = 2; change < CHANGES_EACH; change++) {
      await client.updateSession(session.id, { data: { change } });
    }
    await client.revokeSession({ sessionId: session.id });
  }
}
