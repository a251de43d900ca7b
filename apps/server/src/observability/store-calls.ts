import type { LockStore, RateLimitStore, SessionStore } from "@sessiond/core";

/** The stores of a server. */
export interface ObservedStores {
  readonly sessions: SessionStore;
  readonly locks: LockStore;
  readonly rateLimits: RateLimitStore;
}

/**
 * Runs a call of a store and does something around it. Answers what `call` answers, and throws what
 * it throws. `operation` is the store and the method, such as `sessions.get`: one of about thirty.
 */
export type AroundStoreCall = <T>(operation: string, call: () => Promise<T>) => Promise<T>;

const SESSION_CALLS = [
  "namespaces",
  "create",
  "createOnce",
  "partitionOf",
  "get",
  "getMany",
  "touch",
  "replaceRecord",
  "reseal",
  "rotateToken",
  "rotateTokenOnce",
  "reportReuse",
  "revoke",
  "revokeUser",
  "list",
  "count",
  "sweep",
  "check",
] as const;

/** The same stores, with `around` around every call. */
export function observeStores<S extends ObservedStores>(stores: S, around: AroundStoreCall): S {
  return {
    ...stores,
    sessions: observeSessions(stores.sessions, around),
    locks: observeLocks(stores.locks, around),
    rateLimits: observeRateLimits(stores.rateLimits, around),
  };
}

// A new method of a store does not compile until it stands here.

function observeSessions(store: SessionStore, around: AroundStoreCall): SessionStore {
  const { events } = store;
  return {
    ...observe("sessions", store, around, SESSION_CALLS),
    events: {
      ...observe("events", events, around, ["end", "read"]),
      subscribe: (listener) => events.subscribe(listener),
    },
    namespace: (name) => observeSessions(store.namespace(name), around),
    close: () => store.close(),
  };
}

function observeLocks(store: LockStore, around: AroundStoreCall): LockStore {
  return {
    ...observe("locks", store, around, ["acquire", "renew", "release", "get"]),
    onRelease: (listener) => store.onRelease(listener),
    namespace: (name) => observeLocks(store.namespace(name), around),
  };
}

function observeRateLimits(store: RateLimitStore, around: AroundStoreCall): RateLimitStore {
  return {
    ...observe("rate_limits", store, around, ["check", "get", "reset"]),
    namespace: (name) => observeRateLimits(store.namespace(name), around),
  };
}

/** The methods `names` of a store, each with `around` around it. */
function observe<T extends object, Name extends keyof T & string>(
  storeName: string,
  store: T,
  around: AroundStoreCall,
  names: readonly Name[],
): Pick<T, Name> {
  const methods = names.map((name) => {
    const method = store[name] as (...args: unknown[]) => Promise<unknown>;
    const operation = `${storeName}.${name}`;
    const observed = (...args: unknown[]) => around(operation, () => method.apply(store, args));
    return [name, observed];
  });
  return Object.fromEntries(methods);
}
