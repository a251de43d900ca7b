import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { createSessionClient } from "@sessiond/client";
import { expect, test } from "vitest";
import { startTestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

const TTL_MS = 1_000;
/** Well beyond the time that the holder's leases last. */
const PAUSE_MS = 2_500;

/**
 * A process that has two locks, one of them with its work. It tells in lines of JSON
 * what it holds, that its work is stopped, and what then comes of its calls.
 */
const HOLDER = `
  import { createSessionClient } from ${JSON.stringify(import.meta.resolve("@sessiond/client"))};
  const [baseUrl, token, sessionId] = process.argv.slice(1);
  const ttlMs = ${TTL_MS};
  const client = createSessionClient({ baseUrl, token });
  const tell = (fact) => console.log(JSON.stringify(fact));
  const outcomeOf = (call) => call.then(() => "done", (error) => error.reason ?? String(error));
  const lock = await client.locks.acquire("by-hand", { ttlMs });
  const kept = outcomeOf(
    client.locks.withLock("kept", { ttlMs }, async ({ signal }) => {
      tell({ held: lock.fencingToken });
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
      tell({ aborted: true });
    }),
  );
  const fence = { lock: lock.name, token: lock.fencingToken };
  tell({
    kept: await kept,
    update: await outcomeOf(client.updateSession(sessionId, { setData: { writer: "late" } }, { fence })),
    renew: await outcomeOf(client.locks.renew(lock, { ttlMs })),
    release: await outcomeOf(client.locks.release(lock)),
  });
`;

test.each(STORES)(
  "a holder that was stopped past its lease has lost the lock on $name, and nothing it writes is taken",
  async ({ open }) => {
    await using store = await open();
    await using server = await startTestServer({ store: store.url });
    using client = createSessionClient({ baseUrl: server.grpcUrl, token: server.accessToken });
    const { session } = await client.createSession({ userId: "ann", data: { writer: "none" } });
    const args = ["--input-type=module", "--eval", HOLDER];
    const argv = [server.grpcUrl, server.accessToken, session.id];
    const stdio = ["ignore", "pipe", "inherit"] as const;
    const holder = spawn(process.execPath, [...args, ...argv], { stdio: [...stdio] });
    try {
      const facts = createInterface({ input: holder.stdout })[Symbol.asyncIterator]();
      const nextFact = async () => JSON.parse((await facts.next()).value ?? "");
      const { held } = await nextFact();
      holder.kill("SIGSTOP");
      await sleep(PAUSE_MS);

      const next = await client.locks.acquire("by-hand", { waitTimeoutMs: 0 });
      expect(next.fencingToken).toBeGreaterThan(held);
      const fence = { lock: next.name, token: next.fencingToken };
      await client.updateSession(session.id, { setData: { writer: "next" } }, { fence });

      holder.kill("SIGCONT");
      expect(await nextFact()).toEqual({ aborted: true });
      const lost = "LOCK_NOT_HELD";
      expect(await nextFact()).toEqual({ kept: lost, update: lost, renew: lost, release: lost });
      expect((await client.getSession(session.id))?.data).toEqual({ writer: "next" });
      // Nor did any of it take the lock from its new holder.
      expect(await client.locks.get("by-hand")).toMatchObject({ fencingToken: next.fencingToken });
    } finally {
      holder.kill("SIGKILL");
    }
  },
);
