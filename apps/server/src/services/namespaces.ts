import type { ContextValues, HandlerContext } from "@connectrpc/connect";
import {
  type Keyring,
  type LockStore,
  Locks,
  type Places,
  type RateLimitPolicy,
  type RateLimitStore,
  RateLimits,
  type SessionPolicy,
  type SessionStore,
  Sessions,
} from "@sessiond/core";
import { callerKey } from "../auth/caller.js";
import type { Audit } from "../observability/audit.js";
import { CallAuthor } from "./call-author.js";

/** How many namespaces a server remembers. One that it has forgotten costs microseconds to make. */
const MAX_REMEMBERED = 1_000;

/** What serves the callers of one namespace. */
export interface Namespace {
  readonly sessions: Sessions;
  readonly locks: Locks;
  readonly rateLimits: RateLimits;
}

/** What all namespaces of a server are made of. */
export interface NamespacesOptions {
  readonly stores: {
    readonly sessions: SessionStore;
    readonly locks: LockStore;
    readonly rateLimits: RateLimitStore;
  };
  readonly keyring: Keyring;
  readonly sessionPolicy: SessionPolicy;
  readonly rateLimits: readonly RateLimitPolicy[];
  /** Has every change that a call makes. */
  readonly audit?: Audit;
  /** What calls that last take, of all namespaces. */
  readonly places: { readonly watches: Places; readonly lockWaiters: Places };
  /** As `Sessions` calls it. */
  readonly onTouchSpared?: () => void;
}

/**
 * Leads each call to its caller's namespace. Handlers reach the domain by this way alone, and no
 * request has a part in it, so none can reach what belongs to another namespace.
 */
export class Namespaces {
  readonly #options: NamespacesOptions;
  readonly #watchPlaces: Places;
  readonly #lockPlaces: Places;
  /** By name, the one that was used last at the end. */
  readonly #remembered = new Map<string, Namespace>();
  #newest: string | undefined;

  constructor(options: NamespacesOptions) {
    this.#options = options;
    this.#watchPlaces = options.places.watches;
    this.#lockPlaces = options.places.lockWaiters;
  }

  /** The namespace of the call's caller. Throws an Error for a call that nobody has admitted. */
  of(values: ContextValues): Namespace {
    const caller = values.get(callerKey);
    if (caller === undefined) throw new Error("a call reached its handler without a caller");
    const name = caller.namespace;
    const known = this.#remembered.get(name);
    if (known !== undefined && name === this.#newest) return known;
    const namespace = known ?? this.#make(name);
    this.#remembered.delete(name);
    this.#remembered.set(name, namespace);
    this.#newest = name;
    if (this.#remembered.size > MAX_REMEMBERED) this.#forgetOne();
    return namespace;
  }

  /** The sessions of the caller's namespace, whose changes are the caller's. */
  sessionsOf({ values, requestHeader: header }: HandlerContext): Sessions {
    const { sessions } = this.of(values);
    return sessions.by(new CallAuthor({ values, header }, this.#options.audit));
  }

  /** The number of open watches. */
  get watches(): number {
    return this.#watchPlaces.taken;
  }

  /** How far behind the slowest of the open watches may be, in ms; 0 without any. */
  get watchLagMs(): number {
    const lags = [...this.#remembered.values()].map(({ sessions }) => sessions.watchLagMs);
    return Math.max(0, ...lags);
  }

  /** The number of calls that wait for a lock. */
  get waitingForLocks(): number {
    return this.#lockPlaces.taken;
  }

  /** Fails the calls that wait for locks, and releases locks whose callers have left. */
  async close(): Promise<void> {
    await Promise.all([...this.#remembered.values()].map(({ locks }) => locks.close()));
  }

  #make(namespace: string): Namespace {
    const { stores, keyring, sessionPolicy: policy, rateLimits: policies } = this.#options;
    const { sessions: store } = stores;
    const { onTouchSpared = () => {} } = this.#options;
    const watchPlaces = this.#watchPlaces;
    return {
      sessions: new Sessions({ store, keyring, policy, namespace, watchPlaces, onTouchSpared }),
      locks: new Locks({ store: stores.locks, namespace, places: this.#lockPlaces }),
      rateLimits: new RateLimits({ store: stores.rateLimits, namespace, policies }),
    };
  }

  /**
   * Forgets the namespace that has not been used for the longest time and has no pending lock call
   * and no watch. The places bound how many cannot be forgotten.
   */
  #forgetOne(): void {
    for (const [name, { locks, sessions }] of this.#remembered) {
      if (name === this.#newest || !locks.isIdle || sessions.watches > 0) continue;
      this.#remembered.delete(name);
      // It is idle, so this only ends its subscription to releases.
      void locks.close();
      return;
    }
  }
}
