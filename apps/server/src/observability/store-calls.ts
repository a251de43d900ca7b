import type { LockStore, RateLimitStore, SessionStore } from "@sessiond/core";
import type { AroundStoreCall } from "./tracing.js";

/** The stores of a server. */
interface Stores {
  readonly sessions: SessionStore;
  readonly locks: LockStore;
  readonly rateLimits: RateLimitStore;
}

/** The methods that call a store, each with the operation that it is. */
const SESSION_OPERATIONS = {
  namespaces: "list_namespaces",
  create: "create_session",
  createOnce: "create_session",
  partitionOf: "find_partition",
  get: "get_session",
  getMany: "get_sessions",
  touch: "touch_session",
  replaceRecord: "update_session",
  reseal: "reseal_session",
  rotateToken: "rotate_token",
  rotateTokenOnce: "rotate_token",
  reportReuse: "report_reuse",
  revoke: "revoke_session",
  revokeUser: "revoke_user",
  list: "list_sessions",
  count: "count_sessions",
  sweep: "sweep",
  check: "check",
} as const;
const EVENT_OPERATIONS = { end: "find_events_end", read: "read_events" } as const;
const LOCK_OPERATIONS = {
  acquire: "acquire_lock",
  renew: "renew_lock",
  release: "release_lock",
  get: "get_lock",
} as const;
const RATE_LIMIT_OPERATIONS = {
  check: "check_rate_limit",
  get: "get_rate_limit",
  reset: "reset_rate_limit",
} as const;

/**
 * The same stores, with `around` around every call. A new method of a store does not compile until
 * it has an operation here.
 */
export function traceStores<S extends Stores>(stores: S, around: AroundStoreCall): S {
  return {
    ...stores,
    sessions: observeSessions(stores.sessions, around),
    locks: observeLocks(stores.locks, around),
    rateLimits: observeRateLimits(stores.rateLimits, around),
  };
}

function observeSessions(store: SessionStore, around: AroundStoreCall): SessionStore {
  const { events } = store;
  return {
    ...observe(store, SESSION_OPERATIONS, around),
    events: {
      ...observe(events, EVENT_OPERATIONS, around),
      subscribe: (listener) => events.subscribe(listener),
    },
    namespace: (name) => observeSessions(store.namespace(name), around),
    close: () => store.close(),
  };
}

function observeLocks(store: LockStore, around: AroundStoreCall): LockStore {
  return {
    ...observe(store, LOCK_OPERATIONS, around),
    onRelease: (listener) => store.onRelease(listener),
    namespace: (name) => observeLocks(store.namespace(name), around),
  };
}

function observeRateLimits(store: RateLimitStore, around: AroundStoreCall): RateLimitStore {
  return {
    ...observe(store, RATE_LIMIT_OPERATIONS, around),
    namespace: (name) => observeRateLimits(store.namespace(name), around),
  };
}

/** The methods of `operations`, each with `around` around it. */
function observe<T extends object, Name extends keyof T>(
  store: T,
  operations: Readonly<Record<Name, string>>,
  around: AroundStoreCall,
): Pick<T, Name> {
  const methods = Object.entries<string>(operations).map(([name, operation]) => {
    const call = (args: unknown[]) =>
      (store[name as Name] as (...args: unknown[]) => Promise<unknown>)(...args);
    return [name, (...args: unknown[]) => around(operation, () => call(args))];
  });
  return Object.fromEntries(methods);
}
