import type { ConnectRouter } from "@connectrpc/connect";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { callerKey, nameOf } from "../auth/caller.js";
import type { CallerNames } from "./caller-names.js";
import { fromAcquireRequest, fromTtl, toLockFields } from "./lock-messages.js";
import type { Namespaces } from "./namespaces.js";

/** LockService: each handler converts, calls the domain, and converts back. */
export function lockRoutes(
  namespaces: Namespaces,
  names: CallerNames,
): (router: ConnectRouter) => void {
  return (router) =>
    router.service(LockService, {
      async acquireLock(request, { values, signal }) {
        const { locks } = namespaces.of(values);
        const caller = values.get(callerKey);
        if (caller !== undefined) names.use(caller, `lock ${request.name}`);
        const acquire = fromAcquireRequest(request, nameOf(caller), signal);
        const { lockId, ...lock } = await locks.acquire(acquire);
        return { lockId, ...toLockFields(lock) };
      },

      async renewLock(request, { values }) {
        const { locks } = namespaces.of(values);
        const { name, lockId } = request;
        return toLockFields(await locks.renew(name, lockId, fromTtl(request)));
      },

      async releaseLock({ name, lockId }, { values }) {
        const { locks } = namespaces.of(values);
        await locks.release(name, lockId);
        return {};
      },

      async getLock({ name }, { values }) {
        const { locks } = namespaces.of(values);
        const lock = await locks.get(name);
        return lock === undefined ? { held: false } : { held: true, ...toLockFields(lock) };
      },
    });
}
