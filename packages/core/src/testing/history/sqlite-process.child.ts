import { SessiondError } from "../../errors.js";
import { SqliteSessionStore } from "../../sqlite/sqlite-session-store.js";
import type { StoreReply, StoreRequest } from "./sqlite-process.js";

// A server's store in a process of its own: makes the calls that it is sent and sends the
// answers. `reopen` closes the file, with calls under way or not, and opens it again.

const [path = ""] = process.argv.slice(2);
let store = await SqliteSessionStore.open({ path });

async function answer({ method, args }: StoreRequest): Promise<unknown> {
  if (method !== "reopen") {
    const call = store[method] as (...args: unknown[]) => Promise<unknown>;
    return call.apply(store, [...args]);
  }
  await store.close();
  store = await SqliteSessionStore.open({ path });
  return undefined;
}

function send(reply: StoreReply): void {
  process.send?.(reply);
}

process.on("message", (request: StoreRequest) => {
  const { id } = request;
  answer(request).then(
    (value) => send({ id, value }),
    (error: unknown) => {
      const message = error instanceof Error ? error.message : String(error);
      const reason = error instanceof SessiondError ? error.reason : undefined;
      send({ id, failure: { message, reason } });
    },
  );
});
process.on("disconnect", () => process.exit());
send({ id: 0, value: "opened" });
