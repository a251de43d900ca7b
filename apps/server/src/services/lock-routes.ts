import type { ConnectRouter } from "@connectrpc/connect";
import type { Locks } from "@sessiond/core";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { fromAcquireRequest, fromTtl, toLockFields } from "./lock-messages.js";

/** LockService: each handler converts, calls the domain, and converts back. */
export function lockRoutes(locks: Locks): (router: ConnectRouter) => void {
  return (router) =>
    router.service(LockService, {
      async acquireLock(request, { signal }) {
        const { lockId, ...lock } = await locks.acquire(fromAcquireRequest(request, signal));
        return { lockId, ...toLockFields(lock) };
      },

      async renewLock(request) {
        const { name, lockId } = request;
        return toLockFields(await locks.renew(name, lockId, fromTtl(request)));
      },

      async releaseLock({ name, lockId }) {
        await locks.release(name, lockId);
        return {};
      },

      async getLock({ name }) {
        const lock = await locks.get(name);
        return lock === undefined ? { held: false } : { held: true, ...toLockFields(lock) };
      },
    });
}
