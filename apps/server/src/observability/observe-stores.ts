import {
  type EventLog,
  type LockStore,
  type RateLimitStore,
  SessiondError,
  type SessionStore,
} from "@sessiond/core";
import type { Metrics } from "./metrics.js";
import type { AroundStoreCall } from "./tracing.js";

/** Everything that a server stores. */
interface Stores {
  readonly sessions: SessionStore;
  readonly locks: LockStore;
  readonly rateLimits: RateLimitStore;
}

/** The methods of a store that ask it something. */
type Method<Store> = Exclude<
  keyof Store,
  "namespace" | "events" | "subscribe" | "onRelease" | "close"
>;
type Answer<Store, M extends keyof Store> = Store[M] extends (...args: never) => Promise<infer T>
  ? T
  : never;

/** The operation that a method is in metrics, and what its answers say besides. */
type Operations<Store> = {
  readonly [M in Method<Store>]:
    | string
    | readonly [operation: string, count: (answer: Answer<Store, M>) => void];
};

/** What observes the calls of stores. */
interface Observers {
  readonly metrics: Metrics;
  /** Records the calls in traces, if there are any. */
  readonly around?: AroundStoreCall | undefined;
}

/**
 * The same stores, but metrics tell how long each operation took, how it failed, and which sessions
 * it created and ended. Whoever ends a session learns of it from the store's answer, so nothing is
 * counted twice. A call that got no answer (STORE_UNAVAILABLE) counts nothing, whether its change
 * was made or not: each of these can put created minus ended off by as many sessions as it changed.
 */
export function observeStores<S extends Stores>(stores: S, observers: Observers): S {
  return {
    ...stores,
    sessions: observeSessions(stores.sessions, observers),
    locks: observeLocks(stores.locks, observers),
    rateLimits: observeRateLimits(stores.rateLimits, observers),
  };
}

function observeSessions(store: SessionStore, observers: Observers): SessionStore {
  const { metrics } = observers;
  const created = metrics.counter("sessiond_sessions_created_total", {});
  const ended = (cause: "revoked" | "evicted" | "expired" | "reused") =>
    metrics.counter("sessiond_sessions_ended_total", { cause });
  const [revoked, evicted, expired, reused] = [
    ended("revoked"),
    ended("evicted"),
    ended("expired"),
    ended("reused"),
  ];
  const written = metrics.counter("sessiond_touches_total", { written: "true" });
  const operations: Operations<SessionStore> = {
    namespaces: "list_namespaces",
    create: [
      "create_session",
      ({ evictedIds }) => {
        created.add();
        evicted.add(evictedIds.length);
      },
    ],
    createOnce: [
      "create_session",
      (answer) => {
        // A repetition answers what the first call did, which was counted then.
        if ("repeated" in answer) return;
        created.add();
        evicted.add(answer.evictedIds.length);
      },
    ],
    partitionOf: "find_partition",
    get: "get_session",
    getMany: "get_sessions",
    touch: ["touch_session", (touched) => touched && written.add()],
    replaceRecord: "update_session",
    reseal: "reseal_session",
    rotateToken: "rotate_token",
    rotateTokenOnce: "rotate_token",
    reportReuse: ["report_reuse", (isRevoked) => isRevoked && reused.add()],
    revoke: ["revoke_session", (isRevoked) => isRevoked && revoked.add()],
    revokeUser: ["revoke_user", (count = 0) => revoked.add(count)],
    list: "list_sessions",
    count: "count_sessions",
    sweep: ["sweep", (swept) => expired.add(swept.expired)],
    check: "check",
  };
  const observe = observer(operations, observers);
  const reads: Operations<EventLog> = { end: "find_events_end", read: "read_events" };
  const observeLog = observer(reads, observers);
  const view = (seen: SessionStore): SessionStore => ({
    ...observe(seen),
    namespace: (name, author) => view(seen.namespace(name, author)),
    events: {
      ...observeLog(seen.events),
      subscribe: (listener) => seen.events.subscribe(listener),
    },
    close: () => seen.close(),
  });
  return view(store);
}

function observeLocks(store: LockStore, observers: Observers): LockStore {
  const operations: Operations<LockStore> = {
    acquire: "acquire_lock",
    renew: "renew_lock",
    release: "release_lock",
    get: "get_lock",
  };
  const observe = observer(operations, observers);
  const view = (seen: LockStore): LockStore => ({
    ...observe(seen),
    namespace: (name) => view(seen.namespace(name)),
    onRelease: (listener) => seen.onRelease(listener),
  });
  return view(store);
}

function observeRateLimits(store: RateLimitStore, observers: Observers): RateLimitStore {
  const operations: Operations<RateLimitStore> = {
    check: "check_rate_limit",
    get: "get_rate_limit",
    reset: "reset_rate_limit",
  };
  const observe = observer(operations, observers);
  const view = (seen: RateLimitStore): RateLimitStore => ({
    ...observe(seen),
    namespace: (name) => view(seen.namespace(name)),
  });
  return view(store);
}

/**
 * Makes what observes the methods of `operations` in a store or a view. Looks up the series once,
 * because each call that changes a session has a view of its own.
 */
function observer<Store extends object>(
  operations: Operations<Store>,
  { metrics, around }: Observers,
): (store: Store) => Pick<Store, Method<Store>> {
  const errors = storeErrors(metrics);
  const meters = Object.entries<string | readonly [string, (answer: unknown) => void]>(
    operations as never,
  ).map(([method, what]) => {
    const [operation, count] = typeof what === "string" ? [what] : what;
    const seconds = metrics.histogram("sessiond_store_seconds", { operation });
    return { method, operation, count, seconds };
  });
  return (store) => {
    const asked = store as Readonly<Record<string, (...args: unknown[]) => Promise<unknown>>>;
    const methods: Record<string, unknown> = {};
    for (const { method, operation, count, seconds } of meters) {
      // Beside the call and not around it: to await the answer here would delay every read.
      methods[method] = (...args: unknown[]) => {
        const startMs = performance.now();
        const ask = () => asked[method]?.(...args) as Promise<unknown>;
        const answer = around === undefined ? ask() : around(operation, ask);
        answer.then(
          (value) => {
            seconds.observeMs(performance.now() - startMs);
            count?.(value);
          },
          (error) => {
            seconds.observeMs(performance.now() - startMs);
            errors.count(error);
          },
        );
        return answer;
      };
    }
    return methods as Pick<Store, Method<Store>>;
  };
}

function storeErrors(metrics: Metrics) {
  const of = (kind: "unavailable" | "full" | "internal") =>
    metrics.counter("sessiond_store_errors_total", { kind });
  const [unavailable, full, internal] = [of("unavailable"), of("full"), of("internal")];
  return {
    /** A refusal, such as SESSION_LIMIT_REACHED, is an answer. */
    count(error: unknown): void {
      if (!(error instanceof SessiondError)) internal.add();
      else if (error.reason === "STORE_UNAVAILABLE") unavailable.add();
      else if (error.reason === "OVERLOADED") full.add();
    },
  };
}
