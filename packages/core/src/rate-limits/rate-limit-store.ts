/** At most `limit` in any stretch of time that is `windowMs` long. */
export interface RateLimitWindow {
  /** A whole number from 1 to `RATE_LIMIT_BOUNDS.limit`. */
  readonly limit: number;
  /** Whole and positive. */
  readonly windowMs: number;
}

/** Where a key stands. */
export interface RateLimitState {
  /** Whether an attempt of the cost asked for is, or would be, allowed. */
  readonly isAllowed: boolean;
  /** The window that leaves least, of several the longest: the one to tell the caller of. */
  readonly window: RateLimitWindow;
  /** How much cost is left in that window, after this attempt if it was counted. */
  readonly remaining: number;
  /**
   * How long until an attempt of this cost would be allowed, by all windows, if
   * nothing else happens: rounded up to whole ms, 0 where it is allowed.
   */
  readonly retryAfterMs: number;
  /**
   * When that window will be as if nothing had been counted, by the store's clock;
   * now where nothing counts.
   */
  readonly resetTimeMs: number;
}

/** What is asked of a store when an attempt is made. */
export interface RateLimitAttempt {
  /** A whole number from 1 to the least limit of the windows. */
  readonly cost: number;
  /** Whether the attempt counts also where it is refused. */
  readonly countRefused: boolean;
}

/**
 * Counts attempts. These comments are the contract; the suite in
 * `testing/describe-rate-limit-store.ts` holds every store to it.
 *
 * - Exact: over any stretch of time that is as long as a window, the attempts
 *   that were allowed cost no more than its limit. An attempt at time t counts in
 *   the stretch from t on, and no more at t + windowMs. None is refused that has room.
 * - Time is the store's. For a key it never goes back: where the clock was set
 *   back it stands still, until it is later again than the key's newest attempt.
 * - Every method is one atomic step. All may throw STORE_UNAVAILABLE; whether an
 *   attempt was counted is then not known.
 * - What a key takes is bounded by the greatest limit of its windows, and gone by
 *   itself once nothing of it counts.
 */
export interface RateLimitStore {
  /**
   * Counts an attempt of `cost` if every window has room for it, and says whether
   * it had. With `countRefused` one that is refused counts as well: whoever goes on
   * trying stays out. Throws OVERLOADED where the store is full.
   */
  check(
    key: string,
    windows: readonly RateLimitWindow[],
    attempt: RateLimitAttempt,
  ): Promise<RateLimitState>;

  /** What `check` would say, counting nothing. */
  get(key: string, windows: readonly RateLimitWindow[], cost: number): Promise<RateLimitState>;

  /** Forgets a key. */
  reset(key: string): Promise<void>;
}
