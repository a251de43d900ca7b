import type { SessionClient } from "@sessiond/client";
import { SessiondStore } from "@sessiond/express-session";
import { TIMES } from "./settings.ts";

/** sessiond as a store of express-session: the other way, without a change of the application. */
export function createDropInStore(client: SessionClient): SessiondStore {
  const { lifetimeMs } = TIMES;
  return new SessiondStore({
    client,
    lifetimeMs,
    user: ({ user }) => user && { id: user.userId, displayName: user.displayName ?? "" },
  });
}
