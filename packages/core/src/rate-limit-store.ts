/** At most `limit` in any stretch of time that is `windowMs` long. */
export interface RateLimitWindow {
  readonly limit: number;
  readonly windowMs: number;
}

/** Where a key stands. */
export interface RateLimitState {
  /** Whether an attempt of the cost asked for is, or would be, allowed. */
  readonly isAllowed: boolean;
  /** The window that leaves least: the one to tell the caller of. */
  readonly window: RateLimitWindow;
  /** How much cost is left in that window, after this attempt if it was counted. */
  readonly remaining: number;
  /** How long until an attempt of this cost would be allowed, in ms; 0 if it is now. */
  readonly retryAfterMs: number;
  /** When that window will be as if nothing had been counted, by the store's clock. */
  readonly resetTimeMs: number;
}

/**
 * Counts attempts. These comments are the contract; one suite holds every store to it.
 *
 * Exact: over any stretch of time that is as long as a window, the attempts
 * that were allowed cost no more than its limit. An attempt at time t counts in
 * the stretch from t on, and no more at t + windowMs. Time is the store's. Every
 * method is one atomic step. All may throw STORE_UNAVAILABLE; whether an
 * attempt was counted is then not known.
 */
export interface RateLimitStore {
  /**
   * Counts an attempt of `cost` if every window has room for it, and says whether
   * it had. With `countRefused` one that is refused counts as well: whoever goes on
   * trying stays out. A key is forgotten by itself once nothing of it counts.
   */
  check(
    key: string,
    windows: readonly RateLimitWindow[],
    options: { readonly cost: number; readonly countRefused: boolean },
  ): Promise<RateLimitState>;

  /** What `check` would say, counting nothing. */
  get(key: string, windows: readonly RateLimitWindow[], cost: number): Promise<RateLimitState>;

  /** Forgets a key. */
  reset(key: string): Promise<void>;
}
