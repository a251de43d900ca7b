/** At most `limit` in any period of `windowMs`. */
export interface RateLimitWindow {
  /** A whole number from 1 to `RATE_LIMIT_BOUNDS.limit`. */
  readonly limit: number;
  /** Whole and positive. */
  readonly windowMs: number;
}

/** The state of a key. */
export interface RateLimitState {
  /** Whether the attempt is allowed, or would be. */
  readonly isAllowed: boolean;
  /** The window with the least cost left, the longest of several: report this to the caller. */
  readonly window: RateLimitWindow;
  /** The cost left in that window, after this attempt if it was counted. */
  readonly remaining: number;
  /**
   * How long until all windows would allow an attempt of this cost, if nothing else happens.
   * Rounded up to whole ms, 0 if it is allowed.
   */
  readonly retryAfterMs: number;
  /** When nothing counts in that window any more, by the store's clock. Now if nothing counts. */
  readonly resetTimeMs: number;
}

/** An attempt to count. */
export interface RateLimitAttempt {
  /** A whole number from 1 to the smallest limit of the windows. */
  readonly cost: number;
  /** Whether the attempt counts even if it is refused. */
  readonly countRefused: boolean;
}

/**
 * Counts attempts. These comments are the contract; the suite in
 * `testing/describe-rate-limit-store.ts` holds every store to it.
 *
 * - Exact: in any period as long as a window, the allowed attempts cost at most its limit. An
 *   attempt at time t counts from t on, and no more at t + windowMs. An attempt with room is never
 *   refused.
 * - The store's clock decides. For a key it never goes back: if the clock was set back, the key's
 *   time stands still at its newest attempt.
 * - Every method is one atomic step. All may throw STORE_UNAVAILABLE: the caller then does not know
 *   whether the attempt was counted.
 * - The largest limit of its windows bounds the memory of a key. The memory is freed once nothing
 *   counts any more.
 */
export interface RateLimitStore {
  /**
   * The counts of a namespace, which have nothing to do with counts of the same keys elsewhere, as
   * `SessionStore.namespace` says.
   */
  namespace(name: string): RateLimitStore;

  /**
   * Counts an attempt of `cost` if every window has room for it, and answers whether it had. With
   * `countRefused` a refused attempt counts too. Throws OVERLOADED if the store is full.
   */
  check(
    key: string,
    windows: readonly RateLimitWindow[],
    attempt: RateLimitAttempt,
  ): Promise<RateLimitState>;

  /** The answer of `check`, without counting. */
  get(key: string, windows: readonly RateLimitWindow[], cost: number): Promise<RateLimitState>;

  /** Forgets a key. */
  reset(key: string): Promise<void>;
}
