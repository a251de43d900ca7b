import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { createSessionClient } from "@sessiond/client";
import { expect, test } from "vitest";
import { startTestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

const HOLDER = new URL("lock-holder.test.child.ts", import.meta.url);
/** Well beyond the second that the holder's leases last. */
const PAUSE_MS = 2_500;

type Fact = Readonly<Record<string, unknown>>;

/** The facts that a process tells, one per line, as they come. */
async function* factsOf({ stdout }: ChildProcess): AsyncGenerator<Fact, never> {
  if (stdout !== null) {
    for await (const line of createInterface({ input: stdout })) yield JSON.parse(line);
  }
  throw new Error("the process has ended");
}

test.each(STORES)(
  "a holder that was stopped past its lease has lost the lock on $name, and nothing it writes is taken",
  async ({ open }) => {
    await using store = await open();
    await using server = await startTestServer({ store: store.url });
    using client = createSessionClient({ baseUrl: server.grpcUrl, token: server.accessToken });
    const { session } = await client.createSession({ userId: "ann", data: { writer: "none" } });

    const args = [HOLDER.pathname, server.grpcUrl, server.accessToken, session.id];
    const holder = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
    try {
      const facts = factsOf(holder);
      const { value } = await facts.next();
      holder.kill("SIGSTOP");
      await sleep(PAUSE_MS);

      const next = await client.locks.acquire("by-hand", { waitTimeoutMs: 0 });
      expect(next.fencingToken).toBeGreaterThan(Number(value["held"]));
      const fence = { lock: next.name, token: next.fencingToken };
      await client.updateSession(session.id, { setData: { writer: "next" } }, { fence });

      holder.kill("SIGCONT");
      expect((await facts.next()).value).toEqual({ aborted: true });
      holder.stdin.write("go\n");
      expect((await facts.next()).value).toEqual({
        update: "LOCK_NOT_HELD",
        renew: "LOCK_NOT_HELD",
        release: "LOCK_NOT_HELD",
        kept: "LOCK_NOT_HELD",
      });
      expect((await client.getSession(session.id))?.data).toEqual({ writer: "next" });
      // Nor did any of it take the lock from whoever has it.
      expect(await client.locks.get("by-hand")).toMatchObject({ fencingToken: next.fencingToken });
    } finally {
      holder.kill("SIGKILL");
    }
  },
);
