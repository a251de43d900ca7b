// A process that has locks, to be stopped for longer than their leases last. It is
// told what to do by lines on stdin, and tells what came of it in lines of JSON.
import { createInterface } from "node:readline";
import { createSessionClient, SessiondError } from "@sessiond/client";

const [baseUrl = "", token = "", sessionId = ""] = process.argv.slice(2);
const TTL_MS = 1_000;

using client = createSessionClient({ baseUrl, token });
const tell = (fact: object) => process.stdout.write(`${JSON.stringify(fact)}\n`);

/** What a call came to: "done", or why it failed. */
async function outcomeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return "done";
  } catch (error) {
    return error instanceof SessiondError ? error.reason : String(error);
  }
}

const lock = await client.locks.acquire("by-hand", { ttlMs: TTL_MS });
const kept = client.locks.withLock("kept", { ttlMs: TTL_MS }, async ({ signal }) => {
  tell({ held: lock.fencingToken });
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  tell({ aborted: true });
});
const keptOutcome = outcomeOf(kept);

for await (const _line of createInterface({ input: process.stdin })) {
  const fence = { lock: lock.name, token: lock.fencingToken };
  const update = client.updateSession(sessionId, { setData: { writer: "late" } }, { fence });
  tell({
    update: await outcomeOf(update),
    renew: await outcomeOf(client.locks.renew(lock, { ttlMs: TTL_MS })),
    release: await outcomeOf(client.locks.release(lock)),
    kept: await keptOutcome,
  });
  break;
}
