import type { RateLimitState, RateLimitWindow } from "./rate-limit-store.js";

/** The state of a key in one of its windows. */
export interface WindowStanding {
  readonly window: RateLimitWindow;
  /** The cost that counts. Exceeds the limit if refused attempts count too. */
  readonly used: number;
  /** How long until the requested attempt has room in the window. */
  readonly retryAfterMs: number;
  readonly resetTimeMs: number;
}

/** Sums up the state of a key in its windows, at least one. */
export function summarize(
  isAllowed: boolean,
  standings: readonly WindowStanding[],
): RateLimitState {
  const [first, ...others] = standings;
  if (first === undefined) throw new RangeError("expected at least one window");
  const tightest = others.reduce((a, b) => (isTighter(b, a) ? b : a), first);
  return {
    isAllowed,
    window: tightest.window,
    remaining: remainingIn(tightest),
    retryAfterMs: isAllowed ? 0 : Math.max(...standings.map(({ retryAfterMs }) => retryAfterMs)),
    resetTimeMs: tightest.resetTimeMs,
  };
}

function isTighter(a: WindowStanding, b: WindowStanding): boolean {
  const difference = remainingIn(a) - remainingIn(b);
  return difference < 0 || (difference === 0 && a.window.windowMs > b.window.windowMs);
}

function remainingIn({ window, used }: WindowStanding): number {
  return Math.max(0, window.limit - used);
}
